//! The objects as people write them, and the words that stand on objects Curfew makes.
//!
//! Types here accept whatever the CRD's schema admits, so that no stored object can stop a watch: durations,
//! times and names stay text. [`crate::core`] parses them once into types that cannot be wrong.

mod condition;
mod crd;
mod decision;
mod duration;
mod grant;
mod policy;
mod principal;
mod rule;

pub use condition::{conditions, reasons, schema_of_conditions};
pub use crd::crds;
pub use decision::{
    AccessDecision, AccessDecisionSpec, AccessDecisionStatus, DecisionKind, GrantRef, StandsAgainst,
};
pub use duration::DurationText;
pub use grant::{
    AccessGrant, AccessGrantSpec, AccessGrantStatus, ApprovalRecord, ArtifactKind, ArtifactRecord, Enforcer,
    EntitlementRequest, PolicyRef, Reference, ResolvedAccess, ResolvedEntitlement, ResolvedIdentity,
    ResolvedRole, Revocation, RevocationCause,
};
pub use policy::{
    AccessPolicy, AccessPolicySpec, AccessPolicyStatus, ActAsEntitlement, Approval, ApprovalStage, Day,
    DurationLimits, Entitlement, Escalation, FuseDemand, Limits, NamespaceSelector, Narrowing, OnChange,
    Path, ReasonDemands, RequestCondition, RoleEntitlement, RoleKind, RulesEntitlement, Selection,
    SelectorOperator, SelectorRequirement, Window,
};
pub use principal::{Principal, PrincipalKind, Subject, SubjectKind, UserInfo};
pub use rule::{GrantableRule, Rule};

/// API group of every object of Curfew, and the prefix of its labels and annotations.
pub const GROUP: &str = "access.curfew.dev";

/// Version served and stored.
pub const VERSION: &str = "v1alpha1";

/// Label on everything made for a grant: the grant's uid. What lacks it is not ours and is never touched.
pub const GRANT_UID_LABEL: &str = "access.curfew.dev/grant-uid";

/// Annotation on everything made for a grant: the grant's name, for people and for finding the grant again.
/// A hint only; [`GRANT_UID_LABEL`] decides.
pub const GRANT_NAME_ANNOTATION: &str = "access.curfew.dev/grant";

/// Annotation on what is made for a grant in another namespace: the grant's namespace. A hint only, too.
pub const GRANT_NAMESPACE_ANNOTATION: &str = "access.curfew.dev/grant-namespace";

/// Annotation on everything made for a grant: the moment it must be gone (RFC 3339, UTC, microseconds).
pub const NOT_AFTER_ANNOTATION: &str = "access.curfew.dev/not-after";

/// What the key of every label and annotation of Curfew starts with.
pub const RESERVED_PREFIX: &str = "access.curfew.dev/";

/// Finalizer on a grant while something exists for it that ownership cannot reach. Only the operator adds it and
/// takes it off.
pub const REVOKE_FINALIZER: &str = "access.curfew.dev/revoke";

/// The `ClusterRole` an elevation marker binds: verb `hold` on `elevations.access.curfew.dev`, name `active`. It gives
/// nothing; guards ask the authorizer for it, and refuse its holder to make what would outlast the grant.
pub const ELEVATED_ROLE: &str = "curfew-elevated";

/// What the name of an elevation marker ends with; before it stands the name of the fuse that holds it.
pub const MARKER_SUFFIX: &str = "-elevated";

/// Label that says who made an object, after the Kubernetes recommended labels.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";

/// Value of [`MANAGED_BY_LABEL`], field manager of every write, and reporting controller of every Event.
pub const CONTROLLER: &str = "curfew";

/// Every name Curfew gives starts so; what follows are 128 random bits, never a user's text.
pub const NAME_PREFIX: &str = "curfew-";

/// What the name of a `ClusterRole` that allows to act as a service account has before the name of that.
pub const ACT_AS_PREFIX: &str = "curfew-act-as-";
