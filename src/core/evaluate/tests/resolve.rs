use std::sync::Arc;

use super::*;
use crate::core::evaluate::admit::admit;
use crate::core::evaluate::question::CheckInput;
use crate::core::rbac::roles::RoleFacts;
use crate::core::request::Request;
use crate::core::testing::{Situation, at, grant, now, policy, rule, settings};

fn resolved(situation: &Situation, policy: &Policy) -> Resolved {
    let admission = admit(&CheckInput {
        request: &Request::parse(&situation.grant).unwrap(),
        policy,
        namespace_name: "prod",
        namespace: situation.namespace.as_ref(),
        settings: &situation.settings,
        now: situation.now,
        start: situation.now,
    })
    .unwrap();
    resolve(
        admission,
        policy,
        situation.namespace.as_ref().unwrap(),
        &situation.roles,
        &situation.identities,
    )
    .unwrap()
}

fn asked() -> Situation {
    Situation::of(
        grant("pay-123")
            .asking_for(&["look", "exec"])
            .until("2026-12-01T18:00:00Z"),
        &policy(),
    )
}

fn hash(situation: &Situation) -> String {
    resolved(situation, &policy().parsed()).access.hash
}

#[test]
fn the_hash_is_sha256_with_64_hex_digits() {
    let hash = hash(&asked());
    let digits = hash.strip_prefix("sha256:").unwrap();
    assert_eq!(digits.len(), 64);
    assert!(
        digits
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')),
        "{hash}"
    );
}

#[test]
fn the_same_access_always_has_the_same_hash() {
    let original = hash(&asked());
    let same: &[fn(&mut Situation)] = &[
        |_| {},
        |it| it.grant.spec.reason = "INC-9 something else".to_owned(),
        |it| it.grant.metadata.uid = Some("another".to_owned()),
        |it| it.entropy = 99,
        |it| it.now = at("2026-12-01T09:05:00Z"),
        |it| it.grant.spec.duration = Some("1800s".into()),
        |it| it.grant.spec.not_after = Some("2026-12-01T19:00:00+01:00".to_owned()),
    ];
    for (position, change) in same.iter().enumerate() {
        assert_eq!(hash(&asked().but(change)), original, "change {position}");
    }
    let edited = policy().with(|spec| spec.description = "another".to_owned());
    assert_eq!(resolved(&asked(), &edited.parsed()).access.hash, original);
}

#[test]
fn every_change_of_the_approved_access_changes_the_hash() {
    let different: &[fn(&mut Situation)] = &[
        |it| it.grant.spec.subject = Some(Subject::user("dave@example.com")),
        |it| it.grant.spec.duration = Some("31m".into()),
        |it| it.grant.spec.not_after = Some("2026-12-01T18:00:01Z".to_owned()),
        |it| it.grant.spec.not_after = None,
        |it| {
            it.grant.spec.entitlements.as_mut().unwrap().pop();
        },
        |it| it.grant.spec.entitlements.as_mut().unwrap()[1].resource_names = Some(vec!["api-0".to_owned()]),
        |it| it.namespace.as_mut().unwrap().uid = "another".to_owned(),
        |it| {
            let wider = RoleFacts::new("uid-of-view", &[rule(&["get"], &["secrets"])]);
            it.roles
                .insert((RoleKind::ClusterRole, "view".to_owned()), Arc::new(wider));
        },
        |it| {
            let view = it
                .roles
                .get_mut(&(RoleKind::ClusterRole, "view".to_owned()))
                .unwrap();
            *view = Arc::new(RoleFacts::new("another", view.rules()));
        },
    ];
    let mut hashes = vec![hash(&asked())];
    hashes.extend(different.iter().map(|change| hash(&asked().but(change))));
    let mut remade = policy();
    remade.metadata.uid = Some("another".to_owned());
    hashes.push(resolved(&asked(), &remade.parsed()).access.hash);
    let number = hashes.len();
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), number);
}

#[test]
fn all_missing_roles_are_reported_at_once() {
    let policy = policy().with(|spec| {
        spec.entitlements = ["a", "b"]
            .map(|name| crate::core::testing::role_entitlement(name, &format!("role-{name}")))
            .into();
    });
    let admission = Admitted {
        subject: Subject::user("alice"),
        duration: AccessDuration::parse("1h").unwrap(),
        not_after: None,
        window_end: None,
        entitlements: policy.parsed().entitlements,
    };
    let nothing = (NamespaceFacts::default(), Roles::new());
    let refusals = resolve(
        admission,
        &policy.parsed(),
        &nothing.0,
        &nothing.1,
        &ActAsAccounts::new(),
    )
    .unwrap_err();
    assert_eq!(refusals.reason(), reasons::ROLE_NOT_FOUND);
    assert_eq!(
        refusals.to_string(),
        "(1) spec.entitlements[a]: ClusterRole role-a does not exist \
         (2) spec.entitlements[b]: ClusterRole role-b does not exist"
    );
}

#[test]
fn access_expires_at_the_earliest_bound() {
    let of = |duration, not_after, window_end, cap| {
        let resolved = Resolved {
            duration: AccessDuration::parse(duration).unwrap(),
            not_after,
            window_end,
            ..resolved(&asked(), &policy().parsed())
        };
        let mut settings = settings();
        settings.cap = AccessDuration::parse(cap).unwrap();
        resolved.expires_at(now(), &settings)
    };
    let hours = |hour: u32| Some(at(&format!("2026-12-01T{hour:02}:00:00Z")));
    for (expected, actual) in [
        (hours(10), of("1h", None, None, "8h")),
        (hours(10), of("1h", hours(11), hours(12), "4h")),
        (hours(11), of("4h", hours(11), hours(12), "5h")),
        (hours(12), of("4h", hours(13), hours(12), "5h")),
        (hours(11), of("4h", hours(13), hours(12), "2h")),
    ] {
        assert_eq!(Some(actual), expected);
    }
}
