//! What the answer to a forgery proves.

use kube::core::Status;

use super::forgery::Forgery;
use super::standing::Standing;

/// How a forgery came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trial {
    /// Its guard refused it: the guard stands.
    Refused,
    /// The API server took it: the guard does not stand.
    Accepted,
    /// Somebody else refused it, such as RBAC, before its guard was asked: nothing is proven, nor will be by trying
    /// again.
    Untried(String),
    /// No answer, or none that says anything: try again.
    Unknown(String),
}

/// Kinds of [`Trial`], for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each names its trial")]
pub enum TrialOutcome {
    Refused,
    Accepted,
    Untried,
    Unknown,
}

impl TrialOutcome {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Refused, Self::Accepted, Self::Untried, Self::Unknown];
}

impl Trial {
    /// Its kind.
    pub fn outcome(&self) -> TrialOutcome {
        match self {
            Self::Refused => TrialOutcome::Refused,
            Self::Accepted => TrialOutcome::Accepted,
            Self::Untried(_) => TrialOutcome::Untried,
            Self::Unknown(_) => TrialOutcome::Unknown,
        }
    }
}

/// What an answer of the API server to a forgery proves. Only a refusal by the forgery's own guard is a refusal.
pub fn trial(forgery: Forgery, answer: Result<(), &Status>) -> Trial {
    let Err(status) = answer else {
        return Trial::Accepted;
    };
    let said = || format!("{} ({})", status.message, status.code);
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
        // The name is looked at last, when admission has let the object pass.
        409 if status.reason == "AlreadyExists" => Trial::Accepted,
        // Nothing can be given in a namespace that goes.
        403 | 404 if about_namespace => Trial::Unknown(said()),
        // The grant whose status was to be forged went meanwhile.
        404 if forgery == Forgery::Status => Trial::Unknown(said()),
        // 401: a token that ran out. It is asked for anew.
        401 | 408 | 409 | 429 | 500.. => Trial::Unknown(said()),
        _ => Trial::Untried(said()),
    }
}

/// The policy that denied a request, by the words of the API server:
/// `ValidatingAdmissionPolicy 'name' with binding 'name' denied request: …`.
fn denier(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("ValidatingAdmissionPolicy '")?;
    let (name, rest) = rest.split_once('\'')?;
    let (_, rest) = rest.strip_prefix(" with binding '")?.split_once('\'')?;
    rest.starts_with(" denied request").then_some(name)
}

/// What all trials in one namespace say; `None`: not all of them were answered, and none of the answers is a breach.
pub fn verdict(trials: &[(Forgery, Trial)]) -> Option<Standing> {
    let breaches: Vec<String> = trials
        .iter()
        .filter_map(|(forgery, trial)| breach(*forgery, trial))
        .collect();
    if !breaches.is_empty() {
        return Some(Standing::Breached(format!(
            "{}; apply what `curfew guards` prints",
            breaches.join("; ")
        )));
    }
    trials
        .iter()
        .all(|(_, trial)| *trial == Trial::Refused)
        .then_some(Standing::InForce)
}

fn breach(forgery: Forgery, trial: &Trial) -> Option<String> {
    let (what, guard) = (forgery.describe(), forgery.guard());
    match trial {
        Trial::Refused | Trial::Unknown(_) => None,
        Trial::Accepted => Some(format!(
            "the API server accepted {what} here, which guard {guard} has to refuse"
        )),
        Trial::Untried(said) => Some(format!(
            "whether guard {guard} refuses {what} could not be tried: {said}"
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
    fn only_its_own_guard_refuses_a_forgery() {
        for code in [403, 422] {
            let own = denied_by(Forgery::HiddenGroup.guard(), code);
            assert_eq!(trial(Forgery::HiddenGroup, Err(&own)), Trial::Refused);
        }
        for other in [
            denied_by("somebody-elses", 403),
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
            let said = format!("{} ({})", other.message, other.code);
            assert_eq!(trial(Forgery::HiddenGroup, Err(&other)), Trial::Untried(said));
        }
    }

    #[test]
    fn what_was_taken_was_accepted_even_where_the_name_was_taken_before() {
        assert_eq!(trial(Forgery::Fuse, Ok(())), Trial::Accepted);
        let there = status(
            409,
            "AlreadyExists",
            "jobs.batch \"x\" already exists",
            &json!({}),
        );
        assert_eq!(trial(Forgery::Fuse, Err(&there)), Trial::Accepted);
    }

    #[test]
    fn an_answer_that_says_nothing_is_asked_for_again() {
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
    fn a_grant_that_went_is_no_breach_and_a_resource_that_is_not_there_is_one() {
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
    fn one_breach_decides_one_silence_leaves_it_open_and_only_refusals_prove() {
        let refused = |forgery| (forgery, Trial::Refused);
        let unknown = |forgery| (forgery, Trial::Unknown("503".to_owned()));
        let all = Forgery::ALL.map(refused);
        assert_eq!(verdict(&all), Some(Standing::InForce));
        assert_eq!(verdict(&[refused(Forgery::Role), unknown(Forgery::Fuse)]), None);
        let breached = verdict(&[
            unknown(Forgery::Fuse),
            (Forgery::HiddenGroup, Trial::Accepted),
            (Forgery::Role, Trial::Untried("RBAC says no (403)".to_owned())),
            refused(Forgery::Status),
        ]);
        assert_eq!(
            breached,
            Some(Standing::Breached(
                "the API server accepted a grant that hides a group here, which guard curfew-requester has to \
                 refuse; whether guard curfew-role refuses a Role as if made by Curfew could not be tried: RBAC says \
                 no (403); apply what `curfew guards` prints"
                    .to_owned()
            ))
        );
    }
}
