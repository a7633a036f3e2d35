use super::*;
use crate::api::ArtifactKind;
use crate::checks::golden::{assert_golden, shape};
use crate::core::artifact::key::ArtifactKey;

fn report() -> DrainReport {
    DrainReport::new(false, "2026-01-01T12:00:00Z".parse().unwrap())
}

fn grant(name: &str, finalizers: &[&str]) -> DrainedGrant {
    DrainedGrant {
        namespace: "prod".to_owned(),
        name: name.to_owned(),
        uid: format!("uid of {name}"),
        resource_version: None,
        ends: None,
        over: false,
        deleting: true,
        finalizers: finalizers.iter().map(|&finalizer| finalizer.to_owned()).collect(),
        by: "alice".to_owned(),
    }
}

fn last_line(report: &mut DrainReport) -> String {
    report.drained = report.failure().is_none() && !report.dry_run;
    report.summary.deleted = report.count(&GONE);
    report.summary.left = report.count(&[DrainAction::Left]);
    report.table().lines().last().unwrap().to_owned()
}

#[test]
fn a_left_object_fails_the_drain_until_a_full_round_misses_it() {
    let mut report = report();
    let held = grant("held", &["access.curfew.dev/revoke"]);
    report.looks_again();
    report.add(DrainItem::of_grant(&held, DrainAction::Left, "waits"));
    report.looked();
    assert_eq!(report.failure().unwrap(), "AccessGrant prod/held: waits");
    assert!(report.waits_for_operator());

    report.looks_again();
    report.unread(&Error::NoServerTime);
    report.looked();
    assert!(
        report.failure().unwrap().contains("AccessGrant prod/held"),
        "nobody has looked"
    );
    // A look that was broken off.
    report.looks_again();
    assert!(report.failure().is_some());

    report.looks_again();
    report.looked();
    assert_eq!(report.failure(), None);
    assert!(!report.waits_for_operator());
    assert_eq!(last_line(&mut report), "1 gone, nothing is left; 0 records kept");
}

#[test]
fn the_first_left_objects_and_the_new_requesters_are_named() {
    let mut report = report();
    for number in 0..LEFT_NAMED + 2 {
        report.add(DrainItem::of_grant(
            &grant(&format!("g{number}"), &[]),
            DrainAction::Left,
            "why",
        ));
    }
    report.new_requests(&BTreeMap::from([("robot (kept by Flux)".to_owned(), 3)]));
    report.unfinished("its 5m were over".to_owned());
    let failure = report.failure().unwrap();
    assert!(
        failure.starts_with("its 5m were over; AccessGrant prod/g0: why; "),
        "{failure}"
    );
    assert!(
        failure.ends_with("prod/g9: why; and 2 more; asked for access meanwhile: robot (kept by Flux) (3)"),
        "{failure}"
    );
    assert_eq!(
        last_line(&mut report),
        "0 gone, 12 left, not drained; 0 records kept; asked for access meanwhile: robot (kept by Flux) (3)"
    );
}

#[test]
fn a_dry_run_succeeds_if_everything_could_be_read() {
    let mut report = DrainReport::new(true, "2026-01-01T12:00:00Z".parse().unwrap());
    let draining = Draining {
        grants: vec![grant("one", &[])],
        waiting: vec![grant("held", &["example.com/mine"])],
        ..Draining::default()
    };
    report.would_delete(&draining);
    assert_eq!(report.failure(), None);
    assert_eq!(report.count(&[DrainAction::WouldDelete]), 2);
    report.unread(&Error::NoServerTime);
    assert!(report.failure().is_some());
}

/// Scripts read the keys and the values that are not prose.
#[test]
fn golden_drain_report_is_unchanged() {
    let mut report = report();
    report.looks_again();
    let actions = [
        DrainAction::Deleted,
        DrainAction::Freed,
        DrainAction::AlreadyGone,
        DrainAction::LetGo,
        DrainAction::WouldDelete,
        DrainAction::Left,
    ];
    for (number, action) in (0..).zip(actions) {
        report.add(DrainItem::of_grant(
            &grant(&format!("g{number}"), &[]),
            action,
            "",
        ));
    }
    let held = grant("held", &["access.curfew.dev/revoke"]);
    report.add(DrainItem::of_grant(&held, DrainAction::Left, "waits"));
    for kind in [ArtifactKind::RoleBinding, ArtifactKind::Role, ArtifactKind::Job] {
        let artifact = LabelledObject {
            key: ArtifactKey {
                kind,
                namespace: "prod".to_owned(),
                name: "curfew-1".to_owned(),
            },
            uid: format!("uid of {kind:?}"),
            resource_version: None,
            grant_uid: "grant".to_owned(),
            not_after: None,
            finalizers: Vec::new(),
        };
        report.add(DrainItem::of_made(&artifact, DrainAction::Deleted, ""));
    }
    report.new_requests(&BTreeMap::from([("robot (kept by Flux)".to_owned(), 3)]));
    report.unfinished("its 5m were over".to_owned());
    report.unread(&Error::NoServerTime);
    report.heard_the_operator(Ok(None));
    report.records(2);
    report.sum_up();
    let failed = serde_json::to_value(&report).unwrap();

    let mut report = DrainReport::new(true, "2026-01-01T12:00:00Z".parse().unwrap());
    report.sum_up();
    let empty = serde_json::to_value(&report).unwrap();
    let prose = ["reason", "errors", "unfinished", "operator", "by"];
    let both = serde_json::json!({"failed": failed, "dry run, nothing found": empty});
    assert_golden("drain-report.json", &shape(both, &prose));
}
