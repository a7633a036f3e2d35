//! The canary: a `ServiceAccount` that exists to be refused.
//!
//! The operator cannot try every forgery itself: it is the one who may write statuses and make what carries the label.
//! The canary holds the rights that bring a forgery as far as admission, and a guard of its own lets it make dry runs
//! only.

use crate::api::UserInfo;
use crate::core::guard::GuardSettings;

/// The canary as the API server knows it.
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
