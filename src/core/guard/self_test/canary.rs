//! The canary: the `ServiceAccount` with which the operator tries forgeries.
//!
//! The operator cannot try each forgery as itself, because it may write statuses and create objects with Curfew's
//! label. The canary has the rights that let a forgery pass RBAC. The guard `curfew-canary` limits it to dry runs.

use crate::api::UserInfo;
use crate::core::guard::GuardSettings;

/// User name and groups of the canary, as the API server authenticates it.
pub fn canary_identity(settings: &GuardSettings) -> UserInfo {
    UserInfo {
        username: settings.canary_username(),
        groups: vec![
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{}", settings.namespace),
            "system:authenticated".to_owned(),
        ],
    }
}
