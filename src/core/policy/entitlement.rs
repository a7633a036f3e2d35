//! One item of access a policy offers.

use crate::api;
use crate::api::{Escalation, Narrowing, OnChange, RoleKind, Rule, Selection};
use crate::core::policy::ANY_NAME;
use crate::core::policy::problem::Problem;
use crate::core::rbac::escalation::first_escalation;
use crate::core::rbac::impersonation;
use crate::core::rbac::narrow::{NotNarrowable, narrow};
use crate::core::rbac::rules::canonical;
use crate::core::settings::Settings;

/// One named item of access that a policy offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entitlement {
    /// Name, unique within the policy.
    pub name: String,
    /// Whether a request that names no entitlement gets this one.
    pub by_default: bool,
    /// The access itself.
    pub access: Access,
}

/// The access of an entitlement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// An existing role, bound unchanged.
    Role {
        /// `Role` (in the grant's namespace) or `ClusterRole`.
        kind: RoleKind,
        /// Name of the role.
        name: String,
        /// What happens to live access when the rules of the role change.
        on_change: OnChange,
        /// Whether the role may contain rules that let its holder gain more access.
        escalation: Escalation,
    },
    /// Rules that the policy itself states.
    Rules {
        /// Whether a request must, may or must not name the objects it needs.
        narrowing: Narrowing,
        /// The rules, in [`canonical`] form.
        rules: Vec<Rule>,
    },
    /// The right to act as a service account. It is bound in the namespace of that account.
    ActAs {
        /// Namespace of the service account.
        namespace: String,
        /// Name of the service account.
        service_account: String,
        /// The `ClusterRole` that allows acting as the service account.
        role: String,
        /// What happens when that role changes, or the service account is recreated.
        on_change: OnChange,
    },
}

pub(crate) fn parse_entitlement(
    position: usize,
    entitlement: &api::Entitlement,
    settings: &Settings,
    problems: &mut Vec<Problem>,
) -> Option<Entitlement> {
    let access = match (&entitlement.role, &entitlement.rules, &entitlement.act_as) {
        (Some(role), None, None) => Access::Role {
            kind: role.kind,
            name: role.name.clone(),
            on_change: role.on_change,
            escalation: role.escalation,
        },
        (None, None, Some(act_as)) => Access::ActAs {
            namespace: settings.identities.clone(),
            service_account: act_as.service_account.clone(),
            role: impersonation::role_name(&act_as.service_account),
            on_change: act_as.on_change,
        },
        (None, Some(rules), None) => {
            let items = canonical(&rules.items.iter().map(Rule::from).collect::<Vec<_>>());
            problems.extend(unusable_rules(position, rules.narrowing, &items));
            Access::Rules {
                narrowing: rules.narrowing,
                rules: items,
            }
        }
        _ => {
            problems.push(Problem::new(
                format!("spec.entitlements[{position}]"),
                "give exactly one of role, rules and actAs",
            ));
            return None;
        }
    };
    Some(Entitlement {
        name: entitlement.name.clone(),
        by_default: entitlement.selection == Selection::Default,
        access,
    })
}

/// The problem of rules that can never be granted. Either the rules allow gaining more access, or requests
/// must narrow rules that cannot be narrowed.
fn unusable_rules(position: usize, narrowing: Narrowing, rules: &[Rule]) -> Option<Problem> {
    let field = format!("spec.entitlements[{position}].rules");
    if let Some(rule) = first_escalation(rules) {
        return Some(Problem::new(field, format!("cannot be granted: {rule}")));
    }
    if narrowing != Narrowing::Required {
        return None;
    }
    match narrow(rules, &[ANY_NAME.to_owned()]) {
        Ok(_) | Err(NotNarrowable::NotOffered { .. }) => None,
        Err(error) => Some(Problem::new(
            format!("{field}.narrowing"),
            format!("Required, but no request can satisfy it: {error}"),
        )),
    }
}
