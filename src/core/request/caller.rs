//! Caller: a user as authenticated.

use crate::api::{Principal, PrincipalKind, Subject, UserInfo};
use crate::core::request::SERVICE_ACCOUNT_PREFIX;

/// A caller as the API server authenticated it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// User name; for a service account `system:serviceaccount:NAMESPACE:NAME`.
    pub username: String,
    /// All groups of the caller.
    pub groups: Vec<String>,
}

impl From<&UserInfo> for Caller {
    fn from(user: &UserInfo) -> Self {
        Self {
            username: user.username.clone(),
            groups: user.groups.clone(),
        }
    }
}

impl Caller {
    /// Namespace and name, if the caller is a service account.
    pub fn service_account(&self) -> Option<(&str, &str)> {
        self.username
            .strip_prefix(SERVICE_ACCOUNT_PREFIX)?
            .split_once(':')
    }

    /// The first principal that matches the caller: by name, or by one of its groups.
    ///
    /// A `User` entry never matches a service account, even under its full user name.
    pub fn listed_in<'a>(&self, principals: &'a [Principal]) -> Option<&'a Principal> {
        principals.iter().find(|principal| match principal.kind {
            PrincipalKind::User => self.service_account().is_none() && principal.name == self.username,
            PrincipalKind::Group => self.groups.contains(&principal.name),
            PrincipalKind::ServiceAccount => {
                self.service_account()
                    == Some((
                        principal.namespace.as_deref().unwrap_or_default(),
                        principal.name.as_str(),
                    ))
            }
        })
    }

    /// The caller as a subject of access.
    pub fn as_subject(&self) -> Subject {
        match self.service_account() {
            Some((namespace, name)) => Subject::service_account(namespace, name),
            None => Subject::user(self.username.clone()),
        }
    }
}
