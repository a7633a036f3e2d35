use std::collections::BTreeSet;

use super::*;

fn settings() -> GuardSettings {
    GuardSettings {
        namespace: "curfew-system".to_owned(),
        operator: "curfew".to_owned(),
        sweeper: "curfew-sweep".to_owned(),
        identities: "curfew-identities".to_owned(),
        cap: Span::parse("12h").unwrap(),
        creators: Vec::new(),
    }
}

#[test]
fn every_policy_is_followed_by_a_binding_that_binds_it_everywhere() {
    let guards = guards(&settings());
    assert_eq!(guards.len() % 2, 0);
    for pair in guards.chunks(2) {
        let (policy, binding) = (&pair[0], &pair[1]);
        assert_eq!(policy.name, binding.name);
        assert_eq!(policy.kind.mutates(), binding.kind.mutates());
        assert_eq!(binding.manifest["spec"]["policyName"], policy.name.as_str());
        // A binding that leaves a namespace out would be invisible from elsewhere.
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

#[test]
fn what_cannot_be_judged_is_refused_and_every_refusal_says_what_to_do_instead() {
    for guard in guards(&settings()) {
        if guard.kind != GuardKind::ValidatingPolicy {
            continue;
        }
        let spec = &guard.manifest["spec"];
        assert_eq!(spec["failurePolicy"], "Fail", "{}", guard.name);
        for validation in spec["validations"].as_array().unwrap() {
            let sentence = validation["message"]
                .as_str()
                .or(validation["messageExpression"].as_str())
                .unwrap();
            assert!(
                [": ", "; ", ", or "].iter().any(|turn| sentence.contains(turn)),
                "{}: {sentence}",
                guard.name
            );
            assert!(!sentence.contains('\n'), "{}: {sentence}", guard.name);
        }
    }
}

#[test]
fn a_name_cannot_leave_its_literal() {
    assert_eq!(expression::quoted("o'brien\\"), "'o\\'brien\\\\'");
    let hostile = GuardSettings {
        creators: vec!["x'] || true || 'a' in ['".to_owned()],
        ..settings()
    };
    let fuse = guards(&hostile)
        .into_iter()
        .find(|guard| guard.name == "curfew-fuse")
        .unwrap();
    let first = fuse.manifest["spec"]["validations"][0]["expression"]
        .as_str()
        .unwrap();
    assert!(first.ends_with("'x\\'] || true || \\'a\\' in [\\''])"), "{first}");
}

#[test]
fn the_cap_reaches_every_guard_that_bounds_an_end() {
    let settings = GuardSettings {
        cap: Span::parse("1h").unwrap(),
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
