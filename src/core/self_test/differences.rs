//! Whether the guards in the cluster are those that were generated, word for word.

use std::collections::BTreeSet;

use serde_json::Value;

use super::standing::Standing;
use crate::core::guard::Guard;

/// A guard as it should be, and the `spec` that was read; `None`: it is not there.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    /// As it should be.
    pub guard: &'a Guard,
    /// What was read.
    pub spec: Option<&'a Value>,
}

/// At most so many differences are told; the first ones are enough to know what to do.
const TOLD: usize = 4;

/// Compares. `operator` is the username that the guards have to name.
pub fn compare(readings: &[Reading<'_>], operator: &str) -> Standing {
    let mut told = Vec::new();
    for Reading { guard, spec } in readings {
        let called = format!("{} {}", guard.kind.name(), guard.name);
        let Some(spec) = spec else {
            told.push(format!("{called} is absent"));
            continue;
        };
        let wanted = guard.manifest.get("spec").unwrap_or(&Value::Null);
        let differences = differences("spec", wanted, spec);
        if let Some(owner) = differences
            .iter()
            .find_map(|difference| other_operator(difference, operator))
        {
            return Standing::Breached(format!(
                "two installations in one cluster are not supported: these guards belong to {owner} ({called}), and \
                 this is {operator}; remove one of the two"
            ));
        }
        if let Some(first) = differences.first() {
            told.push(match (first.path.as_str(), first.there) {
                ("spec.policyName", Some(Value::String(other))) => format!("{called} is bound to {other}"),
                (path, _) => format!("{called} differs at {path}"),
            });
        }
    }
    if told.is_empty() {
        return Standing::InForce;
    }
    let more = told.len().saturating_sub(TOLD);
    told.truncate(TOLD);
    let more = if more > 0 {
        format!("; and {more} more")
    } else {
        String::new()
    };
    Standing::Breached(format!(
        "{}{more}; apply what `curfew guards` prints",
        told.join("; ")
    ))
}

/// One place where two values differ.
#[derive(Debug, PartialEq)]
struct Difference<'a> {
    path: String,
    wanted: Option<&'a Value>,
    there: Option<&'a Value>,
}

fn differences<'a>(path: &str, wanted: &'a Value, there: &'a Value) -> Vec<Difference<'a>> {
    match (wanted, there) {
        (Value::Object(wanted), Value::Object(there)) => {
            let keys: BTreeSet<&String> = wanted.keys().chain(there.keys()).collect();
            keys.into_iter()
                .flat_map(|key| either(format!("{path}.{key}"), wanted.get(key), there.get(key)))
                .collect()
        }
        (Value::Array(wanted), Value::Array(there)) => (0..wanted.len().max(there.len()))
            .flat_map(|index| either(format!("{path}[{index}]"), wanted.get(index), there.get(index)))
            .collect(),
        _ if wanted == there => Vec::new(),
        _ => vec![Difference {
            path: path.to_owned(),
            wanted: Some(wanted),
            there: Some(there),
        }],
    }
}

fn either<'a>(path: String, wanted: Option<&'a Value>, there: Option<&'a Value>) -> Vec<Difference<'a>> {
    match (wanted, there) {
        (Some(wanted), Some(there)) => differences(&path, wanted, there),
        _ => vec![Difference { path, wanted, there }],
    }
}

