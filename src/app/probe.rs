//! The two halves of the self-test, as the API server answers them.

use std::collections::{BTreeMap, BTreeSet};

use futures::FutureExt as _;
use futures::future::BoxFuture;

use crate::api::UserInfo;
use crate::cluster::{Canary, Edges, GrantKey, forge, read_guards};
use crate::core::self_test::{Reading, Scene, Standing, canary_identity, compare, verdict};
use crate::core::{Class, Span};
use crate::core::{Guard, GuardSettings, guards};

/// What the self-test asks the world.
pub trait Probe: Send + Sync {
    /// Whether the guards are those that were generated; an error: nobody knows.
    fn compare(&self) -> BoxFuture<'_, Result<Standing, String>>;

    /// Whether the forgeries are refused in the namespace of a grant that is there; an error: nobody knows.
    fn forge<'a>(&'a self, grant: &'a GrantKey) -> BoxFuture<'a, Result<Standing, String>>;

    /// The namespaces in which access is or may be given, each with one of its grants.
    fn open_namespaces(&self) -> BTreeMap<String, String>;

    /// The grants of a namespace whose access is yet to be given.
    fn waiting(&self, namespace: &str) -> BTreeSet<GrantKey>;
}

/// Asks the API server.
pub struct ApiServer {
    edges: Edges,
    canary: Canary,
    identity: UserInfo,
    operator: String,
    cap: Span,
    guards: Vec<Guard>,
}

impl ApiServer {
    /// Holds the cluster to the guards of these settings.
    pub fn new(edges: Edges, canary: Canary, settings: &GuardSettings) -> Self {
        let mut guards = guards(settings);
        // What fills in who asks is a convenience, which older clusters do not have.
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
    fn compare(&self) -> BoxFuture<'_, Result<Standing, String>> {
        async {
            match read_guards(&self.edges, &self.guards).await {
                Ok(specs) => {
                    let readings: Vec<_> = self
                        .guards
                        .iter()
                        .zip(&specs)
                        .map(|(guard, spec)| Reading {
                            guard,
                            spec: spec.as_ref(),
                        })
                        .collect();
                    Ok(compare(&readings, &self.operator))
                }
                Err(error) if error.class() == Class::Denied => {
                    Ok(Standing::Breached(format!("Curfew may not read them: {error}")))
                }
                Err(error) => Err(error.to_string()),
            }
        }
        .boxed()
    }

    fn forge<'a>(&'a self, grant: &'a GrantKey) -> BoxFuture<'a, Result<Standing, String>> {
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
