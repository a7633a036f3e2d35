//! What the canary of the self-test may do: nothing that lasts.

use crate::api::GROUP;

use super::expression::quoted;
use super::manifest::{Validating, demand, requests};
use super::{Guard, GuardSettings};

/// Dry runs only. The canary holds the rights that bring a forgery as far as admission; without this guard whoever got
/// its token could run pods as anybody, by a Job.
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
            "the canary of Curfew's self-test changes nothing, it makes dry runs only: use an account of your own",
        )],
        ..Validating::default()
    }
    .guards()
}
