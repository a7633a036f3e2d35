//! The API of each kind of artifact, as one table.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::serde::Serialize;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use crate::cluster::objects::keys::OwnedArtifact;
use crate::cluster::objects::read;
use crate::core::artifact::key::ArtifactKey;

/// What each request is called in errors and logs.
pub(crate) struct RequestNames {
    pub(crate) create: &'static str,
    pub(crate) read: &'static str,
    pub(crate) list: &'static str,
    pub(crate) hand_over: &'static str,
    pub(crate) delete: &'static str,
    pub(crate) release: &'static str,
}

macro_rules! request_names {
    ($kind:literal) => {
        RequestNames {
            create: concat!("create ", $kind),
            read: concat!("read ", $kind),
            list: concat!("list ", $kind, "s"),
            hand_over: concat!("hand over ", $kind),
            delete: concat!("delete ", $kind),
            release: concat!("release ", $kind),
        }
    };
}

/// A kind of Kubernetes object that Curfew creates for grants.
pub(crate) trait ArtifactApi:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned
{
    /// The parts of the object that Curfew reads.
    type Read: Clone + Debug + DeserializeOwned;

    const REQUESTS: RequestNames;

    /// The API for reads. Writes use `Api::<Self>`.
    fn reader(client: Client, namespace: &str) -> Api<Self::Read>;

    /// The facts about an object that was read.
    fn facts(object: &Self::Read) -> (ArtifactKey, OwnedArtifact);

    /// The facts about an object that was just created.
    fn created(&self) -> (ArtifactKey, OwnedArtifact);
}

impl ArtifactApi for Job {
    type Read = read::Fuse;

    const REQUESTS: RequestNames = request_names!("fuse");

    fn reader(client: Client, namespace: &str) -> Api<Self::Read> {
        Api::namespaced_with(client, namespace, &read::fuses())
    }

    fn facts(object: &Self::Read) -> (ArtifactKey, OwnedArtifact) {
        read::fuse(object)
    }

    fn created(&self) -> (ArtifactKey, OwnedArtifact) {
        read::made_fuse(self)
    }
}

impl ArtifactApi for Role {
    type Read = Self;

    const REQUESTS: RequestNames = request_names!("Role");

    fn reader(client: Client, namespace: &str) -> Api<Self> {
        Api::namespaced(client, namespace)
    }

    fn facts(object: &Self) -> (ArtifactKey, OwnedArtifact) {
        read::own_role(object)
    }

    fn created(&self) -> (ArtifactKey, OwnedArtifact) {
        read::own_role(self)
    }
}

impl ArtifactApi for RoleBinding {
    type Read = Self;

    const REQUESTS: RequestNames = request_names!("RoleBinding");

    fn reader(client: Client, namespace: &str) -> Api<Self> {
        Api::namespaced(client, namespace)
    }

    fn facts(object: &Self) -> (ArtifactKey, OwnedArtifact) {
        read::binding(object)
    }

    fn created(&self) -> (ArtifactKey, OwnedArtifact) {
        read::binding(self)
    }
}

/// Evaluates an expression with the Kubernetes type of an artifact's kind: `for_kind!(kind, K => list::<K>(client))`.
macro_rules! for_kind {
    ($kind:expr, $Type:ident => $body:expr) => {
        match $kind {
            $crate::api::ArtifactKind::Job => {
                type $Type = ::k8s_openapi::api::batch::v1::Job;
                $body
            }
            $crate::api::ArtifactKind::Role => {
                type $Type = ::k8s_openapi::api::rbac::v1::Role;
                $body
            }
            $crate::api::ArtifactKind::RoleBinding => {
                type $Type = ::k8s_openapi::api::rbac::v1::RoleBinding;
                $body
            }
        }
    };
}

/// Evaluates an expression with the Kubernetes object of an artifact:
/// `for_object!(artifact, fuse_uid, object => create(client, &object))`.
macro_rules! for_object {
    ($artifact:expr, $fuse_uid:expr, $object:ident => $body:expr) => {
        match &$artifact.body {
            $crate::core::artifact::Body::Fuse { seconds } => {
                let $object = $crate::cluster::objects::fuse_job::fuse($artifact, *seconds);
                $body
            }
            $crate::core::artifact::Body::Role(rules) => {
                let $object = $crate::cluster::objects::write::role($artifact, rules, $fuse_uid);
                $body
            }
            $crate::core::artifact::Body::Binding { role, subject } => {
                let $object = $crate::cluster::objects::write::binding($artifact, role, subject, $fuse_uid);
                $body
            }
        }
    };
}

pub(crate) use {for_kind, for_object};
