//! Guard for pods: no pod belongs to a fuse.

use crate::api::GRANT_UID_LABEL;
use crate::core::guard::Guard;
use crate::core::guard::cel::labelled;
use crate::core::guard::manifest::{Validating, demand, ours, requests};

/// No pod may carry Curfew's label. A fuse selects pods by that label, and a Job reaches its deadline only when its
/// pods have ended, which a pod can delay for years. A pod that already carries the label may be updated, so that it
/// can end.
pub(super) fn none_of_a_fuse() -> [Guard; 2] {
    Validating {
        name: "pods",
        objects: ours(),
        rules: vec![requests("", "v1", &["CREATE", "UPDATE"], &["pods", "pods/*"])],
        validations: vec![demand(
            format!(
                "!{} || (oldObject != null && {})",
                labelled("object"),
                labelled("oldObject")
            ),
            format!("A pod with the label {GRANT_UID_LABEL} would keep a fuse from ending access. Leave the label out."),
        )],
        ..Validating::default()
    }
    .guards()
}
