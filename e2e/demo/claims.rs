//! The claims that the demo checks, and the result of each check.

use std::collections::BTreeMap;

use crate::screen::Screen;

/// Width of the first column of the table, in characters; no sentence is longer.
const COLUMN: usize = 62;

/// A sentence that the demo checks, in the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Claim {
    /// Alice has no access before her request.
    NoAccessBefore,
    /// The API server fills in the requester.
    RequesterIsFilledIn,
    /// The access starts in time.
    AccessComesAtOnce,
    /// Alice has the access while the grant is active.
    AccessDuring,
    /// The access contains nothing that was not granted.
    NothingBeyond,
    /// The operator ends the access on time.
    EndsOnTime,
    /// Alice has no access after the end.
    NoAccessAfter,
    /// The policy limits what Alice can get.
    TooMuchIsRefused,
    /// A guard denies a forged requester.
    ForgeryIsRefused,
    /// A guard denies persistence: objects that would outlast the access.
    PersistenceIsRefused,
    /// The Events tell the transitions.
    EventsTellIt,
    /// No artifact is left.
    NothingIsLeft,
    /// A request under the path `Manual` waits for approvers.
    PeopleAreAwaited,
    /// The requester's own approval does not count.
    SelfApprovalIsIgnored,
    /// The access starts after the approvals of both stages, not before.
    TwoApprove,
    /// One Revoke ends the access early.
    OneRevokes,
    /// The fuse ends the access while no operator runs.
    EndsWithCurfewDead,
    /// The next operator records that end.
    RecordedAfterwards,
    /// The demo removes everything that it created.
    LeavesNoTrace,
}

impl Claim {
    /// All claims, in the order of the table.
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
        Self::PersistenceIsRefused,
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
            Self::NoAccessBefore => "before her request, alice may not list pods",
            Self::RequesterIsFilledIn => "the API server itself records who asks",
            Self::AccessComesAtOnce => "the access starts within 2 s",
            Self::AccessDuring => "with the grant, alice may list pods",
            Self::NothingBeyond => "alice may not delete pods: she has only what was granted",
            Self::EndsOnTime => "the access ends on time: never early, at most 2 s late",
            Self::NoAccessAfter => "after the end, alice may not list pods any more",
            Self::TooMuchIsRefused => "a request for too much is denied, and the denial says why",
            Self::ForgeryIsRefused => "nobody can ask in the name of someone else",
            Self::PersistenceIsRefused => "temporary access cannot create lasting access",
            Self::EventsTellIt => "the Events of the grant say when access started and ended",
            Self::NothingIsLeft => "no Job, Role or RoleBinding is left, only the record",
            Self::PeopleAreAwaited => "in production nobody has access before people approve",
            Self::SelfApprovalIsIgnored => "nobody can approve their own request",
            Self::TwoApprove => "after two people approve, alice has the access",
            Self::OneRevokes => "one person can revoke it, and the record says who and why",
            Self::EndsWithCurfewDead => "with Curfew dead, the access still ends, at most 5 s late",
            Self::RecordedAfterwards => "when Curfew is back, it records that end",
            Self::LeavesNoTrace => "the demo leaves everything as it was",
        }
    }
}

/// Result of each claim that was checked: whether it is true, and what the demo observed.
#[derive(Debug, Default)]
pub struct Claims(BTreeMap<Claim, (bool, String)>);

impl Claims {
    /// Records the result of a claim and prints it at once.
    pub fn judge(&mut self, screen: &mut Screen, claim: Claim, proven: bool, observed: &str) {
        screen.verdict(proven, claim.sentence(), observed);
        self.0.insert(claim, (proven, observed.to_owned()));
    }

    /// Whether every claim was checked and is true.
    pub fn all_held(&self) -> bool {
        Claim::ALL
            .iter()
            .all(|claim| self.0.get(claim).is_some_and(|(proven, _)| *proven))
    }

    /// Prints the table of all claims. Prints nothing if the demo stopped before the first claim.
    pub fn show(&self, screen: &mut Screen) {
        if self.0.is_empty() {
            return;
        }
        screen.heading("Summary");
        screen.say(&format!("{:COLUMN$}  {}", "claim", "observed"));
        for claim in Claim::ALL {
            let (proven, observed) = match self.0.get(&claim) {
                Some((proven, observed)) => (Some(*proven), observed.as_str()),
                None => (None, "not checked"),
            };
            screen.row(proven, &format!("{:COLUMN$}  {observed}", claim.sentence()));
        }
        screen.blank();
    }
}
