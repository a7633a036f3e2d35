//! Guard for the canary of the self-test: the canary may only make dry runs.

use crate::api::GROUP;
use crate::core::guard::cel::quoted;
use crate::core::guard::manifest::{Validating, demand, requests};
use crate::core::guard::{Guard, GuardSettings};

/// The canary may only make dry runs. It needs rights that let a forgery pass RBAC, such as `create jobs`. Without this
/// guard, someone with its token could run pods as any service account.
pub(super) fn dry_runs_only(settings: &GuardSettings) -> [Guard; 2] {
    let writes = &["CREATE", "UPDATE", "DELETE"];
    Validating {
        name: "canary",
        rules: vec![
            requests(GROUP, "*", writes, &["*/*"]),
            requests("batch", "*", writes, &["jobs", "jobs/status"]),
            requests(
                "rbac.authorization.k8s.io",
                "*",
                writes,
                &["roles", "rolebindings"],
            ),
        ],
        conditions: vec![(
            "canary",
            format!(
                "request.userInfo.username == {}",
                quoted(&settings.canary_username())
            ),
        )],
        validations: vec![demand(
            "has(request.dryRun) && request.dryRun",
            "The service account of Curfew's self-test may only make dry runs. Use your own account.",
        )],
        ..Validating::default()
    }
    .guards()
}
