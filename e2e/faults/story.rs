//! The lives of a grant that faults are tried on.

use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};

use super::ground::{Asked, Ground};
use super::verdict::{PROMISE, Verdict};

/// A life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Story {
    /// A named role, until its time is over.
    RoleExpires,
    /// Rules of the policy's own, until their time is over.
    RulesExpire,
    /// The grant is deleted while its access is in force.
    Deleted,
    /// The binding is deleted by hand while it is in force.
    Drifts,
    /// The right to act as a service account, until its time is over.
    ActsAs,
    /// The grant of such a right is deleted while it is in force.
    ActsAsDeleted,
}

/// A story that was told to its end.
#[derive(Debug, Clone)]
pub struct Told {
    /// The grant.
    pub asked: Asked,
    /// From when on no access should have been.
    pub due: Timestamp,
}

impl Story {
    /// Those of which every request names the grant's namespace.
    pub const IN_ONE_NAMESPACE: [Self; 4] =
        [Self::RoleExpires, Self::RulesExpire, Self::Deleted, Self::Drifts];

    /// Short enough to wait for, long enough for an operator to be killed and another one to be ready before the end.
    fn request(self) -> Value {
        match self {
            Self::RoleExpires => json!({"duration": "4s"}),
            Self::RulesExpire => json!({"duration": "4s", "entitlements": [{"name": "read"}]}),
            Self::Deleted => json!({"duration": "10m"}),
            Self::Drifts => json!({"duration": "10m", "entitlements": [{"name": "read"}]}),
            Self::ActsAs => json!({"duration": "4s", "entitlements": [{"name": "nodes"}]}),
            Self::ActsAsDeleted => json!({"duration": "10m", "entitlements": [{"name": "nodes"}]}),
        }
    }

    fn expires(self) -> bool {
        matches!(self, Self::RoleExpires | Self::RulesExpire | Self::ActsAs)
    }

    /// Asks.
    pub async fn begin(self, ground: &Ground<'_>, namespace: &str) -> anyhow::Result<Asked> {
        ground.ask(namespace, self.request()).await
    }

    /// Goes on from the request until everything is over: the access must have come into force, must end as this
    /// story ends, and nothing may be left.
    pub async fn tell(self, ground: &Ground<'_>, asked: Asked) -> anyhow::Result<Told> {
        let active = ground.is_active(&asked).await?;
        if !self.expires() {
            // The others end, and everything with them, while it would still be waited for.
            ground.no_strays(&asked).await?;
        }
        let due = match self {
            Self::RoleExpires | Self::RulesExpire | Self::ActsAs => {
                active.expires_at().context("in force, and no end is recorded")?
            }
            Self::Deleted | Self::ActsAsDeleted => ground.delete(&asked).await?,
            Self::Drifts => ground.delete_binding(&asked).await?,
        };
        let over = ground
            .told(&asked, "it is over", |tale| {
                tale.gone || self != Self::ActsAsDeleted && tale.versions.iter().any(ended)
            })
            .await?;
        let (state, wanted) = match self {
            Self::RoleExpires | Self::RulesExpire | Self::ActsAs => (over.state(), "Expired"),
            Self::Drifts => (over.state(), "Revoked"),
            Self::Deleted | Self::ActsAsDeleted => (if over.gone { "gone" } else { over.state() }, "gone"),
        };
        ensure!(state == wanted, "it is {state} and not {wanted}: {over:#?}");
        ground.nothing_left(&asked).await?;
        if self == Self::ActsAs {
            ground.is_let_go(&asked).await?;
        }
        Ok(Told { asked, due })
    }

    /// What the Events about the grant must say, in their order. Of a grant that is gone an operator that did not see
    /// it go knows nothing to tell.
    fn events(self) -> &'static [&'static str] {
        match self {
            Self::RoleExpires | Self::RulesExpire | Self::ActsAs => &["Active", "Expired"],
            Self::Deleted => &["Active"],
            Self::Drifts | Self::ActsAsDeleted => &["Active", "Revoked"],
        }
    }
}

fn ended(version: &super::journal::Version) -> bool {
    version.ended_at.is_some()
}

impl Told {
    /// Judges it; an operator was there from `alive_since` on.
    pub fn check(
        &self,
        ground: &Ground<'_>,
        alive_since: Timestamp,
        late_writes: bool,
    ) -> anyhow::Result<()> {
        let gone_by = self.due.max(alive_since) + PROMISE;
        Verdict {
            uid: &self.asked.uid,
            gone_by,
            late_writes,
        }
        .check(&ground.journal)
    }

    /// Checks that each transition was told, and told once.
    pub async fn check_events(&self, ground: &Ground<'_>, story: Story) -> anyhow::Result<()> {
        let events = Api::<Event>::namespaced(ground.suite.admin.clone(), &self.asked.namespace);
        let about =
            |event: &Event| event.regarding.as_ref().and_then(|r| r.uid.as_ref()) == Some(&self.asked.uid);
        let mut events = events.list(&ListParams::default()).await?.items;
        events.retain(about);
        events.sort_by_key(|event| event.event_time.as_ref().map(|time| time.0));
        let mut told: Vec<_> = events
            .iter()
            .filter_map(|event| event.reason.as_deref())
            .collect();
        if story == Story::Deleted {
            // Who sees it go tells that as well.
            told.retain(|reason| *reason != "Revoked");
        }
        ensure!(
            told == story.events(),
            "the Events tell {told:?} and not {:?}",
            story.events()
        );
        Ok(())
    }
}
