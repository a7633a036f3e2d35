use jiff::Timestamp;
use serde_json::json;

use crate::api::{Reference, RevocationCause, RoleKind, reasons};
use crate::core::grant::event::EventText;
use crate::core::grant::revocation::DueRevocation;
use crate::core::grant::transition::Transition;
use crate::core::testing::{Situation, at, grant, now, policy, roles, seconds};

fn denied(message: &str) -> Transition {
    Transition::Denied {
        reason: reasons::DURATION_TOO_LONG,
        message: message.to_owned(),
    }
}

fn activated() -> Transition {
    active().told.first().cloned().unwrap()
}

fn ended(cause: RevocationCause, was_active: bool) -> Transition {
    Transition::Ended(DueRevocation {
        cause,
        message: "someone did something".to_owned(),
        by: None,
        due: now(),
        was_active,
    })
}

fn active() -> Situation {
    let mut asked = grant("pay-123").asking_for(&["look", "exec"]);
    asked.spec.references = vec![Reference {
        kind: "Ticket".to_owned(),
        id: "PAY-123".to_owned(),
    }];
    Situation::of(asked, &policy()).pass()
}

fn soon() -> Timestamp {
    now().checked_add(seconds(2)).unwrap()
}

#[test]
fn each_transition_has_one_event() {
    let grant = grant("pay-123");
    let until = "user alice@example.com has look (ClusterRole view), exec until 2026-12-01T09:30:00Z";
    let over = "someone did something; proven absent 2000 ms later";
    for (announcement, transition, warning, reason, action, note) in [
        (
            Transition::Held {
                message: "no guards".to_owned(),
            },
            "held",
            true,
            "GuardsNotInForce",
            "Hold",
            "no guards",
        ),
        (denied("too long"), "denied", true, "Denied", "Deny", "too long"),
        (activated(), "activated", false, "Active", "Activate", until),
        (
            ended(RevocationCause::DeadlineReached, true),
            "ended",
            false,
            "Expired",
            "Revoke",
            "the access ended 2000 ms after its time",
        ),
        (
            ended(RevocationCause::RoleChanged, true),
            "ended",
            true,
            "Revoked",
            "Revoke",
            over,
        ),
        (
            ended(RevocationCause::RefusedByApiServer, false),
            "ended",
            true,
            "Failed",
            "Revoke",
            over,
        ),
    ] {
        assert_eq!(
            announcement.event(&grant, soon()),
            EventText {
                name: format!("pay-123.uid-of-pay-123.{transition}"),
                warning,
                reason,
                action,
                note: note.to_owned(),
            }
        );
    }
}

#[test]
fn a_repeated_event_has_the_same_name_and_a_new_grant_another() {
    let tells = [
        denied("x"),
        activated(),
        ended(RevocationCause::GrantDeleted, true),
    ];
    let mut again = grant("pay-123");
    again.metadata.uid = Some("another".to_owned());
    let mut names = Vec::new();
    for announcement in &tells {
        let name = announcement.event(&grant("pay-123"), now()).name;
        assert_eq!(announcement.event(&active().grant, soon()).name, name);
        names.extend([name, announcement.event(&again, now()).name]);
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 6);
}

#[test]
fn event_names_of_the_longest_grant_names_are_valid() {
    let mut longest = grant(&"g".repeat(63));
    longest.metadata.uid = Some("5f0a3c1e-7a52-4a06-9d5c-0123456789ab".to_owned());
    for announcement in [
        denied("x"),
        activated(),
        ended(RevocationCause::GrantDeleted, true),
    ] {
        let name = announcement.event(&longest, now()).name;
        assert!(name.len() <= 253, "{name}");
        assert!(
            name.bytes()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.')),
            "{name}"
        );
    }
}

