//! Texts about missing approvals.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::{ApprovalRecord, Principal, PrincipalKind};
use crate::core::decision::records::MissingApprovals;
use crate::core::plan::limits::several;
use crate::core::testing::at;

const UNTIL: &str = "2026-12-01T09:00:00Z";

fn approval(username: &str, stage: &str, void: Option<&str>) -> ApprovalRecord {
    ApprovalRecord {
        stage: stage.to_owned(),
        username: username.to_owned(),
        approver: Principal {
            kind: PrincipalKind::Group,
            name: stage.to_owned(),
            namespace: None,
        },
        access_hash: String::new(),
        decision: username.to_owned(),
        decision_uid: username.to_owned(),
        decided_at: Time(at(UNTIL)),
        void: void.map(str::to_owned),
    }
}

#[test]
fn missing_approvals_come_first_then_counted_then_void_ones() {
    let missing = MissingApprovals {
        stage: "security".to_owned(),
        counted: 1,
        required: 2,
    };
    let asked = format!("1 of 2 from security, until {UNTIL}");
    let bob = approval("bob", "team", None);
    let dave = approval("dave", "security", None);
    let void = approval(
        "erin",
        "security",
        Some("the access has changed since the approval"),
    );
    let of_erin = "erin's approval is void: the access has changed since the approval";
    for (approvals, expected) in [
        (vec![], asked.clone()),
        (
            vec![bob.clone(), dave.clone()],
            format!("{asked}; approved by bob (team), dave (security)"),
        ),
        (vec![void.clone()], format!("{asked}; {of_erin}")),
        (
            vec![bob, void.clone(), dave],
            format!("{asked}; approved by bob (team), dave (security); {of_erin}"),
        ),
        (vec![void.clone(), void.clone()], format!("{asked}; {of_erin}")),
        (
            vec![void, approval("erin", "security", None)],
            format!("{asked}; approved by erin (security)"),
        ),
    ] {
        assert_eq!(missing.message(at(UNTIL), &approvals), expected);
    }
}

#[test]
fn several_uses_the_singular_for_one() {
    assert_eq!(several(1, "live grant"), "1 live grant");
    assert_eq!(several(2, "live grant"), "2 live grants");
}
