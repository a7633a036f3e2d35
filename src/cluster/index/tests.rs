//! Tests: all of the index.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::runtime::watcher::Event;

use super::*;
use crate::api::{
    AccessDecision, AccessDecisionSpec, AccessDecisionStatus, AccessGrantSpec, AccessGrantStatus,
    AccessPolicy, Blocks, DecisionKind, GrantRef, PolicyRef, ResolvedAccess, Subject, UserInfo, conditions,
    reasons,
};
use crate::cluster::objects::keys::Affected;
use crate::core::artifact::found::{Content, Found};
use crate::core::decision::blocking::Block;
use crate::core::policy::Policy;
use crate::core::time::duration::AccessDuration;
use crate::core::time::timestamp::micro_time;

fn index() -> Index {
    let settings = Settings {
        cap: AccessDuration::MAX,
        namespace: "curfew-system".to_owned(),
        identities: "curfew-identities".to_owned(),
    };
    Index::new(settings, Timestamp::UNIX_EPOCH)
}

fn grant(version: &str, ends: Option<i64>, ended: bool) -> AccessGrant {
    let mut grant = AccessGrant::new(
        "pay-123",
        AccessGrantSpec {
            policy_ref: PolicyRef { name: "p".to_owned() },
            ..AccessGrantSpec::default()
        },
    );
    grant.metadata.namespace = Some("prod".to_owned());
    grant.metadata.uid = Some("uid-1".to_owned());
    grant.metadata.resource_version = Some(version.to_owned());
    let at = |second| Timestamp::from_second(second).map(micro_time).unwrap();
    grant.status = Some(AccessGrantStatus {
        subject: Some(Subject::user("alice")),
        expires_at: ends.map(at),
        ended_at: ended.then(|| at(9)),
        ..AccessGrantStatus::default()
    });
    grant
}

#[test]
fn an_announced_transition_is_not_new_until_the_grant_is_written() {
    let index = index();
    let now = Timestamp::UNIX_EPOCH;
    let news = |event| index.is_news("uid-1", event);
    assert!(
        news("activated") && news("activated"),
        "announcements of a deleted grant would never be dropped"
    );
    index.grant(&Event::Apply(grant("10", None, false)), now);
    assert!(news("activated") && !news("activated") && news("ended"));
    index.wrote(Arc::new(grant("12", Some(8), false)));
    assert!(news("activated") && !news("activated"));
    index.grant(&Event::Delete(grant("12", Some(8), false)), now);
    assert!(news("activated"));
}

#[test]
fn own_writes_count_until_the_watch_has_caught_up() {
    let index = index();
    let now = Timestamp::UNIX_EPOCH;
    index.grant(&Event::Apply(grant("10", None, false)), now);
    let other = GrantKey {
        namespace: "prod".to_owned(),
        name: "other".to_owned(),
    };
    let rivals = |index: &Index| index.rivals("p", &Subject::user("alice"), &other);

    index.wrote(Arc::new(grant("12", Some(8), false)));
    assert_eq!(rivals(&index), ["prod/pay-123"]);
    // The watch delivers a version from before the write.
    index.grant(&Event::Apply(grant("11", None, false)), now);
    assert_eq!(rivals(&index), ["prod/pay-123"]);
    let newest = index.get_grant(&key()).unwrap();
    assert_eq!(newest.metadata.resource_version.as_deref(), Some("12"));

    index.grant(&Event::Apply(grant("13", Some(8), true)), now);
    assert_eq!(rivals(&index), Vec::<String>::new());
    let newest = index.get_grant(&key()).unwrap();
    assert_eq!(newest.metadata.resource_version.as_deref(), Some("13"));
    assert_eq!(index.live_grants("p"), 0);
}

