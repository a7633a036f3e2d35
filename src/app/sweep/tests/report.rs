use super::*;
use crate::api::ArtifactKind;
use crate::checks::golden::{assert_golden, shape};
use crate::cluster::cleanup::sweep::Gone;
use crate::core::artifact::key::ArtifactKey;
use crate::core::cleanup::sweep::{LabelledObject, sweep};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn labelled(kind: ArtifactKind, name: &str, not_after: Option<&str>) -> LabelledObject {
    LabelledObject {
        key: ArtifactKey {
            kind,
            namespace: "prod".to_owned(),
            name: name.to_owned(),
        },
        uid: name.to_owned(),
        resource_version: Some("1".to_owned()),
        grant_uid: "grant".to_owned(),
        not_after: not_after.map(str::to_owned),
        finalizers: Vec::new(),
    }
}

fn at_noon(ahead: i64) -> SweepReport {
    let server = at("2026-01-01T12:00:00Z");
    let local = server + SignedDuration::from_secs(ahead);
    let mut report = SweepReport::new(false, local);
    report.told_the_time(Clocks {
        server,
        asked: local,
        answered: local,
    });
    report
}

fn found(report: &SweepReport, found: Vec<LabelledObject>) -> Sweeping {
    let grants = Grants::Listed(["grant".to_owned()].into());
    sweep(found, &grants, report.at, SignedDuration::from_secs(5))
}

fn overdue() -> LabelledObject {
    labelled(ArtifactKind::RoleBinding, "view", Some("2026-01-01T11:56:48Z"))
}

#[test]
fn a_table_has_a_line_for_each_object_and_a_summary() {
    let mut report = at_noon(0);
    let without_end = labelled(ArtifactKind::Role, "lookalike", None);
    let sweeping = found(&report, vec![overdue(), without_end]);
    report.add(SweepItem::outcome(&sweeping.access[0], Ok(Gone::Deleted)));
    report.found(&sweeping);
    report.sum_up();
    let lines: Vec<String> = report.table().lines().map(str::to_owned).collect();
    assert_eq!(
        lines[0],
        "NAMESPACE   KIND          NAME        ENDED-AGO   ACTION    REASON"
    );
    assert_eq!(
        lines[1],
        "prod        RoleBinding   view        3m12s       Removed   expired"
    );
    assert!(
        lines[2].starts_with(
            "prod        Role          lookalike   <unknown>   Kept      has no readable expiry"
        ),
        "{}",
        lines[2]
    );
    assert_eq!(lines[3], "1 removed, 0 not removed, 1 kept, 0 within their time");
    assert_eq!(lines.len(), 4);
}

#[test]
fn an_empty_report_has_only_the_summary() {
    let mut report = at_noon(0);
    report.sum_up();
    assert_eq!(
        report.table(),
        "0 removed, 0 not removed, 0 kept, 0 within their time\n"
    );
    assert!(report.succeeded);
}

#[test]
fn the_json_report_has_utc_times_and_the_result() {
    let mut report = at_noon(0);
    let sweeping = found(&report, vec![overdue()]);
    report.add(SweepItem::outcome(&sweeping.access[0], Ok(Gone::Freed)));
    report.heard_the_operator(Some(at("2026-01-01T11:59:30Z")));
    report.sum_up();
    let document = serde_json::to_value(&report).unwrap();
    assert_eq!(document["at"], "2026-01-01T12:00:00Z");
    assert_eq!(document["succeeded"], true);
    assert_eq!(document["items"][0]["action"], "Freed");
    assert_eq!(document["items"][0]["notAfter"], "2026-01-01T11:56:48Z");
    assert_eq!(document["clocks"]["aheadSeconds"], 0.0);
    assert_eq!(document["operator"]["silent"], false);
    assert_eq!(document["summary"]["removed"], 1);
}

#[test]
fn only_a_failed_removal_fails_the_round() {
    let refused = || Error::TimedOut {
        what: "delete RoleBinding",
        seconds: 10,
    };
    for (outcome, fails) in [
        (Ok(Gone::Deleted), false),
        (Ok(Gone::Already), false),
        (Ok(Gone::Freed), false),
        (Err(refused()), true),
    ] {
        let mut report = at_noon(0);
        let sweeping = found(&report, vec![overdue()]);
        report.heard_the_operator(None);
        report.add(SweepItem::outcome(&sweeping.access[0], outcome));
        assert_eq!(report.failure().is_some(), fails, "{report:?}");
    }
}

