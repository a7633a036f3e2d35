//! The lives of a grant that faults are tried on.

use anyhow::{Context as _, bail, ensure};
use jiff::Timestamp;
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use super::scene::{Asked, Ground};
use super::verdict::{PROMISE, Verdict};
use crate::support::decisions::approvals;

/// A life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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
    /// A person approves it, and revokes it while it is in force.
    Decided,
    /// A person revokes it while people are asked.
    Withdrawn,
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
    pub const IN_ONE_NAMESPACE: [Self; 6] = [
        Self::RoleExpires,
        Self::RulesExpire,
        Self::Deleted,
        Self::Drifts,
        Self::Decided,
        Self::Withdrawn,
    ];

    /// Short enough to wait for, long enough for an operator to be killed and another one to be ready before the end.
    fn request(self) -> Value {
        match self {
            Self::RoleExpires => json!({"duration": "4s"}),
            Self::RulesExpire => json!({"duration": "4s", "entitlements": [{"name": "read"}]}),
            Self::Deleted => json!({"duration": "10m"}),
            Self::Drifts => json!({"duration": "10m", "entitlements": [{"name": "read"}]}),
            Self::ActsAs => json!({"duration": "4s", "entitlements": [{"name": "nodes"}]}),
            Self::ActsAsDeleted => json!({"duration": "10m", "entitlements": [{"name": "nodes"}]}),
            Self::Decided | Self::Withdrawn => json!({"duration": "30m"}),
        }
    }

    fn expires(self) -> bool {
        matches!(self, Self::RoleExpires | Self::RulesExpire | Self::ActsAs)
    }

    /// Whether people are asked: then nothing is made before they answer.
    pub fn asks_people(self) -> bool {
        matches!(self, Self::Decided | Self::Withdrawn)
    }

    /// How many writes it has at least. A life with access has its fuse, write-ahead, binding, Event, the record that it
    /// is active, and its end; one without has the record that it waits, the verdict and its end, each with its Events.
    pub fn fewest_writes(self) -> usize {
        if self == Self::Withdrawn { 7 } else { 8 }
    }

    /// Asks.
    pub async fn begin(self, ground: &Ground<'_>, namespace: &str) -> anyhow::Result<Asked> {
        ground.ask(namespace, self.request()).await
    }

    /// Goes on from the request until everything is over: the access must have come into force, must end as this
    /// story ends, and nothing may be left.
    pub async fn tell(self, ground: &Ground<'_>, asked: Asked) -> anyhow::Result<Told> {
        if self.asks_people() {
            return self.decide(ground, asked).await;
        }
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
            Self::Decided | Self::Withdrawn => bail!("people decide {self:?}"),
        };
        let over = ground
            .told(&asked, "it is over", |tale| {
                tale.gone || self != Self::ActsAsDeleted && tale.versions.iter().any(ended)
            })
            .await?;
        let (state, wanted) = match self {
            Self::RoleExpires | Self::RulesExpire | Self::ActsAs => (over.state(), "Expired"),
            Self::Drifts | Self::Decided | Self::Withdrawn => (over.state(), "Revoked"),
            Self::Deleted | Self::ActsAsDeleted => (if over.gone { "gone" } else { over.state() }, "gone"),
        };
        ensure!(state == wanted, "it is {state} and not {wanted}: {over:#?}");
        ground.nothing_left(&asked).await?;
        if self == Self::ActsAs {
            ground.is_let_go(&asked).await?;
        }
        Ok(Told { asked, due })
    }

    /// Goes on to the end where people decide: each decision gets its verdict, and what a Revoke blocks is on
    /// record before the grant is over.
    async fn decide(self, ground: &Ground<'_>, asked: Asked) -> anyhow::Result<Told> {
        let (place, grant) = (ground.place_of(&asked)?, asked.as_grant());
        let mut expected = Vec::new();
        if self == Self::Decided {
            let approval = place.approve("bob", &grant).await?;
            ground.is_active(&asked).await?;
            ground.no_strays(&asked).await?;
            place.counts_in_the_end(&approval).await?;
            expected.push(approval.name_any());
        } else {
            place.hash_as("bob", &grant).await?;
        }
        let revocation = place.revoke("bob", &grant).await?;
        let due = Timestamp::now();
        let over = ground
            .told(&asked, "it is over", |tale| tale.versions.iter().any(ended))
            .await?;
        ensure!(over.state() == "Revoked", "{over:#?}");
        ground.nothing_left(&asked).await?;
        let recorded = place.counts_in_the_end(&revocation).await?;
        let revision: u64 = recorded.resource_version().unwrap_or_default().parse()?;
        let ended_at = over.versions.iter().find(|version| ended(version));
        ensure!(
            ended_at.is_some_and(|version| revision < version.revision),
            "the grant was over before what became of the Revoke was on record ({revision}): {over:#?}"
        );
        let there = place.grants().get(&asked.name).await?;
        let counted: Vec<_> = approvals(&there)
            .iter()
            .filter(|record| record.void.is_none())
            .map(|record| record.decision.clone())
            .collect();
        ensure!(counted == expected, "{counted:?} and not {expected:?} count");
        Ok(Told { asked, due })
    }

    /// What the Events about the grant must say, in their order. Of a grant that is gone an operator that did not see
    /// it go knows nothing to tell.
    fn events(self) -> &'static [&'static str] {
        match self {
            Self::RoleExpires | Self::RulesExpire | Self::ActsAs => &["Active", "Expired"],
            Self::Deleted => &["Active"],
            Self::Drifts | Self::ActsAsDeleted => &["Active", "Revoked"],
            Self::Decided => &["AwaitingApproval", "Active", "Counted", "Counted", "Revoked"],
            Self::Withdrawn => &["AwaitingApproval", "Counted", "Revoked"],
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
        // Several can be of one instant, and none is ever edited.
        events.sort_by_key(|event| {
            event
                .resource_version()
                .and_then(|version| version.parse::<u64>().ok())
        });
        let mut told: Vec<_> = events
            .iter()
            .filter_map(|event| event.reason.as_deref())
            .collect();
        if story == Story::Deleted {
            // Who sees it go tells that as well.
            told.retain(|reason| *reason != "Revoked");
        }
        // Who comes after a kill may tell what counted before it has judged the policy, and then what came of it.
        if story == Story::Decided && told.get(1..3) == Some(&["Counted", "Active"][..]) {
            told.swap(1, 2);
        }
        ensure!(
            told == story.events(),
            "the Events tell {told:?} and not {:?}",
            story.events()
        );
        Ok(())
    }
}