#[test]
fn a_relist_hides_no_grant_until_it_is_complete() {
    let index = index();
    let now = Timestamp::UNIX_EPOCH;
    let version = || {
        let grant = index.get_grant(&key())?;
        grant.metadata.resource_version.clone()
    };
    index.grant(&Event::Apply(grant("10", None, false)), now);
    index.wrote(Arc::new(grant("12", Some(8), false)));
    index.grant(&Event::Init, now);
    assert_eq!(version().as_deref(), Some("12"));
    index.grant(&Event::InitApply(grant("11", None, false)), now);
    assert_eq!(
        version().as_deref(),
        Some("12"),
        "the list is from before the write"
    );
    assert_eq!(index.grant(&Event::InitDone, now).orphans, []);
    assert_eq!(version().as_deref(), Some("12"));

    index.grant(&Event::Init, now);
    let gone = index.grant(&Event::InitDone, now).orphans;
    assert_eq!(version(), None);
    let [orphan] = gone.as_slice() else {
        panic!("{gone:?}");
    };
    let last = orphan.last.as_ref().unwrap();
    assert_eq!(
        last.metadata.resource_version.as_deref(),
        Some("12"),
        "what was written last is lost"
    );
}

#[test]
fn a_watched_version_replaces_the_written_one_of_the_same_number() {
    let index = index();
    let now = Timestamp::UNIX_EPOCH;
    index.grant(&Event::Apply(grant("10", None, false)), now);
    index.wrote(Arc::new(grant("12", Some(8), false)));
    index.grant(&Event::Apply(grant("12", Some(8), false)), now);
    // From here on the watch alone counts, even if the cluster went back to a backup.
    index.grant(&Event::Apply(grant("5", None, false)), now);
    let newest = index.get_grant(&key()).unwrap();
    assert_eq!(newest.metadata.resource_version.as_deref(), Some("5"));
}

fn decision(name: &str, about: (&str, &str), standing: Option<&str>) -> AccessDecision {
    let mut decision = AccessDecision::new(
        name,
        AccessDecisionSpec {
            grant_ref: GrantRef {
                name: about.0.to_owned(),
                uid: about.1.to_owned(),
            },
            decision: DecisionKind::Revoke,
            access_hash: None,
            decider: Some(UserInfo {
                username: "bob".to_owned(),
                groups: Vec::new(),
            }),
            reason: Some("enough".to_owned()),
        },
    );
    decision.metadata.namespace = Some("prod".to_owned());
    decision.metadata.uid = Some(format!("uid-of-{name}"));
    decision.metadata.creation_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    decision.status = standing.map(|status| AccessDecisionStatus {
        conditions: vec![Condition {
            type_: "Counted".to_owned(),
            status: status.to_owned(),
            reason: "Counted".to_owned(),
            message: String::new(),
            observed_generation: None,
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
        }],
        ..AccessDecisionStatus::default()
    });
    decision
}

fn key() -> GrantKey {
    GrantKey {
        namespace: "prod".to_owned(),
        name: "pay-123".to_owned(),
    }
}

#[test]
fn a_decision_affects_only_the_grant_of_its_name_and_uid() {
    let index = index();
    let unknown = |touched: &Affected| {
        touched
            .decisions
            .iter()
            .map(|key| key.name.clone())
            .collect::<Vec<_>>()
    };
    let early = index.decision(&Event::Apply(decision("early", ("pay-123", "uid-1"), None)));
    assert!(early.grants.is_empty());
    assert_eq!(unknown(&early), ["early"]);

    index.grant(&Event::Apply(grant("10", None, false)), Timestamp::UNIX_EPOCH);
    let known = index.decision(&Event::Apply(decision("known", ("pay-123", "uid-1"), None)));
    assert_eq!(known.grants, [key()].into());
    assert!(known.decisions.is_empty());
    for about in [("pay-123", "uid-of-namesake"), ("another", "uid-1")] {
        let wrong = index.decision(&Event::Apply(decision("wrong", about, None)));
        assert!(wrong.grants.is_empty());
        assert_eq!(unknown(&wrong), ["wrong"]);
    }
    let mut elsewhere = decision("elsewhere", ("pay-123", "uid-1"), None);
    elsewhere.metadata.namespace = Some("other".to_owned());
    let elsewhere = index.decision(&Event::Apply(elsewhere));
    assert!(elsewhere.grants.is_empty());
    assert_eq!(unknown(&elsewhere), ["elsewhere"]);

    let names = index.decisions_about(&key(), "uid-1");
    let names: Vec<_> = names.iter().map(|decision| decision.name.as_str()).collect();
    assert_eq!(names, ["early", "known"]);
}

