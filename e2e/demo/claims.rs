//! What the demo sets out to show, and whether it held.

use std::collections::BTreeMap;

use crate::screen::Screen;

/// Width to which a sentence of the table is broken.
const COLUMN: usize = 62;

/// One claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Claim {
    /// Before.
    NoAccessBefore,
    /// Identity.
    RequesterIsFilledIn,
    /// Activation.
    AccessComesAtOnce,
    /// During.
    AccessDuring,
    /// Least privilege.
    NothingBeyond,
    /// Revocation.
    EndsOnTime,
    /// After.
    NoAccessAfter,
    /// Policy.
    TooMuchIsRefused,
    /// Forgery.
    ForgeryIsRefused,
    /// Souvenirs.
    SouvenirIsRefused,
    /// Events.
    EventsTellIt,
    /// Artifacts.
    NothingIsLeft,
    /// Approval.
    PeopleAreAwaited,
    /// Four eyes.
    SelfApprovalIsIgnored,
    /// Stages.
    TwoApprove,
    /// Ending it early.
    OneRevokes,
    /// The fuse.
    EndsWithCurfewDead,
    /// The record.
    RecordedAfterwards,
    /// The demo itself.
    LeavesNoTrace,
}

impl Claim {
    /// All of them, in the order in which they are shown.
    const ALL: [Self; 19] = [
        Self::NoAccessBefore,
        Self::RequesterIsFilledIn,
        Self::AccessComesAtOnce,
        Self::AccessDuring,
        Self::NothingBeyond,
        Self::EndsOnTime,
        Self::NoAccessAfter,
        Self::TooMuchIsRefused,
        Self::ForgeryIsRefused,
        Self::SouvenirIsRefused,
        Self::EventsTellIt,
        Self::NothingIsLeft,
        Self::PeopleAreAwaited,
        Self::SelfApprovalIsIgnored,
        Self::TwoApprove,
        Self::OneRevokes,
        Self::EndsWithCurfewDead,
        Self::RecordedAfterwards,
        Self::LeavesNoTrace,
    ];

    fn sentence(self) -> &'static str {
        match self {
            Self::NoAccessBefore => "before she asks, alice may not list pods",
            Self::RequesterIsFilledIn => "the API server itself writes down who asks",
            Self::AccessComesAtOnce => "the access is there within 2 s",
            Self::AccessDuring => "with the grant she may list pods",
            Self::NothingBeyond => "she may not delete them: only what was granted",
            Self::EndsOnTime => "the access ends on time: never early, at most 2 s late",
            Self::NoAccessAfter => "after that she may not list pods any more",
            Self::TooMuchIsRefused => "a request for too much is refused and says what is allowed",
            Self::ForgeryIsRefused => "nobody can ask in the name of somebody else",
            Self::SouvenirIsRefused => "access for a time makes nothing that outlasts it",
            Self::EventsTellIt => "the Events of the grant tell when access came and went",
            Self::NothingIsLeft => "no Job, Role or RoleBinding is left, only the record",
            Self::PeopleAreAwaited => "in production nothing is given before people approve",
            Self::SelfApprovalIsIgnored => "nobody approves their own request",
            Self::TwoApprove => "with the yes of two people she has the access",
            Self::OneRevokes => "one person ends it, and it says who and why",
            Self::EndsWithCurfewDead => "with Curfew dead it ends all the same, at most 5 s late",
            Self::RecordedAfterwards => "Curfew records that end when it is back",
            Self::LeavesNoTrace => "the demo leaves everything as it was",
        }
    }
}

/// What was seen of each claim so far.
#[derive(Debug, Default)]
pub struct Claims(BTreeMap<Claim, (bool, String)>);

impl Claims {
    /// Records whether a claim held, and says so at once.
    pub fn judge(&mut self, screen: &mut Screen, claim: Claim, held: bool, seen: &str) {
        screen.verdict(held, claim.sentence(), seen);
        self.0.insert(claim, (held, seen.to_owned()));
    }

    /// Whether every claim was reached and held.
    pub fn all_held(&self) -> bool {
        Claim::ALL
            .iter()
            .all(|claim| self.0.get(claim).is_some_and(|(held, _)| *held))
    }

    /// The table of all claims; none, if the demo did not get as far as the first.
    pub fn show(&self, screen: &mut Screen) {
        if self.0.is_empty() {
            return;
        }
        screen.heading("Summary");
        screen.say(&format!("{:COLUMN$}  {}", "what was claimed", "what was seen"));
        for claim in Claim::ALL {
            let (held, seen) = match self.0.get(&claim) {
                Some((held, seen)) => (Some(*held), seen.as_str()),
                None => (None, "not reached"),
            };
            screen.row(held, &format!("{:COLUMN$}  {seen}", claim.sentence()));
        }
        screen.blank();
    }
}
