//! Types of Curfew's API objects, and the names and labels of the objects that Curfew creates.
//!
//! The types accept everything that the CRD's schema accepts, so that no stored object can stop a watch: durations,
//! times and names stay text. [`crate::core`] parses them once into types that cannot be wrong.

mod condition;
mod crd;
mod decision;
mod duration;
mod grant;
mod policy;
mod principal;
mod rule;

pub use crate::api::condition::{GrantState, conditions, reasons, schema_of_conditions};
pub use crate::api::crd::crds;
pub use crate::api::decision::{
    AccessDecision, AccessDecisionSpec, AccessDecisionStatus, Blocks, DecisionKind, GrantRef,
};
pub use crate::api::duration::DurationText;
pub use crate::api::grant::{
    AccessGrant, AccessGrantSpec, AccessGrantStatus, ApprovalRecord, ArtifactKind, ArtifactRecord, Enforcer,
    EntitlementRequest, PolicyRef, Reference, ResolvedAccess, ResolvedEntitlement, ResolvedIdentity,
    ResolvedRole, Revocation, RevocationCause,
};
pub use crate::api::policy::{
    AccessPolicy, AccessPolicySpec, AccessPolicyStatus, ActAsEntitlement, ApprovalSpec, ApprovalStage, Day,
    DurationLimits, Entitlement, Escalation, FuseDemand, Limits, NamespaceSelector, Narrowing, OnChange,
    Path, ReasonDemands, RequestCondition, RoleEntitlement, RoleKind, RulesEntitlement, Selection,
    SelectorOperator, SelectorRequirement, Window,
};
pub use crate::api::principal::{Principal, PrincipalKind, Subject, SubjectKind, UserInfo};
pub use crate::api::rule::{GrantableRule, Rule};

/// API group of Curfew's objects, and prefix of its labels and annotations.
pub const GROUP: &str = "access.curfew.dev";

/// API version that is served and stored.
pub const VERSION: &str = "v1alpha1";

/// Label with the uid of the grant, on every artifact. Curfew never touches an object without it.
pub const GRANT_UID_LABEL: &str = "access.curfew.dev/grant-uid";

/// Annotation with the name of the grant, on every artifact. It is a hint for people and for finding the grant;
/// [`GRANT_UID_LABEL`] decides.
pub const GRANT_NAME_ANNOTATION: &str = "access.curfew.dev/grant";

/// Annotation with the namespace of the grant, on artifacts in another namespace. It is a hint; [`GRANT_UID_LABEL`]
/// decides.
pub const GRANT_NAMESPACE_ANNOTATION: &str = "access.curfew.dev/grant-namespace";

/// Annotation with the time at which an artifact must be gone (RFC 3339, UTC, microseconds), on every artifact.
pub const NOT_AFTER_ANNOTATION: &str = "access.curfew.dev/not-after";

/// Prefix of the key of every label and annotation of Curfew.
pub const RESERVED_PREFIX: &str = "access.curfew.dev/";

/// Finalizer on a grant while artifacts exist that the grant cannot own. Only the operator adds and removes it.
pub const REVOKE_FINALIZER: &str = "access.curfew.dev/revoke";

/// `ClusterRole` that an elevation marker binds: verb `hold` on `elevations.access.curfew.dev`, name `active`. It gives
/// no access. Guards ask the authorizer for it, and deny its holder everything that would outlast the grant.
pub const ELEVATED_ROLE: &str = "curfew-elevated";

/// Suffix of the name of an elevation marker. The name of the fuse that owns the marker comes before it.
pub const MARKER_SUFFIX: &str = "-elevated";

/// Label with the tool that manages an object (a label that Kubernetes recommends).
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";

/// Value of [`MANAGED_BY_LABEL`], field manager of every write, and reporting controller of every Event.
pub const CONTROLLER: &str = "curfew";

/// Prefix of every name that Curfew generates. 128 random bits follow it, never a user's text.
pub const NAME_PREFIX: &str = "curfew-";

/// Prefix of a `ClusterRole` that allows to act as a service account. The account's name follows it.
pub const ACT_AS_PREFIX: &str = "curfew-act-as-";