#[test]
fn a_decision_with_a_verdict_affects_nothing_and_a_deleted_one_is_gone() {
    let index = index();
    index.grant(&Event::Apply(grant("10", None, false)), Timestamp::UNIX_EPOCH);
    for standing in ["True", "False", "Unknown"] {
        let judged = decision("judged", ("pay-123", "uid-1"), Some(standing));
        assert_eq!(
            index.decision(&Event::Apply(judged)),
            Affected::default(),
            "{standing}"
        );
    }
    let gone = index.decision(&Event::Delete(decision("judged", ("pay-123", "uid-1"), None)));
    assert_eq!(gone, Affected::default());
    assert!(index.decisions_about(&key(), "uid-1").is_empty());
}

#[test]
fn a_decision_is_stale_if_its_grant_is_gone_and_it_blocks_nothing() {
    let index = index();
    let at = |second| Timestamp::from_second(second).unwrap();
    let mut stands = decision("stands", ("gone", "uid-of-gone"), Some("True"));
    let against = Blocks {
        requester: "system:serviceaccount:ci:deployer".to_owned(),
        spec_hash: "sha256:0".to_owned(),
        until: micro_time(at(1_000)),
    };
    stands.status.as_mut().unwrap().blocks = Some(against.clone());
    let gone = GrantKey {
        name: "gone".to_owned(),
        ..key()
    };
    index.decision(&Event::Apply(stands));
    index.decision(&Event::Apply(decision(
        "over",
        ("gone", "uid-of-gone"),
        Some("True"),
    )));
    index.decision(&Event::Apply(decision(
        "needed",
        ("pay-123", "uid-1"),
        Some("True"),
    )));
    index.grant(&Event::Apply(grant("10", None, false)), Timestamp::UNIX_EPOCH);
    assert_eq!(
        index.objections(&gone),
        [Block {
            decision: "stands".to_owned(),
            decider: "bob".to_owned(),
            against,
        }]
    );
    let stale = |made_before: i64, now: i64| {
        let mut names: Vec<_> = index
            .stale_decisions(at(made_before), at(now))
            .into_iter()
            .map(|(key, _)| key.name)
            .collect();
        names.sort();
        names
    };
    assert_eq!(stale(0, 2_000), [""; 0]);
    assert_eq!(stale(1, 999), ["over"]);
    assert_eq!(stale(1, 1_000), ["over", "stands"]);
}

/// A binding created for the grant of this uid.
fn binding(grant_uid: &str) -> (ArtifactKey, OwnedArtifact) {
    let found = Found {
        namespace: "prod".to_owned(),
        name: format!("curfew-for-{grant_uid}"),
        uid: "uid-of-binding".to_owned(),
        deleting: false,
        owner: None,
        content: Content::Binding {
            role: (RoleKind::ClusterRole, "view".to_owned()),
            subjects: Some(vec![Subject::user("alice")]),
        },
    };
    let grant = GrantKey {
        namespace: "prod".to_owned(),
        name: "pay-123".to_owned(),
    };
    let held = OwnedArtifact {
        grant_uid: grant_uid.to_owned(),
        grant,
        found,
    };
    (held.found.key(), held)
}

#[test]
fn only_an_artifact_of_a_missing_grant_is_an_orphan() {
    let index = index();
    index.grant(&Event::Apply(grant("10", Some(8), false)), Timestamp::UNIX_EPOCH);
    for uid in ["uid-1", "uid-of-another"] {
        let (key, held) = binding(uid);
        index.made(key, held);
    }
    let names: Vec<_> = index
        .orphans()
        .into_iter()
        .map(|(uid, key)| (uid, key.name))
        .collect();
    assert_eq!(names, [("uid-of-another".to_owned(), "pay-123".to_owned())]);
    assert_eq!(index.grants().len(), 1);
}

