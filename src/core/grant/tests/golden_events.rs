//! Golden file `tests/golden/events.txt`: words of Events, audit records and conditions that users and tools depend on.
//! `CURFEW_GOLDEN=write` rewrites the file.

use std::fmt::Write as _;

use crate::api::{DecisionKind, GrantState, RevocationCause, reasons};
use crate::core::audit::record::AuditRecord;
use crate::core::decision::Decision;
use crate::core::decision::verdict::{DecisionVerdict, Verdict};
use crate::core::grant::event::EventText;
use crate::core::grant::revocation::DueRevocation;
use crate::core::grant::transition::Transition;
use crate::core::testing::{Situation, grant, now, policy};

/// One decision of each standing.
fn verdicts() -> [Transition; 3] {
    [
        Verdict::counted("m"),
        Verdict::ignored(reasons::SELF_DECISION, "m"),
        Verdict::waiting("m"),
    ]
    .map(|verdict| {
        let decision = Situation::of(grant("g"), &policy())
            .decided(DecisionKind::Approve, "bob@example.com", "leads")
            .decisions
            .first()
            .cloned()
            .unwrap();
        Transition::Judged(Box::new(DecisionVerdict {
            decision: Decision {
                name: "d".to_owned(),
                uid: "decision-uid".to_owned(),
                ..decision
            },
            verdict,
        }))
    })
}

/// Every kind of announcement, and every way in which access ends.
fn all() -> Vec<Transition> {
    let message = || "m".to_owned();
    let unfused = |reason, given| Transition::Unfused {
        reason,
        message: message(),
        given,
    };
    let mut all = vec![
        Transition::Held { message: message() },
        Transition::Denied {
            reason: reasons::DURATION_TOO_LONG,
            message: message(),
        },
        Transition::Awaiting {
            step: "0-0".to_owned(),
            message: message(),
        },
        Transition::Scheduled {
            step: "0".to_owned(),
            message: message(),
        },
        Transition::Activated {
            subject: None,
            access: Vec::new(),
            expires_at: now(),
        },
        unfused(reasons::FUSE_NOT_STARTED, true),
        unfused(reasons::FUSE_SUSPENDED, true),
        unfused(reasons::FUSE_LATE, true),
        unfused(reasons::FUSE_REFUSED, false),
    ];
    all.extend(verdicts());
    for cause in RevocationCause::ALL {
        for was_active in [true, false] {
            all.push(Transition::Ended(DueRevocation {
                cause,
                message: message(),
                by: None,
                due: now(),
                was_active,
            }));
        }
    }
    all
}

fn line(kind: &str, name: &str, text: &EventText, audit: &AuditRecord) -> String {
    let type_ = if text.warning { "Warning" } else { "Normal" };
    format!(
        "{kind} {type_} reason={} action={} name={name} audit={}/{}\n",
        text.reason, text.action, audit.state, audit.reason
    )
}

/// The values of the constants in one module of `api/condition.rs`, in their order.
fn constants(source: &str, module: &str) -> String {
    let start = source.find(&format!("pub mod {module} {{")).unwrap();
    let body = &source[start..];
    body[..body.find("\n}").unwrap()]
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub const "))
        .filter_map(|line| line.split('"').nth(1))
        .fold(String::new(), |text, value| text + module + " " + value + "\n")
}

#[test]
fn golden_events_audit_states_and_conditions_are_unchanged() {
    let grant = grant("g");
    let mut lines = String::new();
    for announcement in all() {
        let audit = announcement.audit(&grant, now());
        let text = announcement.event(&grant, now());
        let name = text
            .name
            .replace("uid-of-g", "GRANT_UID")
            .replace("decision-uid", "DECISION_UID");
        lines += &line("grant", &name, &text, &audit);
        if let Some((_, text)) = announcement.event_of_decision(now()) {
            let name = text.name.replace("decision-uid", "DECISION_UID");
            lines += &line("decision", &name, &text, &audit);
        }
    }
    for state in GrantState::ALL {
        writeln!(lines, "state {}", state.as_str()).unwrap();
    }
    let root = env!("CARGO_MANIFEST_DIR");
    let source = std::fs::read_to_string(format!("{root}/src/api/condition.rs")).unwrap();
    for module in ["conditions", "reasons"] {
        let values = constants(&source, module);
        assert!(values.lines().count() > 8, "{module}: {values}");
        write!(lines, "{values}").unwrap();
    }
    let path = format!("{root}/tests/golden/events.txt");
    if std::env::var("CURFEW_GOLDEN").as_deref() == Ok("write") {
        std::fs::write(&path, &lines).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), lines, "see {path}");
}
