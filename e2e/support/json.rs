//! Merge patches, conditions by their type, and the API groups of what tests write as JSON.

use curfew::api::AccessGrant;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::Value;

/// `group/version` of RBAC.
pub const RBAC: &str = "rbac.authorization.k8s.io/v1";
/// `group/version` of grants, decisions and policies.
pub const CURFEW: &str = "access.curfew.dev/v1alpha1";

/// The condition of that type.
pub fn condition<'a>(grant: &'a AccessGrant, type_: &str) -> Option<&'a Condition> {
    grant
        .status
        .as_ref()?
        .conditions
        .iter()
        .find(|condition| condition.type_ == type_)
}

/// Merges JSON as a merge patch does (RFC 7386).
pub fn merge(target: &mut Value, patch: Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (key, value) in patch {
                if value.is_null() {
                    target.remove(&key);
                } else {
                    merge(target.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (target, patch) => *target = patch,
    }
}