#[test]
fn a_live_grant_without_a_binding_has_no_access() {
    let index = index();
    let end = Timestamp::from_second(8).unwrap();
    let (key, held) = binding("uid-1");
    let grant_key = held.grant.clone();
    assert_eq!(index.end_without_access(&grant_key), None, "the grant is unknown");
    index.grant(&Event::Apply(grant("10", Some(8), false)), Timestamp::UNIX_EPOCH);
    assert_eq!(index.end_without_access(&grant_key), Some(end));
    index.made(key.clone(), held);
    assert_eq!(index.end_without_access(&grant_key), None, "the binding exists");
    index.unmade(&key);
    assert_eq!(index.end_without_access(&grant_key), Some(end));
    index.grant(&Event::Apply(grant("11", Some(8), true)), Timestamp::UNIX_EPOCH);
    assert_eq!(index.end_without_access(&grant_key), None, "the access has ended");
}

#[test]
fn an_admitted_request_stays_pending_while_its_policy_is_rechecked() {
    let index = index();
    let now = Timestamp::UNIX_EPOCH;
    let other = GrantKey {
        namespace: "prod".to_owned(),
        name: "other".to_owned(),
    };
    let mut waiting = grant("10", None, false);
    waiting.spec.requester = Some(UserInfo {
        username: "alice".to_owned(),
        groups: Vec::new(),
    });
    waiting.status.get_or_insert_default().conditions = vec![Condition {
        type_: conditions::ACTIVE.to_owned(),
        status: "False".to_owned(),
        reason: reasons::PENDING.to_owned(),
        message: String::new(),
        observed_generation: None,
        last_transition_time: Time(now),
    }];
    index.grant(&Event::Apply(waiting.clone()), now);
    assert_eq!(
        index.pending("p", "alice", &other),
        Vec::<String>::new(),
        "not admitted yet"
    );
    waiting.metadata.resource_version = Some("11".to_owned());
    waiting.status.get_or_insert_default().resolved = Some(ResolvedAccess::default());
    index.grant(&Event::Apply(waiting), now);
    assert_eq!(index.pending("p", "alice", &other), ["prod/pay-123"]);
}

/// Without this, nothing would evaluate these decisions again.
#[test]
fn a_deleted_grant_returns_its_undecided_decisions() {
    let now = Timestamp::UNIX_EPOCH;
    let mut namesake = grant("20", None, false);
    namesake.metadata.uid = Some("uid-2".to_owned());
    for gone in [Event::Delete(grant("11", None, false)), Event::Apply(namesake)] {
        let index = index();
        index.grant(&Event::Apply(grant("10", None, false)), now);
        for (name, standing) in [
            ("waits", Some("Unknown")),
            ("counted", Some("True")),
            ("new", None),
        ] {
            index.decision(&Event::Apply(decision(name, ("pay-123", "uid-1"), standing)));
        }
        let touched = index.grant(&gone, now);
        let names: Vec<_> = touched.decisions.iter().map(|key| key.name.as_str()).collect();
        assert_eq!(names, ["new", "waits"], "{gone:?}");
    }
}

/// Readiness of new rules must not be stored under the old generation.
#[test]
fn a_policy_and_its_parsed_form_are_of_the_same_version() {
    let index = index();
    let policy = |uid: &str, generation| {
        let policy = serde_json::json!({
            "apiVersion": "access.curfew.dev/v1alpha1",
            "kind": "AccessPolicy",
            "metadata": {"name": "p", "uid": uid, "generation": generation},
            "spec": {
                "namespaceSelector": {},
                "requesters": [{"kind": "Group", "name": "developers"}],
                "path": "Automatic",
                "duration": {"default": "1h", "max": "1h"},
                "entitlements": [{"name": "look", "role": {"kind": "ClusterRole", "name": "view"}}],
            },
        });
        serde_json::from_value::<AccessPolicy>(policy).unwrap()
    };
    let mut other_max = policy("one", 3);
    other_max.spec.duration.max = crate::api::DurationText("2h".to_owned());
    for watched in [policy("one", 2), other_max, policy("another", 2)] {
        index.policy(&Event::Apply(watched.clone()), Timestamp::UNIX_EPOCH);
        let (known, parsed) = index.get_policy("p").unwrap();
        assert_eq!(*known, watched);
        let expected = Policy::parse(&watched, &index.settings).map(Arc::new);
        assert_eq!(format!("{parsed:?}"), format!("{expected:?}"));
    }
    // A new status changes nothing for grants, but the next write needs its version.
    let mut counted = policy("another", 2);
    counted.metadata.resource_version = Some("7".to_owned());
    let touched = index.policy(&Event::Apply(counted.clone()), Timestamp::UNIX_EPOCH);
    assert_eq!(touched, Affected::default());
    assert_eq!(*index.get_policy("p").unwrap().0, counted);
}