/// Who a text names in place of the operator, if that is all it says differently.
fn other_operator(difference: &Difference<'_>, operator: &str) -> Option<String> {
    let (wanted, there) = (difference.wanted?.as_str()?, difference.there?.as_str()?);
    let (before, _) = wanted.split_once(operator)?;
    let named = there.strip_prefix(before)?;
    // What a ServiceAccount's username is made of.
    let end = named
        .find(|character: char| !(character.is_ascii_alphanumeric() || ":-.".contains(character)))
        .unwrap_or(named.len());
    let other = named.get(..end)?;
    let plausible = other.starts_with("system:serviceaccount:") && other != operator;
    (plausible && wanted.replace(operator, other) == there).then(|| other.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::core::GuardKind;

    const US: &str = "system:serviceaccount:curfew-system:curfew";

    fn policy(name: &str) -> Guard {
        Guard {
            kind: GuardKind::ValidatingPolicy,
            name: name.to_owned(),
            manifest: json!({"metadata": {"name": name}, "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {"namespaceSelector": {}, "objectSelector": {}},
                "validations": [
                    {"expression": format!("request.userInfo.username == '{US}' || x in ['{US}']"), "message": "no"},
                    {"expression": "object.spec == oldObject.spec"},
                ],
            }}),
        }
    }

    fn binding(name: &str) -> Guard {
        Guard {
            kind: GuardKind::ValidatingBinding,
            name: name.to_owned(),
            manifest: json!({"spec": {"policyName": name, "validationActions": ["Deny"]}}),
        }
    }

    fn judged(guard: &Guard, edit: impl FnOnce(&mut Value)) -> Standing {
        let mut spec = guard.manifest["spec"].clone();
        edit(&mut spec);
        compare(
            &[Reading {
                guard,
                spec: Some(&spec),
            }],
            US,
        )
    }

    fn differs(what: &str) -> Standing {
        Standing::Breached(format!("{what}; apply what `curfew guards` prints"))
    }

    #[test]
    fn guards_that_are_there_word_for_word_are_in_force() {
        for guard in [policy("curfew-fuse"), binding("curfew-fuse")] {
            assert_eq!(judged(&guard, |_| ()), Standing::InForce);
        }
        assert_eq!(compare(&[], US), Standing::InForce);
    }

    #[test]
    fn each_way_to_weaken_a_guard_is_told_by_the_place_where_it_differs() {
        type Edit = fn(&mut Value);
        let table: [(Edit, &str); 7] = [
            (
                |spec| spec["validations"][1]["expression"] = json!("true"),
                "spec.validations[1].expression",
            ),
            (
                |spec| spec["failurePolicy"] = json!("Ignore"),
                "spec.failurePolicy",
            ),
            (
                |spec| {
                    spec["validations"].as_array_mut().unwrap().pop();
                },
                "spec.validations[1]",
            ),
            (
                |spec| spec["matchConditions"] = json!([{"name": "never", "expression": "false"}]),
                "spec.matchConditions",
            ),
            (
                |spec| {
                    spec["matchConstraints"]["namespaceSelector"] = json!({"matchLabels": {"a": "b"}});
                },
                "spec.matchConstraints.namespaceSelector.matchLabels",
            ),
            (|spec| spec["validations"] = json!({}), "spec.validations"),
            (|spec| *spec = Value::Null, "spec"),
        ];
        for (edit, path) in table {
            let expected = differs(&format!(
                "ValidatingAdmissionPolicy curfew-fuse differs at {path}"
            ));
            assert_eq!(judged(&policy("curfew-fuse"), edit), expected);
        }
    }

    #[test]
    fn a_binding_that_leaves_something_out_or_binds_another_policy_is_told() {
        let guard = binding("curfew-fuse");
        let called = "ValidatingAdmissionPolicyBinding curfew-fuse";
        assert_eq!(
            judged(&guard, |spec| spec["policyName"] = json!("harmless")),
            differs(&format!("{called} is bound to harmless"))
        );
        assert_eq!(
            judged(&guard, |spec| {
                spec["matchResources"] = json!({"namespaceSelector": {"matchExpressions": []}});
            }),
            differs(&format!("{called} differs at spec.matchResources"))
        );
        assert_eq!(
            judged(&guard, |spec| spec["validationActions"] = json!(["Audit"])),
            differs(&format!("{called} differs at spec.validationActions[0]"))
        );
    }

    #[test]
    fn guards_of_another_installation_are_told_by_whose_they_are() {
        let theirs = "system:serviceaccount:security:curfew";
        let foreign = judged(&policy("curfew-fuse"), |spec| {
            let expression = format!("request.userInfo.username == '{theirs}' || x in ['{theirs}']");
            spec["validations"][0]["expression"] = json!(expression);
        });
        assert_eq!(
            foreign,
            Standing::Breached(format!(
                "two installations in one cluster are not supported: these guards belong to {theirs} \
                 (ValidatingAdmissionPolicy curfew-fuse), and this is {US}; remove one of the two"
            ))
        );
        for weakened in [
            "true".to_owned(),
            format!("request.userInfo.username == '{theirs}' || x in ['{US}']"),
            format!("request.userInfo.username == '{US}' || x in ['{US}', 'eve']"),
            "request.userInfo.username == 'eve' || x in ['eve']".to_owned(),
        ] {
            assert_eq!(
                judged(&policy("curfew-fuse"), |spec| {
                    spec["validations"][0]["expression"] = json!(weakened);
                }),
                differs("ValidatingAdmissionPolicy curfew-fuse differs at spec.validations[0].expression"),
                "{weakened}"
            );
        }
    }

    #[test]
    fn what_is_absent_is_told_and_a_long_list_is_cut() {
        let guards: Vec<Guard> = (0..6).map(|number| binding(&format!("b{number}"))).collect();
        let readings: Vec<_> = guards.iter().map(|guard| Reading { guard, spec: None }).collect();
        let Standing::Breached(why) = compare(&readings, US) else {
            panic!("in force");
        };
        assert!(
            why.starts_with("ValidatingAdmissionPolicyBinding b0 is absent; "),
            "{why}"
        );
        assert!(
            why.ends_with("b3 is absent; and 2 more; apply what `curfew guards` prints"),
            "{why}"
        );
    }
}
