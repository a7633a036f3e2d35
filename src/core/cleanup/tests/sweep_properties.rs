//! Properties of every sweep.

use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::api::MARKER_SUFFIX;
use crate::core::cleanup::sweep::tests::named;

const GRACE: SignedDuration = SignedDuration::from_secs(5);

fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

fn any_end() -> impl Strategy<Value = Option<String>> {
    prop_oneof![
        // Around now, where it matters.
        6 => (-20_000_000_i64..20_000_000).prop_map(|micros| Some((now() + SignedDuration::from_micros(micros)).to_string())),
        1 => Just(None),
        1 => select(vec!["", "soon", "2026-01-01", "12:00:00Z"]).prop_map(|text| Some(text.to_owned())),
    ]
}

fn any_labelled() -> impl Strategy<Value = LabelledObject> {
    let kinds = select(vec![
        ArtifactKind::Job,
        ArtifactKind::Role,
        ArtifactKind::RoleBinding,
    ]);
    let names = (0_u32..6, select(vec!["", MARKER_SUFFIX, "-x"]))
        .prop_map(|(number, suffix)| format!("{}{suffix}", named(number)));
    let namespaces = select(vec!["prod", "test"]);
    let grants = select(vec!["known", "unknown"]);
    (kinds, namespaces, names, grants, any_end(), 0_u32..1_000).prop_map(
        |(kind, namespace, name, grant_uid, not_after, uid)| LabelledObject {
            key: ArtifactKey {
                kind,
                namespace: namespace.to_owned(),
                name,
            },
            uid: uid.to_string(),
            resource_version: Some("1".to_owned()),
            grant_uid: grant_uid.to_owned(),
            not_after,
            finalizers: Vec::new(),
        },
    )
}

fn any_grants() -> impl Strategy<Value = Grants> {
    prop_oneof![
        Just(Grants::Listed(BTreeSet::from(["known".to_owned()]))),
        Just(Grants::Listed(BTreeSet::new())),
        Just(Grants::Unknown("no CRD".to_owned())),
    ]
}

fn removals(sweeping: &Sweeping) -> Vec<&Removal> {
    std::iter::once(&sweeping.access)
        .chain(&sweeping.rest)
        .flatten()
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1024) })]

    #[test]
    fn objects_are_removed_exactly_after_their_end(
        found in prop::collection::vec(any_labelled(), 0..30),
        grants in any_grants(),
    ) {
        let sweeping = sweep(found.clone(), &grants, now(), GRACE);
        let gone = removals(&sweeping);
        for removal in &gone {
            match removal.what.end() {
                Some(end) => prop_assert!(end + GRACE <= now()),
                None => prop_assert!(removal.what.gives_access() && removal.what.is_named_by_us()),
            }
        }
        let overdue = found.iter().filter(|what| what.end().is_some_and(|end| end + GRACE <= now())).count();
        prop_assert_eq!(gone.iter().filter(|removal| removal.what.end().is_some()).count(), overdue);
    }

    #[test]
    fn found_objects_are_removed_once_or_reported(
        found in prop::collection::vec(any_labelled(), 0..30),
        grants in any_grants(),
    ) {
        let sweeping = sweep(found.clone(), &grants, now(), GRACE);
        let gone = removals(&sweeping);
        let told = sweeping.findings.iter().filter(|finding| finding.matter == Matter::NoEnd).count();
        prop_assert_eq!(gone.len() + told + sweeping.within_time, found.len());
        for removal in gone {
            prop_assert!(found.contains(&removal.what));
        }
    }

    #[test]
    fn access_of_all_grants_is_removed_first_earliest_end_first(
        found in prop::collection::vec(any_labelled(), 0..30),
        grants in any_grants(),
    ) {
        let sweeping = sweep(found, &grants, now(), GRACE);
        prop_assert!(sweeping.access.iter().all(|removal| removal.what.gives_access()));
        prop_assert!(!sweeping.rest.iter().flatten().any(|removal| removal.what.gives_access()));
        for stage in std::iter::once(&sweeping.access).chain(&sweeping.rest) {
            prop_assert!(stage.is_sorted_by_key(|removal| removal.why));
        }
    }

    #[test]
    fn after_an_applied_round_nothing_is_left_to_remove(
        found in prop::collection::vec(any_labelled(), 0..30),
        grants in any_grants(),
    ) {
        let sweeping = sweep(found.clone(), &grants, now(), GRACE);
        let gone: Vec<&LabelledObject> = removals(&sweeping).iter().map(|removal| &removal.what).collect();
        let left: Vec<LabelledObject> = found.into_iter().filter(|what| !gone.contains(&what)).collect();
        let again = sweep(left, &grants, now(), GRACE);
        prop_assert!(again.is_empty());
        prop_assert_eq!(again.findings, sweeping.findings);
        prop_assert_eq!(again.within_time, sweeping.within_time);
    }

    #[test]
    fn the_list_of_grants_does_not_change_what_is_removed(found in prop::collection::vec(any_labelled(), 0..30)) {
        let keys = |grants: Grants| {
            let sweeping = sweep(found.clone(), &grants, now(), GRACE);
            removals(&sweeping).iter().map(|removal| removal.what.clone()).collect::<Vec<_>>()
        };
        let known = keys(Grants::Listed(BTreeSet::from(["known".to_owned()])));
        prop_assert_eq!(&known, &keys(Grants::Listed(BTreeSet::new())));
        prop_assert_eq!(&known, &keys(Grants::Unknown("no CRD".to_owned())));
    }

    #[test]
    fn one_wrong_clock_removes_nothing_early(
        server in -60_i64..60, local in -60_000_000_i64..60_000_000, way in 0_i64..9_000_000,
    ) {
        let server = now() + SignedDuration::from_secs(server);
        let asked = now() + SignedDuration::from_micros(local);
        let clocks = Clocks { server, asked, answered: asked + SignedDuration::from_micros(way) };
        prop_assert!(clocks.now() <= clocks.server && clocks.now() <= clocks.answered);
        prop_assert!(clocks.now() == clocks.server || clocks.now() == clocks.answered);
    }
}
