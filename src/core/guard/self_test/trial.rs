//! Results of forgeries: what the answer of the API server proves about a guard.

use kube::core::Status;

use crate::core::guard::self_test::REMEDY;
use crate::core::guard::self_test::forgery::Forgery;
use crate::core::guard::state::GuardState;

/// Result of one forgery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trial {
    /// The forgery's guard denied it: the guard is in force.
    Refused,
    /// The API server accepted it: the guard is not in force.
    Accepted,
    /// Something else denied it before the guard, such as RBAC. Nothing is proven, and a retry does not help. The text
    /// is the answer of the API server.
    Untried(String),
    /// No useful answer; the forgery is tried again. The text is the answer of the API server.
    Unknown(String),
}

/// Kind of a [`Trial`], the value of a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each variant has the name of its trial")]
pub enum TrialOutcome {
    Refused,
    Accepted,
    Untried,
    Unknown,
}

impl TrialOutcome {
    /// All outcomes.
    pub const ALL: [Self; 4] = [Self::Refused, Self::Accepted, Self::Untried, Self::Unknown];
}

impl Trial {
    /// Kind of the result, for metrics.
    pub fn outcome(&self) -> TrialOutcome {
        match self {
            Self::Refused => TrialOutcome::Refused,
            Self::Accepted => TrialOutcome::Accepted,
            Self::Untried(_) => TrialOutcome::Untried,
            Self::Unknown(_) => TrialOutcome::Unknown,
        }
    }
}

/// Result of a forgery from the answer of the API server. Only a denial by the forgery's own guard is `Refused`.
pub fn trial(forgery: Forgery, answer: Result<(), &Status>) -> Trial {
    let Err(status) = answer else {
        return Trial::Accepted;
    };
    let answer_text = || format!("{} ({})", status.message, status.code);
    if denier(&status.message) == Some(forgery.guard()) {
        return Trial::Refused;
    }
    let details = status.details.as_ref();
    let about_namespace = details.is_some_and(|details| {
        details.kind == "namespaces"
            || details
                .causes
                .iter()
                .any(|cause| cause.reason == "NamespaceTerminating")
    });
    match status.code {
        // The API server checks the name after admission, so admission accepted the object.
        409 if status.reason == "AlreadyExists" => Trial::Accepted,
        // No access can be granted in a namespace that is being deleted.
        403 | 404 if about_namespace => Trial::Unknown(answer_text()),
        // The grant of the forged status has been deleted.
        404 if forgery == Forgery::Status => Trial::Unknown(answer_text()),
        // 401: the canary's token has expired. The operator gets a new one.
        401 | 408 | 409 | 429 | 500.. => Trial::Unknown(answer_text()),
        _ => Trial::Untried(answer_text()),
    }
}

/// Name of the policy that denied a request, from the message of the API server:
/// `ValidatingAdmissionPolicy 'name' with binding 'name' denied request: …`.
fn denier(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("ValidatingAdmissionPolicy '")?;
    let (name, rest) = rest.split_once('\'')?;
    let (_, rest) = rest.strip_prefix(" with binding '")?.split_once('\'')?;
    rest.starts_with(" denied request").then_some(name)
}

/// Guard state from all trials in one namespace; `None` if there is no breach, and a trial has no useful answer.
pub fn verdict(trials: &[(Forgery, Trial)]) -> Option<GuardState> {
    let breaches: Vec<String> = trials
        .iter()
        .filter_map(|(forgery, trial)| breach(*forgery, trial))
        .collect();
    if !breaches.is_empty() {
        return Some(GuardState::Breached(format!("{}. {REMEDY}", breaches.join("; "))));
    }
    trials
        .iter()
        .all(|(_, trial)| *trial == Trial::Refused)
        .then_some(GuardState::InForce)
}

