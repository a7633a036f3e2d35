//! What Curfew says about grants, decisions and policies is said by Curfew.

use crate::api::{GROUP, VERSION};

use super::expression::operator_asks;
use super::manifest::{Validating, demand, requests};
use super::{Guard, GuardSettings};

/// Only the operator writes a status. Writes of the object itself cannot: the API server drops what they say of it.
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
            "status is what Curfew observed, and only Curfew writes it: to end a grant, decide Revoke; to have \
             other access, make a new one",
        )],
        ..Validating::default()
    }
    .guards()
}
