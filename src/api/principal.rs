//! Who asks, and who gets the access.

use std::fmt;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Somebody, exactly as the API server authenticated them: what `kubectl auth whoami` prints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserInfo {
    /// User name.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[^\p{Cc}\p{Cf}]+$"))]
    pub username: String,
    /// All groups, in the API server's order: hiding one is refused as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024), inner(length(min = 1, max = 253)))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub groups: Vec<String>,
}

/// One entry of a list of people, groups and service accounts in a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.kind == 'ServiceAccount') == has(self.__namespace__)")
    .message("namespace goes with kind ServiceAccount, and only with it"))]
pub struct Principal {
    /// What `name` names: `User`, `Group` or `ServiceAccount`.
    pub kind: PrincipalKind,
    /// Name of the user, group or service account, exactly as the API server authenticates it.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[^\p{Cc}\p{Cf}]+$"))]
    pub name: String,
    /// Namespace of the service account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
}

/// Kind of a [`Principal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PrincipalKind {
    /// A person, by user name.
    User,
    /// Everybody in a group.
    Group,
    /// A service account, by namespace and name.
    ServiceAccount,
}

/// Who gets the access: one accountable person or service account, never a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.kind == 'ServiceAccount') == has(self.__namespace__)")
    .message("namespace goes with kind ServiceAccount, and only with it"))]
pub struct Subject {
    /// What `name` names: `User` or `ServiceAccount`. Groups are refused: nobody would be accountable.
    pub kind: SubjectKind,
    /// Name of the user or service account, exactly as the API server authenticates it.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[^\p{Cc}\p{Cf}]+$"))]
    pub name: String,
    /// Namespace of the service account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
}

/// Kind of a [`Subject`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum SubjectKind {
    /// A person, by user name.
    User,
    /// A service account, by namespace and name.
    ServiceAccount,
}

impl Subject {
    /// A person.
    pub fn user(name: impl Into<String>) -> Self {
        Self {
            kind: SubjectKind::User,
            name: name.into(),
            namespace: None,
        }
    }

    /// A service account.
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
