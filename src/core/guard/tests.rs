use std::collections::BTreeSet;

use super::*;
use crate::core::guard::cel;

fn settings() -> GuardSettings {
    GuardSettings {
        namespace: "curfew-system".to_owned(),
        operator: "curfew".to_owned(),
        sweeper: "curfew-sweep".to_owned(),
        identities: "curfew-identities".to_owned(),
        cap: AccessDuration::parse("12h").unwrap(),
        creators: Vec::new(),
    }
}

#[test]
fn a_binding_follows_each_policy_and_applies_it_everywhere() {
    let guards = guards(&settings());
    assert_eq!(guards.len() % 2, 0);
    for pair in guards.chunks(2) {
        let (policy, binding) = (&pair[0], &pair[1]);
        assert_eq!(policy.name, binding.name);
        assert_eq!(policy.kind.mutates(), binding.kind.mutates());
        assert_eq!(binding.manifest["spec"]["policyName"], policy.name.as_str());
        // A self-test in one namespace does not notice a binding that leaves out another.
        assert!(binding.manifest["spec"]["matchResources"].is_null());
        if !binding.kind.mutates() {
            assert_eq!(
                binding.manifest["spec"]["validationActions"],
                serde_json::json!(["Deny"])
            );
        }
    }
    let names: BTreeSet<_> = guards
        .iter()
        .map(|guard| (guard.kind.name(), &guard.name))
        .collect();
    assert_eq!(names.len(), guards.len(), "two guards of one name");
}

/// First words of a sentence that says what to do.
const ACTIONS: [&str; 13] = [
    "Ask", "Check", "Choose", "Do", "If", "Leave", "Let", "Offer", "Read", "Request", "Set", "To", "Use",
];

/// Sentences of a message, or of a CEL expression that joins literals and variables to a message.
fn sentences(message: &str) -> Vec<&str> {
    let text = message.trim_matches('\'');
    assert!(text.ends_with('.'), "{message}");
    text.split(". ").collect()
}

#[test]
fn each_guard_fails_closed_and_each_message_names_an_action() {
    for guard in guards(&settings()) {
        if guard.kind != GuardKind::ValidatingPolicy {
            continue;
        }
        let spec = &guard.manifest["spec"];
        assert_eq!(spec["failurePolicy"], "Fail", "{}", guard.name);
        for validation in spec["validations"].as_array().unwrap() {
            let message = validation["message"]
                .as_str()
                .or(validation["messageExpression"].as_str())
                .unwrap();
            let sentences = sentences(message);
            let has_action = sentences.iter().skip(1).any(|sentence| {
                let first = sentence.split([' ', ',']).next().unwrap_or_default();
                ACTIONS.contains(&first)
            });
            assert!(has_action, "{}: {message}", guard.name);
            for sentence in sentences {
                assert!(
                    sentence.starts_with(|first: char| first.is_uppercase()) || sentence.starts_with("spec.")
                );
                let words = sentence.split_whitespace().count();
                assert!(words <= 26, "{}: {words} words: {sentence}", guard.name);
            }
            assert!(!message.contains('\n'), "{}: {message}", guard.name);
        }
    }
}

#[test]
fn a_name_cannot_escape_its_literal() {
    assert_eq!(cel::quoted("o'brien\\"), "'o\\'brien\\\\'");
    let hostile = GuardSettings {
        creators: vec!["x'] || true || 'a' in ['".to_owned()],
        ..settings()
    };
    let fuse = guards(&hostile)
        .into_iter()
        .find(|guard| guard.name == "curfew-fuse")
        .unwrap();
    let expression = fuse.manifest["spec"]["validations"][0]["expression"]
        .as_str()
        .unwrap();
    assert!(
        expression.ends_with("'x\\'] || true || \\'a\\' in [\\''])"),
        "{expression}"
    );
}

#[test]
fn guards_that_limit_an_end_use_the_fuse_cap() {
    let settings = GuardSettings {
        cap: AccessDuration::parse("1h").unwrap(),
        ..settings()
    };
    for name in ["curfew-fuse", "curfew-binding", "curfew-role"] {
        let guard = guards(&settings)
            .into_iter()
            .find(|guard| guard.name == name)
            .unwrap();
        let text = guard.manifest.to_string();
        assert!(
            text.contains("duration('3660s')") && text.contains("at most 1h ahead"),
            "{text}"
        );
    }
}

#[test]
fn mutating_guards_have_only_fields_that_kubernetes_knows() {
    use k8s_openapi::api::admissionregistration::v1alpha1::{
        MutatingAdmissionPolicyBindingSpec, MutatingAdmissionPolicySpec,
    };
    for guard in guards(&settings()) {
        let spec = guard.manifest["spec"].clone();
        // Reading drops each field that the type does not have.
        let read_back = match guard.kind {
            GuardKind::MutatingPolicy => {
                let read: MutatingAdmissionPolicySpec = serde_json::from_value(spec.clone()).unwrap();
                serde_json::to_value(read).unwrap()
            }
            GuardKind::MutatingBinding => {
                let read: MutatingAdmissionPolicyBindingSpec = serde_json::from_value(spec.clone()).unwrap();
                serde_json::to_value(read).unwrap()
            }
            GuardKind::ValidatingPolicy | GuardKind::ValidatingBinding => continue,
        };
        assert_eq!(read_back, spec, "{}", guard.name);
    }
}
