//! Guard for the status of grants, decisions and policies.

use crate::api::{GROUP, VERSION};
use crate::core::guard::cel::operator_asks;
use crate::core::guard::manifest::{Validating, demand, requests};
use crate::core::guard::{Guard, GuardSettings};

/// Only the operator writes a status. A write to the object itself cannot change the status: the API server ignores it.
pub(super) fn by_the_operator(settings: &GuardSettings) -> [Guard; 2] {
    Validating {
        name: "status",
        rules: vec![requests(
            GROUP,
            VERSION,
            &["UPDATE"],
            &[
                "accessgrants/status",
                "accessdecisions/status",
                "accesspolicies/status",
            ],
        )],
        validations: vec![demand(
            operator_asks(settings),
            "Only Curfew writes the status. To end access, create a decision Revoke. To get other access, create \
             another grant.",
        )],
        ..Validating::default()
    }
    .guards()
}