#[test]
fn the_first_ten_problems_are_named_and_the_rest_counted() {
    let mut report = at_noon(0);
    for number in 0..12 {
        report.unread(&Error::TimedOut {
            what: "list fuses",
            seconds: number,
        });
    }
    let failure = report.failure().unwrap();
    assert!(
        failure.contains("within 9 s") && !failure.contains("within 10 s"),
        "{failure}"
    );
    assert!(failure.ends_with("; and 2 more"), "{failure}");
}

#[test]
fn a_later_attempt_replaces_the_result_of_an_earlier_one() {
    let mut report = at_noon(0);
    let sweeping = found(&report, vec![overdue()]);
    report.add(SweepItem::of(&sweeping.access[0], SweepAction::Waiting, ""));
    assert!(report.failure().is_some());
    report.add(SweepItem::outcome(&sweeping.access[0], Ok(Gone::Deleted)));
    assert_eq!(report.failure(), None);
}

#[test]
fn an_object_missing_in_a_later_attempt_is_no_failure() {
    let mut report = at_noon(0);
    let sweeping = found(&report, vec![overdue()]);
    report.add(SweepItem::of(&sweeping.access[0], SweepAction::Waiting, ""));
    report.looks_again();
    assert_eq!(report.failure(), None);
    report.add(SweepItem::of(&sweeping.access[0], SweepAction::Failed, ""));
    assert_eq!(report.items.len(), 1);
    assert!(report.failure().is_some());
}

#[test]
fn clock_skew_fails_the_round_and_the_message_has_its_direction() {
    for (ahead, words) in [
        (100, Some("clock is 99 s ahead of the API server's")),
        (-100, Some("clock is 100 s behind the API server's")),
        (20, None),
        (0, None),
    ] {
        let failure = at_noon(ahead).failure();
        match words {
            Some(words) => assert!(
                failure.as_ref().is_some_and(|failure| failure.contains(words)),
                "{failure:?}"
            ),
            None => assert_eq!(failure, None, "{ahead}"),
        }
    }
}

#[test]
fn the_operator_is_silent_after_2m_or_without_any_heartbeat() {
    for (last, silent) in [
        (Some("2026-01-01T11:58:00Z"), None),
        (Some("2026-01-01T12:00:30Z"), None),
        (
            Some("2026-01-01T11:57:59Z"),
            Some("the operator has been silent for 2m1s"),
        ),
        (None, Some("the operator has left no heartbeat")),
    ] {
        let mut report = at_noon(0);
        report.heard_the_operator(last.map(at));
        assert_eq!(report.operators_silence().as_deref(), silent, "{last:?}");
    }
}

/// Scripts read the keys and the values that are not prose.
#[test]
fn golden_sweep_report_is_unchanged() {
    let mut report = at_noon(20);
    let actions = [
        SweepAction::Removed,
        SweepAction::Freed,
        SweepAction::AlreadyGone,
        SweepAction::WouldRemove,
        SweepAction::Waiting,
        SweepAction::Failed,
        SweepAction::Kept,
    ];
    for (number, action) in (0..).zip(actions) {
        let kind = [ArtifactKind::RoleBinding, ArtifactKind::Role, ArtifactKind::Job][number % 3];
        let artifact = labelled(kind, &format!("a{number}"), Some("2026-01-01T11:56:48Z"));
        let sweeping = found(&report, vec![artifact]);
        let removal = sweeping
            .access
            .iter()
            .chain(sweeping.rest.iter().flatten())
            .next()
            .unwrap();
        report.add(SweepItem::of(removal, action, ""));
    }
    let without_end = found(&report, vec![labelled(ArtifactKind::Role, "lookalike", None)]);
    report.found(&without_end);
    report.unread(&Error::NoServerTime);
    report.knows_grants(&Grants::Unknown("no CRD".to_owned()));
    report.heard_the_operator(Some(at("2026-01-01T11:50:00Z")));
    report.sum_up();
    let failed = serde_json::to_value(&report).unwrap();

    let mut report = SweepReport::new(true, at("2026-01-01T12:00:00Z"));
    report.heard_the_operator(None);
    report.sum_up();
    let empty = serde_json::to_value(&report).unwrap();
    let prose = ["reason", "errors", "grantsNotListed"];
    let both = serde_json::json!({"failed": failed, "dry run, nothing found": empty});
    assert_golden("sweep-report.json", &shape(both, &prose));
}
