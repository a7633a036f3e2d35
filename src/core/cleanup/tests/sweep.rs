use super::*;
use crate::api::MARKER_SUFFIX;

const NOW: &str = "2026-01-01T12:00:00Z";
const GRACE: SignedDuration = SignedDuration::from_secs(5);

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A name of Curfew's form, from this number.
pub(super) fn named(number: u32) -> String {
    format!("{NAME_PREFIX}{number:032x}")
}

fn labelled(kind: ArtifactKind, name: &str, not_after: Option<&str>) -> LabelledObject {
    LabelledObject {
        key: ArtifactKey {
            kind,
            namespace: "prod".to_owned(),
            name: name.to_owned(),
        },
        uid: format!("uid of {name}"),
        resource_version: Some("7".to_owned()),
        grant_uid: "grant".to_owned(),
        not_after: not_after.map(str::to_owned),
        finalizers: Vec::new(),
    }
}

fn listed(uids: &[&str]) -> Grants {
    Grants::Listed(uids.iter().map(|uid| (*uid).to_owned()).collect())
}

fn swept(found: Vec<LabelledObject>, grants: &Grants) -> Sweeping {
    sweep(found, grants, at(NOW), GRACE)
}

fn names(stage: &[Removal]) -> Vec<&str> {
    stage
        .iter()
        .map(|removal| removal.what.key.name.as_str())
        .collect()
}

#[test]
fn the_earlier_clock_counts_for_any_round_trip() {
    for (server, asked, answered, now, ahead) in [
        // The server's whole second can be slightly before this machine's time.
        ("12:00:00Z", "12:00:00.400Z", "12:00:00.410Z", "12:00:00Z", 0),
        ("12:00:00Z", "12:00:01Z", "12:00:01.010Z", "12:00:00Z", 0),
        ("12:00:01Z", "12:00:00.990Z", "12:00:01.200Z", "12:00:01Z", 0),
        ("12:00:09Z", "12:00:00Z", "12:00:10Z", "12:00:09Z", 0),
        // Fast, and slow.
        ("12:00:00Z", "12:01:01Z", "12:01:02Z", "12:00:00Z", 60),
        ("12:01:00Z", "11:59:59Z", "12:00:00Z", "12:00:00Z", -60),
    ] {
        let day = |time: &str| at(&format!("2026-01-01T{time}"));
        let clocks = Clocks {
            server: day(server),
            asked: day(asked),
            answered: day(answered),
        };
        assert_eq!(clocks.now(), day(now), "{clocks:?}");
        assert_eq!(
            clocks.skew().ahead(),
            SignedDuration::from_secs(ahead),
            "{clocks:?}"
        );
    }
}

#[test]
fn skew_over_5s_warns_and_over_30s_fails() {
    for (ahead, differ, fail) in [
        (5, false, false),
        (6, true, false),
        (30, true, false),
        (31, true, true),
    ] {
        for sign in [1, -1] {
            let server = at(NOW);
            let local = server + SignedDuration::from_secs(sign * ahead);
            // The whole second is the server's.
            let local = if sign == 1 {
                local + SignedDuration::from_secs(1)
            } else {
                local
            };
            let clocks = Clocks {
                server,
                asked: local,
                answered: local,
            };
            assert_eq!(
                (clocks.differ(), clocks.fail()),
                (differ, fail),
                "{}",
                sign * ahead
            );
        }
    }
}

#[test]
fn an_object_is_removed_after_its_end_plus_grace() {
    for (end, removed) in [
        ("2026-01-01T11:59:55.000001Z", false),
        ("2026-01-01T11:59:55Z", true),
        ("2025-12-31T00:00:00.000000Z", true),
        ("2026-01-01T12:00:00Z", false),
        ("2026-01-01T13:00:00Z", false),
        ("2026-01-01T12:59:55+01:00", true),
    ] {
        let binding = labelled(ArtifactKind::RoleBinding, &named(1), Some(end));
        let sweeping = swept(vec![binding], &listed(&["grant"]));
        assert_eq!(sweeping.access.len(), usize::from(removed), "{end}");
        assert_eq!(sweeping.within_time, usize::from(!removed), "{end}");
        assert_eq!(sweeping.findings, [], "{end}");
    }
}

