//! Requests of the self-test to the API server.

use std::collections::{BTreeMap, BTreeSet};

use futures::FutureExt as _;
use futures::future::BoxFuture;

use crate::api::UserInfo;
use crate::cluster::context::Cluster;
use crate::cluster::guard::canary::Canary;
use crate::cluster::guard::forge::forge;
use crate::cluster::guard::read::read_guards;
use crate::cluster::objects::keys::GrantKey;
use crate::core::guard::self_test::canary::canary_identity;
use crate::core::guard::self_test::differences::{GuardReading, compare};
use crate::core::guard::self_test::forgery::Scene;
use crate::core::guard::self_test::trial::verdict;
use crate::core::guard::state::GuardState;
use crate::core::guard::{Guard, GuardSettings, guards};
use crate::core::replica::retry::Class;
use crate::core::time::duration::AccessDuration;

/// Source of the answers that the self-test needs.
pub trait Probe: Send + Sync {
    /// Compares the guards in the cluster with the generated ones.
    ///
    /// # Errors
    /// The API server did not answer, so the state is not known.
    fn compare(&self) -> BoxFuture<'_, Result<GuardState, String>>;

    /// Tries the forgeries in the namespace of an existing grant.
    ///
    /// # Errors
    /// The API server did not answer, so the state is not known.
    fn forge<'a>(&'a self, grant: &'a GrantKey) -> BoxFuture<'a, Result<GuardState, String>>;

    /// Namespaces with a live or undecided grant, each with the name of one such grant.
    fn open_namespaces(&self) -> BTreeMap<String, String>;

    /// Grants of a namespace whose access is not active yet.
    fn waiting(&self, namespace: &str) -> BTreeSet<GrantKey>;
}

/// The API server as the source.
pub struct ApiServer {
    edges: Cluster,
    canary: Canary,
    identity: UserInfo,
    operator: String,
    cap: AccessDuration,
    guards: Vec<Guard>,
}

impl ApiServer {
    /// Compares the cluster with the guards of these settings.
    pub fn new(edges: Cluster, canary: Canary, settings: &GuardSettings) -> Self {
        let mut guards = guards(settings);
        // The mutating policies only save typing, and Kubernetes before 1.36 does not have them.
        guards.retain(|guard| !guard.kind.mutates());
        Self {
            edges,
            canary,
            identity: canary_identity(settings),
            operator: settings.operator_username(),
            cap: settings.cap,
            guards,
        }
    }
}

impl Probe for ApiServer {
    fn compare(&self) -> BoxFuture<'_, Result<GuardState, String>> {
        async {
            match read_guards(&self.edges, &self.guards).await {
                Ok(specs) => {
                    let readings: Vec<_> = self
                        .guards
                        .iter()
                        .zip(&specs)
                        .map(|(guard, spec)| GuardReading {
                            guard,
                            spec: spec.as_ref(),
                        })
                        .collect();
                    Ok(compare(&readings, &self.operator))
                }
                Err(error) if error.class() == Class::Denied => {
                    Ok(GuardState::Breached(format!("Curfew may not read them: {error}")))
                }
                Err(error) => Err(error.to_string()),
            }
        }
        .boxed()
    }

    fn forge<'a>(&'a self, grant: &'a GrantKey) -> BoxFuture<'a, Result<GuardState, String>> {
        async {
            let scene = Scene {
                namespace: &grant.namespace,
                grant: &grant.name,
                canary: &self.identity,
                cap: self.cap,
                now: self.edges.clock.now(),
            };
            let trials = forge(&self.edges, &self.canary, &scene).await;
            verdict(&trials).ok_or_else(|| format!("{trials:?}"))
        }
        .boxed()
    }

    fn open_namespaces(&self) -> BTreeMap<String, String> {
        self.edges.index.open_namespaces()
    }

    fn waiting(&self, namespace: &str) -> BTreeSet<GrantKey> {
        self.edges.index.to_be_given(namespace)
    }
}
