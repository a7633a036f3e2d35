//! The claims of CONTRIBUTING.md, judged from the journal when a grant is over.

use std::collections::BTreeSet;

use anyhow::ensure;
use curfew::api::ArtifactKind;
use jiff::{SignedDuration, Timestamp};

use super::journal::{Journal, Piece, Tale};

/// How long access may outlast the moment it had to go, with an operator alive.
pub const PROMISE: SignedDuration = SignedDuration::from_secs(2);

/// What is asked of one grant that is over.
#[derive(Debug, Clone, Copy)]
pub struct Verdict<'a> {
    /// The grant.
    pub uid: &'a str,
    /// By when everything that gives access had to be gone.
    pub gone_by: Timestamp,
    /// Whether the test itself lets a write happen later than its author knows: then something can be made after the
    /// grant was over, and has to go within the promise.
    pub late_writes: bool,
}

impl Verdict<'_> {
    /// Fails with everything that did not hold.
    pub fn check(&self, journal: &Journal) -> anyhow::Result<()> {
        let (tale, pieces) = (journal.tale(self.uid), journal.pieces(self.uid));
        let mut wrong = Vec::new();
        recorded_before_made(&tale, &pieces, &mut wrong);
        never_two(&pieces, &mut wrong);
        self.gone_in_time(&pieces, &mut wrong);
        says_active_only_with_access(&tale, &pieces, &mut wrong);
        self.says_ended_only_without_access(&tale, &pieces, &mut wrong);
        kept_while_access_is_beyond_it(&tale, &pieces, &mut wrong);
        ended_stays_ended(&tale, &mut wrong);
        ensure!(wrong.is_empty(), "{}\n{tale:#?}\n{pieces:#?}", wrong.join("\n"));
        Ok(())
    }

    /// S2, and that nothing at all is left.
    fn gone_in_time(&self, pieces: &[Piece], wrong: &mut Vec<String>) {
        for piece in pieces {
            let Some(gone_at) = piece.gone_at else {
                wrong.push(format!("{} was left behind", called(piece)));
                continue;
            };
            let late = self.late_writes && piece.seen_at > self.gone_by;
            let by = if late {
                piece.seen_at + PROMISE
            } else {
                self.gone_by
            };
            if piece.kind != ArtifactKind::Job && gone_at > by {
                wrong.push(format!(
                    "{} was gone {} later than it had to be",
                    called(piece),
                    gone_at - by
                ));
            }
        }
    }

    /// S5: over means that nothing that gives access stands, and that nothing is made any more.
    fn says_ended_only_without_access(&self, tale: &Tale, pieces: &[Piece], wrong: &mut Vec<String>) {
        let Some(ended) = tale.versions.iter().find(|version| version.ended_at.is_some()) else {
            return;
        };
        for piece in pieces.iter().filter(|piece| piece.kind != ArtifactKind::Job) {
            let made_before = piece.made.is_none_or(|made| made < ended.revision);
            if made_before && piece.removed.is_some_and(|removed| removed > ended.revision) {
                wrong.push(format!(
                    "{} stood when the grant was said to be over",
                    called(piece)
                ));
            }
            if !made_before && !self.late_writes {
                wrong.push(format!("{} was made after the grant was over", called(piece)));
            }
        }
    }
}

/// S1: what gives access stands in the grant's status before it is made; a fuse that does not is alone.
fn recorded_before_made(tale: &Tale, pieces: &[Piece], wrong: &mut Vec<String>) {
    let recorded: BTreeSet<_> = tale.versions.iter().map(|version| &version.recorded).collect();
    if recorded.iter().filter(|recorded| !recorded.is_empty()).count() > 1 {
        wrong.push(format!("the recorded artifacts changed: {recorded:?}"));
    }
    for piece in pieces {
        let key = (piece.kind, piece.name.clone());
        let record = tale
            .versions
            .iter()
            .find(|version| version.recorded.contains(&key));
        match (piece.kind, record) {
            (ArtifactKind::Job, Some(_)) => {}
            (ArtifactKind::Job, None) => {
                if pieces
                    .iter()
                    .any(|other| other.name == piece.name && other.kind != ArtifactKind::Job)
                {
                    wrong.push(format!(
                        "{} holds something, and was never recorded",
                        called(piece)
                    ));
                }
            }
            (_, None) => wrong.push(format!("{} was never recorded", called(piece))),
            (_, Some(record)) => {
                if piece.made.is_some_and(|made| made < record.revision) {
                    wrong.push(format!("{} was made before it was recorded", called(piece)));
                }
            }
        }
    }
}

/// One binding for one entitlement; every test here asks for one.
fn never_two(pieces: &[Piece], wrong: &mut Vec<String>) {
    let bindings: Vec<_> = pieces
        .iter()
        .filter(|piece| piece.kind == ArtifactKind::RoleBinding)
        .collect();
    let names: BTreeSet<_> = bindings.iter().map(|binding| &binding.name).collect();
    if names.len() > 1 {
        wrong.push(format!("access was made more than once: {names:?}"));
    }
}

/// The state Active means that the binding stands.
fn says_active_only_with_access(tale: &Tale, pieces: &[Piece], wrong: &mut Vec<String>) {
    let Some(active) = tale.versions.iter().find(|version| version.active) else {
        return;
    };
    let stands = |piece: &&Piece| {
        piece.kind == ArtifactKind::RoleBinding
            && piece.made.is_none_or(|made| made < active.revision)
            && piece.removed.is_none_or(|removed| removed > active.revision)
    };
    if !pieces.iter().any(|piece| stands(&piece)) {
        wrong.push("it was said to be active while no binding stood".to_owned());
    }
}

/// S5: while something stands that gives access and that the grant cannot own, our finalizer keeps the grant.
fn kept_while_access_is_beyond_it(tale: &Tale, pieces: &[Piece], wrong: &mut Vec<String>) {
    let home = tale.called.split('/').next().unwrap_or_default();
    let kept = tale.versions.iter().find(|version| version.kept);
    let let_go = tale
        .versions
        .iter()
        .find(|version| !version.kept && kept.is_some_and(|kept| kept.revision < version.revision))
        .map(|version| version.revision)
        .or(tale.removed);
    let beyond = |piece: &&Piece| piece.kind != ArtifactKind::Job && piece.namespace != home;
    for piece in pieces.iter().filter(beyond) {
        if piece
            .made
            .is_some_and(|made| kept.is_none_or(|kept| kept.revision > made))
        {
            wrong.push(format!("{} was made before its grant was kept", called(piece)));
        }
        if let (Some(removed), Some(let_go)) = (piece.removed, let_go)
            && removed > let_go
        {
            wrong.push(format!("{} stood when its grant was let go", called(piece)));
        }
    }
}

/// S8.
fn ended_stays_ended(tale: &Tale, wrong: &mut Vec<String>) {
    let mut since = None;
    for version in &tale.versions {
        if since.is_some() && (version.active || version.ended_at != since) {
            wrong.push(format!("it was over since {since:?}, then {version:?}"));
        }
        since = since.or(version.ended_at);
    }
}

fn called(piece: &Piece) -> String {
    format!("{:?} {}", piece.kind, piece.name)
}