#[test]
fn access_is_removed_first_then_markers_roles_and_fuses() {
    let old = Some("2026-01-01T10:00:00Z");
    let older = Some("2026-01-01T09:00:00Z");
    let marker = format!("{}{MARKER_SUFFIX}", named(1));
    let found = vec![
        labelled(ArtifactKind::Job, &named(1), old),
        labelled(ArtifactKind::Job, &named(2), older),
        labelled(ArtifactKind::Role, &named(2), older),
        labelled(ArtifactKind::RoleBinding, &marker, older),
        labelled(ArtifactKind::RoleBinding, &named(1), old),
        labelled(ArtifactKind::RoleBinding, &named(2), older),
        labelled(ArtifactKind::RoleBinding, &named(3), None),
    ];
    let sweeping = swept(found, &listed(&["grant"]));
    assert_eq!(names(&sweeping.access), [named(3), named(2), named(1)]);
    let [markers, roles, fuses] = &sweeping.rest;
    assert_eq!(names(markers), [marker.as_str()]);
    assert_eq!(names(roles), [named(2)]);
    assert_eq!(names(fuses), [named(2), named(1)]);
}

#[test]
fn access_without_an_end_is_removed_only_with_a_curfew_name() {
    let marker = format!("{}{MARKER_SUFFIX}", named(1));
    let upper = format!("{NAME_PREFIX}{}", "A".repeat(32));
    let longer = format!("{}0", named(1));
    for end in [
        None,
        Some(""),
        Some("tomorrow"),
        Some("2026-01-01"),
        Some("2026-01-01T12:00:00"),
    ] {
        for (kind, name, goes) in [
            (ArtifactKind::RoleBinding, named(1).as_str(), true),
            (ArtifactKind::RoleBinding, "view", false),
            (ArtifactKind::RoleBinding, upper.as_str(), false),
            (ArtifactKind::RoleBinding, longer.as_str(), false),
            (ArtifactKind::RoleBinding, marker.as_str(), false),
            (ArtifactKind::Role, named(1).as_str(), false),
            (ArtifactKind::Job, named(1).as_str(), false),
        ] {
            let sweeping = swept(vec![labelled(kind, name, end)], &listed(&["grant"]));
            let why: Vec<_> = sweeping.access.iter().map(|removal| removal.why).collect();
            let matters: Vec<_> = sweeping.findings.iter().map(|finding| finding.matter).collect();
            if goes {
                assert_eq!((why, matters), (vec![Overdue::NoEnd], vec![]), "{name} {end:?}");
            } else {
                assert_eq!(
                    (why, matters),
                    (vec![], vec![Matter::NoEnd]),
                    "{kind:?} {name} {end:?}"
                );
                assert!(sweeping.is_empty());
            }
        }
    }
}

#[test]
fn an_orphan_is_reported_and_removed_at_its_end() {
    let ends = "2026-01-01T13:00:00Z";
    let live = labelled(ArtifactKind::RoleBinding, &named(1), Some(ends));
    let over = labelled(ArtifactKind::RoleBinding, &named(2), Some("2026-01-01T11:00:00Z"));
    for (grants, orphans) in [
        (listed(&["grant"]), false),
        (listed(&["another"]), true),
        (Grants::Unknown("there is no CRD".to_owned()), false),
    ] {
        let sweeping = swept(vec![live.clone(), over.clone()], &grants);
        assert_eq!(names(&sweeping.access), [named(2)], "{grants:?}");
        assert!(
            sweeping.access.iter().all(|removal| removal.orphan == orphans),
            "{grants:?}"
        );
        let matters: Vec<_> = sweeping.findings.iter().map(|finding| finding.matter).collect();
        let told = [Matter::Orphan { ends: at(ends) }];
        assert_eq!(matters, told[..usize::from(orphans)], "{grants:?}");
    }
}

#[test]
fn markers_and_fuses_wait_for_access_and_roles_do_not() {
    let end = Some("2026-01-01T11:00:00Z");
    let marker = format!("{}{MARKER_SUFFIX}", named(1));
    let standing = BTreeSet::from([labelled(ArtifactKind::RoleBinding, &named(1), end).key.of_fuse()]);
    for (kind, name, waits) in [
        (ArtifactKind::RoleBinding, marker.as_str(), true),
        (ArtifactKind::Job, named(1).as_str(), true),
        (ArtifactKind::Role, named(1).as_str(), false),
        (ArtifactKind::RoleBinding, named(1).as_str(), false),
        (ArtifactKind::Job, named(2).as_str(), false),
    ] {
        let what = labelled(kind, name, end);
        assert_eq!(waits_for_access(&what, &standing), waits, "{kind:?} {name}");
    }
}

#[test]
fn extreme_times_do_not_overflow() {
    for (now, end) in [
        (Timestamp::MIN, "2026-01-01T11:00:00Z"),
        (Timestamp::MAX, "9999-12-30T00:00:00Z"),
    ] {
        let binding = labelled(ArtifactKind::RoleBinding, &named(1), Some(end));
        let sweeping = sweep(vec![binding], &listed(&[]), now, GRACE);
        assert_eq!(sweeping.access.len() + sweeping.within_time, 1, "{now} {end}");
        assert_eq!(
            sweeping.access.len(),
            usize::from(now == Timestamp::MAX),
            "{now} {end}"
        );
    }
}
