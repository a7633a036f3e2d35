//! No pod is a fuse's.

use crate::api::GRANT_UID_LABEL;

use super::Guard;
use super::expression::labelled;
use super::manifest::{Validating, demand, ours, requests};

/// A fuse selects pods by our label, so that no pod can hold it back: a Job whose time is over fails only when its
/// pods have ended, which a pod can put off for years. What carries the label already may go on and end.
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
            format!("a pod would hold a fuse back: leave the label {GRANT_UID_LABEL} out"),
        )],
        ..Validating::default()
    }
    .guards()
}