/// A fuse of the grant as a watch delivers it.
fn fuse(started: bool) -> crate::cluster::objects::read::Fuse {
    let mut fuse = serde_json::json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {
            "namespace": "prod", "name": "curfew-1", "uid": "uid-of-fuse",
            "labels": {"access.curfew.dev/grant-uid": "uid-1"},
            "creationTimestamp": "2026-12-01T09:00:00Z",
        },
        // Unused fields are dropped.
        "spec": {"parallelism": 0, "suspend": false, "template": {"spec": {"containers": []}}},
        "status": {"ready": 0},
    });
    if started {
        fuse["status"]["startTime"] = serde_json::json!("2026-12-01T09:00:00Z");
    }
    serde_json::from_value(fuse).unwrap()
}

fn fuse_key() -> ArtifactKey {
    ArtifactKey {
        kind: ArtifactKind::Job,
        namespace: "prod".to_owned(),
        name: "curfew-1".to_owned(),
    }
}

#[test]
fn a_lit_fuse_affects_its_grant_and_stays_lit_after_its_create_response() {
    let index = index();
    index.grant(&Event::Apply(grant("10", Some(8), false)), Timestamp::UNIX_EPOCH);
    let (made, held) = crate::cluster::objects::read::fuse(&fuse(false));
    index.made(made, held.clone());
    assert_eq!(
        index.fuse(&Event::Apply(fuse(false))),
        Affected::default(),
        "no news"
    );
    let lit = index.fuse(&Event::Apply(fuse(true)));
    assert_eq!(lit.grants, BTreeSet::from([key()]));
    // On a busy machine the answer may come last.
    index.made(fuse_key(), held);
    assert_eq!(
        index.fuse_states([&fuse_key()]),
        BTreeMap::from([(fuse_key(), crate::core::artifact::fuse::FuseState::Lit)])
    );
}

#[tokio::test]
async fn a_waiter_for_a_fuse_wakes_when_it_is_lit_or_gone() {
    let soon = std::time::Duration::from_secs(5);
    let index = Arc::new(index());
    // A missing fuse is not waited for.
    tokio::time::timeout(soon, index.until_started(&fuse_key()))
        .await
        .unwrap();
    for news in [Event::Apply(fuse(true)), Event::Delete(fuse(false))] {
        index.fuse(&Event::Apply(fuse(false)));
        let (waiting, key) = (Arc::clone(&index), fuse_key());
        let waits = tokio::spawn(async move { waiting.until_started(&key).await });
        while !index.read().awaited_fuses.contains_key(&fuse_key()) {
            tokio::task::yield_now().await;
        }
        assert!(!waits.is_finished());
        index.fuse(&news);
        tokio::time::timeout(soon, waits).await.unwrap().unwrap();
        assert!(index.read().awaited_fuses.is_empty(), "a waiter is left");
    }
}

#[test]
fn unfused_access_is_counted_until_it_ends() {
    let index = index();
    let with = |version: &str, fused: &str, ended| {
        let mut grant = grant(version, Some(8), ended);
        let status = grant.status.as_mut().unwrap();
        status.activated_at = Some(micro_time(Timestamp::UNIX_EPOCH));
        status.conditions = vec![Condition {
            type_: conditions::FUSED.to_owned(),
            status: fused.to_owned(),
            reason: "FuseRefused".to_owned(),
            message: String::new(),
            observed_generation: None,
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
        }];
        grant
    };
    for (version, fused, ended, unfused) in [
        ("10", "True", false, 0),
        ("11", "False", false, 1),
        ("12", "False", true, 0),
    ] {
        index.grant(&Event::Apply(with(version, fused, ended)), Timestamp::UNIX_EPOCH);
        assert_eq!(index.unfused(), unfused, "{fused} {ended}");
    }
}
