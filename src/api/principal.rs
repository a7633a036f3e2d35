//! Requesters, deciders and subjects: users, groups and service accounts.

use std::fmt;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// User or service account, as the API server authenticated it: the output of `kubectl auth whoami`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserInfo {
    /// User name. A service account has the name `system:serviceaccount:<namespace>:<name>`.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[^\p{Cc}\p{Cf}]+$"))]
    pub username: String,
    /// All groups of the user, in the API server's order. A list with a missing group is denied as well. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024), inner(length(min = 1, max = 253)))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub groups: Vec<String>,
}

/// Entry of a policy's list: a user, a group or a service account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.kind == 'ServiceAccount') == has(self.__namespace__)")
    .message("kind ServiceAccount requires namespace; other kinds must not have it"))]
pub struct Principal {
    /// Kind of the entry: `User`, `Group` or `ServiceAccount`.
    pub kind: PrincipalKind,
    /// Name of the user, group or service account, exactly as the API server authenticates it.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[^\p{Cc}\p{Cf}]+$"))]
    pub name: String,
    /// Namespace of the service account. Required with `ServiceAccount`; must be unset with `User` and `Group`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
}

/// Kind of a [`Principal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PrincipalKind {
    /// User, by user name.
    User,
    /// All members of a group.
    Group,
    /// Service account, by namespace and name.
    ServiceAccount,
}

/// User or service account that gets the access. Groups are not allowed, because no one would be accountable.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.kind == 'ServiceAccount') == has(self.__namespace__)")
    .message("kind ServiceAccount requires namespace; other kinds must not have it"))]
pub struct Subject {
    /// Kind of the subject: `User` or `ServiceAccount`. Groups are not allowed, because no one would be accountable.
    pub kind: SubjectKind,
    /// Name of the user or service account, exactly as the API server authenticates it.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[^\p{Cc}\p{Cf}]+$"))]
    pub name: String,
    /// Namespace of the service account. Required with `ServiceAccount`; must be unset with `User`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
}

/// Kind of a [`Subject`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum SubjectKind {
    /// User, by user name.
    User,
    /// Service account, by namespace and name.
    ServiceAccount,
}

impl Subject {
    /// Subject of kind `User`.
    pub fn user(name: impl Into<String>) -> Self {
        Self {
            kind: SubjectKind::User,
            name: name.into(),
            namespace: None,
        }
    }

    /// Subject of kind `ServiceAccount`.
    pub fn service_account(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            kind: SubjectKind::ServiceAccount,
            name: name.into(),
            namespace: Some(namespace.into()),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.kind, &self.namespace) {
            (SubjectKind::User, _) => write!(f, "user {}", self.name),
            (SubjectKind::ServiceAccount, namespace) => {
                write!(
                    f,
                    "service account {}/{}",
                    namespace.as_deref().unwrap_or("?"),
                    self.name
                )
            }
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            PrincipalKind::User => write!(f, "user {}", self.name),
            PrincipalKind::Group => write!(f, "group {}", self.name),
            PrincipalKind::ServiceAccount => {
                write!(
                    f,
                    "service account {}/{}",
                    self.namespace.as_deref().unwrap_or("?"),
                    self.name
                )
            }
        }
    }
}
