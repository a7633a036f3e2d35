//! Which entitlements, narrowed.

use crate::api::{EntitlementRequest, Narrowing, reasons};
use crate::core::evaluate::question::CheckInput;
use crate::core::policy::entitlement::{Access, Entitlement};
use crate::core::rbac::narrow::narrow;
use crate::core::rbac::rules::covers;
use crate::core::request::refusal::Refusal;

pub(crate) fn requested_entitlements(question: &CheckInput<'_>) -> Result<Vec<Entitlement>, Vec<Refusal>> {
    let policy = question.policy;
    let find = |ask: &EntitlementRequest| {
        policy.entitlement(&ask.name).ok_or_else(|| {
            let offered = policy
                .entitlements
                .iter()
                .map(|offer| offer.name.as_str())
                .collect::<Vec<_>>();
            Refusal::new(
                reasons::ENTITLEMENT_UNKNOWN,
                format!("spec.entitlements[{}]", ask.name),
                format!("policy {} offers {}", policy.name, offered.join(", ")),
            )
        })
    };
    let chosen: Vec<Result<Entitlement, Refusal>> = match &question.request.entitlements {
        Some(asks) => asks
            .iter()
            .map(|ask| find(ask).and_then(|offer| narrowed(offer, ask.resource_names.as_deref())))
            .collect(),
        None => policy
            .entitlements
            .iter()
            .filter(|offer| offer.by_default)
            .map(|offer| narrowed(offer, None))
            .collect(),
    };
    if chosen.is_empty() {
        let offered = policy
            .entitlements
            .iter()
            .map(|offer| offer.name.as_str())
            .collect::<Vec<_>>();
        return Err(vec![Refusal::new(
            reasons::ENTITLEMENT_UNKNOWN,
            "spec.entitlements",
            format!(
                "policy {} grants nothing by default; name one of {}",
                policy.name,
                offered.join(", ")
            ),
        )]);
    }
    let (granted, refused): (Vec<_>, Vec<_>) = chosen.into_iter().partition(Result::is_ok);
    let refused: Vec<Refusal> = refused.into_iter().filter_map(Result::err).collect();
    if refused.is_empty() {
        Ok(granted.into_iter().filter_map(Result::ok).collect())
    } else {
        Err(refused)
    }
}

pub(crate) fn narrowed(offer: &Entitlement, names: Option<&[String]>) -> Result<Entitlement, Refusal> {
    let refuse = |reason: &'static str, message: String| {
        Refusal::new(
            reason,
            format!("spec.entitlements[{}].resourceNames", offer.name),
            message,
        )
    };
    let as_a_whole = |why: &str| match names {
        None => Ok(offer.clone()),
        Some(_) => Err(refuse(
            reasons::NARROWING_REFUSED,
            format!("{why} and cannot be narrowed; leave resourceNames out"),
        )),
    };
    let (narrowing, rules) = match &offer.access {
        Access::Rules { narrowing, rules } => (narrowing, rules),
        Access::Role { .. } => return as_a_whole("a role is bound as it is"),
        Access::ActAs { .. } => return as_a_whole("a service account has the rights it has"),
    };
    let names = match (narrowing, names) {
        (Narrowing::Required, None) => {
            return Err(refuse(
                reasons::NARROWING_REFUSED,
                "name the objects you need".to_owned(),
            ));
        }
        (Narrowing::Forbidden, Some(_)) => {
            return Err(refuse(
                reasons::NARROWING_REFUSED,
                "this entitlement is granted as a whole; leave resourceNames out".to_owned(),
            ));
        }
        (_, None) => return Ok(offer.clone()),
        (_, Some(names)) => names,
    };
    let narrowed_rules =
        narrow(rules, names).map_err(|error| refuse(reasons::NARROWING_REFUSED, error.to_string()))?;
    // `narrow` only removes access. This proof does not depend on that.
    covers(rules, &narrowed_rules)
        .map_err(|uncovered| refuse(reasons::BEYOND_POLICY, uncovered.to_string()))?;
    Ok(Entitlement {
        access: Access::Rules {
            narrowing: *narrowing,
            rules: narrowed_rules,
        },
        ..offer.clone()
    })
}