fn breach(forgery: Forgery, trial: &Trial) -> Option<String> {
    let (forged, guard) = (forgery.describe(), forgery.guard());
    match trial {
        Trial::Refused | Trial::Unknown(_) => None,
        Trial::Accepted => Some(format!(
            "the API server accepted {forged}, which guard {guard} must deny"
        )),
        Trial::Untried(answer) => Some(format!(
            "guard {guard} could not be tested with {forged}: {answer}; check manifests/self-test.yaml"
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn status(code: u16, reason: &str, message: &str, details: &Value) -> Status {
        serde_json::from_value(json!({
            "status": "Failure", "code": code, "reason": reason, "message": message, "details": details,
        }))
        .unwrap()
    }

    fn denied_by(guard: &str, code: u16) -> Status {
        let message = format!(
            "accessgrants.access.curfew.dev \"canary\" is forbidden: ValidatingAdmissionPolicy '{guard}' with \
             binding '{guard}' denied request: spec.requester.username must be you"
        );
        status(code, "Forbidden", &message, &json!({"name": "canary"}))
    }

    #[test]
    fn only_the_guard_of_a_forgery_proves_a_refusal() {
        for code in [403, 422] {
            let own = denied_by(Forgery::HiddenGroup.guard(), code);
            assert_eq!(trial(Forgery::HiddenGroup, Err(&own)), Trial::Refused);
        }
        for other in [
            denied_by("other-policy", 403),
            status(
                403,
                "Forbidden",
                "accessgrants is forbidden: User \"canary\" cannot create resource",
                &json!({}),
            ),
            status(
                403,
                "Forbidden",
                "names ValidatingAdmissionPolicy 'curfew-requester' only in passing",
                &json!({}),
            ),
            status(
                404,
                "NotFound",
                "the server could not find the requested resource",
                &json!({}),
            ),
            status(422, "Invalid", "spec.reason: Required value", &json!({})),
            status(
                400,
                "BadRequest",
                "admission webhook \"kyverno\" denied the request",
                &json!({}),
            ),
        ] {
            let answer = format!("{} ({})", other.message, other.code);
            assert_eq!(trial(Forgery::HiddenGroup, Err(&other)), Trial::Untried(answer));
        }
    }

    #[test]
    fn already_exists_counts_as_accepted() {
        assert_eq!(trial(Forgery::Fuse, Ok(())), Trial::Accepted);
        let exists = status(
            409,
            "AlreadyExists",
            "jobs.batch \"x\" already exists",
            &json!({}),
        );
        assert_eq!(trial(Forgery::Fuse, Err(&exists)), Trial::Accepted);
    }

    #[test]
    fn an_unclear_answer_is_tried_again() {
        let terminating = json!({"causes": [{"reason": "NamespaceTerminating", "message": "", "field": ""}]});
        for unclear in [
            status(401, "Unauthorized", "Unauthorized", &json!({})),
            status(409, "Conflict", "the object has been modified", &json!({})),
            status(429, "TooManyRequests", "please wait", &json!({})),
            status(500, "InternalError", "etcd", &json!({})),
            status(503, "ServiceUnavailable", "no", &json!({})),
            status(403, "Forbidden", "it is being terminated", &terminating),
            status(
                404,
                "NotFound",
                "namespaces \"x\" not found",
                &json!({"kind": "namespaces"}),
            ),
        ] {
            let outcome = trial(Forgery::Role, Err(&unclear)).outcome();
            assert_eq!(outcome, TrialOutcome::Unknown, "{unclear:?}");
        }
    }

    #[test]
    fn a_missing_grant_is_no_breach_and_a_missing_resource_is_one() {
        let gone = status(
            404,
            "NotFound",
            "accessgrants.access.curfew.dev \"x\" not found",
            &json!({"kind": "accessgrants"}),
        );
        assert_eq!(
            trial(Forgery::Status, Err(&gone)).outcome(),
            TrialOutcome::Unknown
        );
        assert_eq!(trial(Forgery::Fuse, Err(&gone)).outcome(), TrialOutcome::Untried);
    }

    #[test]
    fn any_breach_fails_any_missing_answer_is_unproven_else_proven() {
        let refused = |forgery| (forgery, Trial::Refused);
        let unknown = |forgery| (forgery, Trial::Unknown("503".to_owned()));
        let all = Forgery::ALL.map(refused);
        assert_eq!(verdict(&all), Some(GuardState::InForce));
        assert_eq!(verdict(&[refused(Forgery::Role), unknown(Forgery::Fuse)]), None);
        let breached = verdict(&[
            unknown(Forgery::Fuse),
            (Forgery::HiddenGroup, Trial::Accepted),
            (Forgery::Role, Trial::Untried("RBAC says no (403)".to_owned())),
            refused(Forgery::Status),
        ]);
        assert_eq!(
            breached,
            Some(GuardState::Breached(
                "the API server accepted a grant that hides a group, which guard curfew-requester must deny; guard \
                 curfew-role could not be tested with a forged Role of Curfew: RBAC says no (403); check \
                 manifests/self-test.yaml. Run `curfew guards | kubectl apply --server-side -f -`, with the \
                 operator's flags"
                    .to_owned()
            ))
        );
    }
}