#[test]
fn event_notes_are_cut_at_whole_characters_to_1024_bytes() {
    let note = |message: &str| denied(message).event(&grant("g"), now()).note;
    for (message, expected) in [
        ("a".repeat(1024), "a".repeat(1024)),
        ("a".repeat(1025), format!("{}…", "a".repeat(1021))),
        // Two bytes each: 1021 bytes are no whole number of them.
        ("ü".repeat(512), "ü".repeat(512)),
        ("ü".repeat(513), format!("{}…", "ü".repeat(510))),
        ("🔥".repeat(257), format!("{}…", "🔥".repeat(255))),
        (
            format!("a{}", "🔥".repeat(256)),
            format!("a{}…", "🔥".repeat(255)),
        ),
    ] {
        let note = note(&message);
        assert_eq!(note, expected);
        assert!(note.len() <= 1024, "{} bytes", note.len());
    }
}

#[test]
fn the_audit_record_of_an_activation_is_complete() {
    let active = active();
    let access = active.grant.at_present().resolved.unwrap();
    let record = activated().audit(&active.grant, soon());
    assert_eq!(
        serde_json::to_value(record).unwrap(),
        json!({
            "time": "2026-12-01T09:00:02Z",
            "state": "Active",
            "reason": "PolicySatisfied",
            "message": "user alice@example.com has look (ClusterRole view), exec until 2026-12-01T09:30:00Z",
            "namespace": "prod",
            "grant": "pay-123",
            "uid": "uid-of-pay-123",
            "policy": "prod-debug",
            "requester": {"username": "alice@example.com", "groups": ["payments-devs", "system:authenticated"]},
            "subject": {"kind": "User", "name": "alice@example.com"},
            "purpose": "PAY-123 checkout returns 500",
            "references": [{"type": "Ticket", "id": "PAY-123"}],
            "accessHash": access.hash,
            "entitlements": ["look (ClusterRole view)", "exec"],
            // With the role's rules; the grant records only their hash.
            "access": [
                {
                    "name": "look",
                    "role": {
                        "kind": "ClusterRole", "name": "view", "uid": "uid-of-view",
                        "rulesHash": roles()[&(RoleKind::ClusterRole, "view".to_owned())].rules_hash(),
                    },
                    "rules": [{"apiGroups": [""], "resources": ["pods", "services"], "verbs": ["get", "list", "watch"]}],
                },
                {
                    "name": "exec",
                    "rules": [{"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create"]}],
                },
            ],
            "artifacts": [
                "Job/curfew-49dba82a029a4e89ad94f585403ddf58",
                "RoleBinding/curfew-49dba82a029a4e89ad94f585403ddf58",
                "Job/curfew-35afead27ce01937e44201d4c93e8640",
                "Role/curfew-35afead27ce01937e44201d4c93e8640",
                "RoleBinding/curfew-35afead27ce01937e44201d4c93e8640",
            ],
            "expiresAt": "2026-12-01T09:30:00Z",
        })
    );
}

#[test]
fn the_audit_record_of_a_denial_has_the_whole_message() {
    let long = "x".repeat(5000);
    let record = denied(&long).audit(&grant("pay-123"), now());
    assert_eq!(
        serde_json::to_value(record).unwrap(),
        json!({
            "time": "2026-12-01T09:00:00Z",
            "state": "Denied",
            "reason": "DurationTooLong",
            // The whole message: only Events are cut.
            "message": long,
            "namespace": "prod",
            "grant": "pay-123",
            "uid": "uid-of-pay-123",
            "policy": "prod-debug",
            "requester": {"username": "alice@example.com", "groups": ["payments-devs", "system:authenticated"]},
            "purpose": "PAY-123 checkout returns 500",
        })
    );
}

#[test]
fn the_audit_record_of_an_end_has_the_lag() {
    for (cause, state) in [
        (RevocationCause::DeadlineReached, "Expired"),
        (RevocationCause::PolicyDeleted, "Revoked"),
    ] {
        let record = ended(cause, true).audit(&active().grant, at("2026-12-01T09:00:01.234Z"));
        assert_eq!((record.state, record.lag_milliseconds), (state, Some(1234)));
        assert_eq!(record.reason, format!("{cause:?}"));
        assert_eq!(record.expires_at, Some(at("2026-12-01T09:30:00Z")));
    }
}
