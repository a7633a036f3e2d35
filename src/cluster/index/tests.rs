use std::sync::Arc;

use jiff::Timestamp;
use kube::runtime::watcher::Event;

use super::*;
use crate::api::{AccessGrantSpec, AccessGrantStatus, PolicyRef};
use crate::core::{Span, status::micro_time};

fn index() -> Index {
    let settings = Settings {
        cap: Span::MAX,
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
fn what_this_process_wrote_counts_until_the_watch_has_caught_up() {
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
    let newest = index.newest(Arc::new(grant("11", None, false)));
    assert_eq!(newest.metadata.resource_version.as_deref(), Some("12"));

    index.grant(&Event::Apply(grant("13", Some(8), true)), now);
    assert_eq!(rivals(&index), Vec::<String>::new());
    let newest = index.newest(Arc::new(grant("13", Some(8), true)));
    assert_eq!(newest.metadata.resource_version.as_deref(), Some("13"));
    assert_eq!(index.live_grants("p"), 0);
}
