//! Comparison of the installed guards with the generated guards.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::core::guard::Guard;
use crate::core::guard::self_test::REMEDY;
use crate::core::guard::state::GuardState;

/// A generated guard and the installed `spec`.
#[derive(Clone, Copy, Debug)]
pub struct GuardReading<'a> {
    /// The generated guard.
    pub guard: &'a Guard,
    /// The `spec` in the cluster; `None` if the guard is missing.
    pub spec: Option<&'a Value>,
}

/// Maximum number of differences in a message. The remedy is the same for each of them.
const MAX_DIFFERENCES: usize = 4;

/// Guard state that follows from the installed guards.
///
/// `operator` is the user name of this operator. Guards that differ only in that name belong to another installation,
/// and the message says so.
pub fn compare(readings: &[GuardReading<'_>], operator: &str) -> GuardState {
    let mut problems = Vec::new();
    for GuardReading { guard, spec } in readings {
        let object = format!("{} {}", guard.kind.name(), guard.name);
        let Some(spec) = spec else {
            problems.push(format!("{object} is missing"));
            continue;
        };
        let wanted = guard.manifest.get("spec").unwrap_or(&Value::Null);
        let differences = differences("spec", wanted, spec);
        if let Some(owner) = differences
            .iter()
            .find_map(|difference| other_operator(difference, operator))
        {
            return GuardState::Breached(format!(
                "two installations in one cluster are not supported: these guards belong to {owner} ({object}), and \
                 this is {operator}; remove one of the two"
            ));
        }
        if let Some(first) = differences.first() {
            problems.push(match (first.path.as_str(), first.installed) {
                ("spec.policyName", Some(Value::String(other))) => format!("{object} binds policy {other}"),
                (path, _) => format!("{object} differs at {path}"),
            });
        }
    }
    if problems.is_empty() {
        return GuardState::InForce;
    }
    let (count, total) = (problems.len(), readings.len());
    let more = count.saturating_sub(MAX_DIFFERENCES);
    problems.truncate(MAX_DIFFERENCES);
    if more > 0 {
        problems.push(format!("and {more} more"));
    }
    let are = if count == 1 { "is" } else { "are" };
    GuardState::Breached(format!(
        "{count} of {total} admission policies and bindings {are} missing or changed: {}. {REMEDY}",
        problems.join("; ")
    ))
}

/// A path at which two values differ; `None` if the value is missing on that side.
#[derive(Debug, PartialEq)]
struct Difference<'a> {
    path: String,
    wanted: Option<&'a Value>,
    installed: Option<&'a Value>,
}

fn differences<'a>(path: &str, wanted: &'a Value, installed: &'a Value) -> Vec<Difference<'a>> {
    match (wanted, installed) {
        (Value::Object(wanted), Value::Object(installed)) => {
            let keys: BTreeSet<&String> = wanted.keys().chain(installed.keys()).collect();
            keys.into_iter()
                .flat_map(|key| differences_at(format!("{path}.{key}"), wanted.get(key), installed.get(key)))
                .collect()
        }
        (Value::Array(wanted), Value::Array(installed)) => (0..wanted.len().max(installed.len()))
            .flat_map(|index| {
                differences_at(
                    format!("{path}[{index}]"),
                    wanted.get(index),
                    installed.get(index),
                )
            })
            .collect(),
        _ if wanted == installed => Vec::new(),
        _ => vec![Difference {
            path: path.to_owned(),
            wanted: Some(wanted),
            installed: Some(installed),
        }],
    }
}

/// Differences of two values, of which one may be missing.
fn differences_at<'a>(
    path: String,
    wanted: Option<&'a Value>,
    installed: Option<&'a Value>,
) -> Vec<Difference<'a>> {
    match (wanted, installed) {
        (Some(wanted), Some(installed)) => differences(&path, wanted, installed),
        _ => vec![Difference {
            path,
            wanted,
            installed,
        }],
    }
}

/// The user name that the installed text has in place of `operator`, if nothing else differs.
fn other_operator(difference: &Difference<'_>, operator: &str) -> Option<String> {
    let (wanted, installed) = (difference.wanted?.as_str()?, difference.installed?.as_str()?);
    let (before, _) = wanted.split_once(operator)?;
    let named = installed.strip_prefix(before)?;
    // Characters of the user name of a ServiceAccount.
    let end = named
        .find(|character: char| !(character.is_ascii_alphanumeric() || ":-.".contains(character)))
        .unwrap_or(named.len());
    let other = named.get(..end)?;
    let plausible = other.starts_with("system:serviceaccount:") && other != operator;
    (plausible && wanted.replace(operator, other) == installed).then(|| other.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::core::guard::GuardKind;

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

    fn compared(guard: &Guard, edit: impl FnOnce(&mut Value)) -> GuardState {
        let mut spec = guard.manifest["spec"].clone();
        edit(&mut spec);
        compare(
            &[GuardReading {
                guard,
                spec: Some(&spec),
            }],
            US,
        )
    }

    fn one_changed(what: &str) -> GuardState {
        GuardState::Breached(format!(
            "1 of 1 admission policies and bindings is missing or changed: {what}. Run `curfew guards | kubectl apply \
             --server-side -f -`, with the operator's flags"
        ))
    }

    #[test]
    fn identical_guards_are_in_force() {
        for guard in [policy("curfew-fuse"), binding("curfew-fuse")] {
            assert_eq!(compared(&guard, |_| ()), GuardState::InForce);
        }
        assert_eq!(compare(&[], US), GuardState::InForce);
    }

    #[test]
    fn a_weakened_guard_is_reported_with_the_path_that_differs() {
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
            let expected = one_changed(&format!(
                "ValidatingAdmissionPolicy curfew-fuse differs at {path}"
            ));
            assert_eq!(compared(&policy("curfew-fuse"), edit), expected);
        }
    }

    #[test]
    fn a_changed_binding_is_reported() {
        let guard = binding("curfew-fuse");
        let object = "ValidatingAdmissionPolicyBinding curfew-fuse";
        assert_eq!(
            compared(&guard, |spec| spec["policyName"] = json!("harmless")),
            one_changed(&format!("{object} binds policy harmless"))
        );
        assert_eq!(
            compared(&guard, |spec| {
                spec["matchResources"] = json!({"namespaceSelector": {"matchExpressions": []}});
            }),
            one_changed(&format!("{object} differs at spec.matchResources"))
        );
        assert_eq!(
            compared(&guard, |spec| spec["validationActions"] = json!(["Audit"])),
            one_changed(&format!("{object} differs at spec.validationActions[0]"))
        );
    }

    #[test]
    fn guards_of_another_installation_are_reported_with_its_operator() {
        let theirs = "system:serviceaccount:security:curfew";
        let other = compared(&policy("curfew-fuse"), |spec| {
            let expression = format!("request.userInfo.username == '{theirs}' || x in ['{theirs}']");
            spec["validations"][0]["expression"] = json!(expression);
        });
        assert_eq!(
            other,
            GuardState::Breached(format!(
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
                compared(&policy("curfew-fuse"), |spec| {
                    spec["validations"][0]["expression"] = json!(weakened);
                }),
                one_changed(
                    "ValidatingAdmissionPolicy curfew-fuse differs at spec.validations[0].expression"
                ),
                "{weakened}"
            );
        }
    }

    #[test]
    fn missing_guards_are_reported_and_a_long_list_is_truncated() {
        let guards: Vec<Guard> = (0..6).map(|number| binding(&format!("b{number}"))).collect();
        let readings: Vec<_> = guards
            .iter()
            .map(|guard| GuardReading { guard, spec: None })
            .collect();
        let GuardState::Breached(why) = compare(&readings, US) else {
            panic!("in force");
        };
        assert!(
            why.starts_with(
                "6 of 6 admission policies and bindings are missing or changed: ValidatingAdmissionPolicyBinding b0 is \
                 missing; "
            ),
            "{why}"
        );
        assert!(
            why.contains("b3 is missing; and 2 more. Run `curfew guards "),
            "{why}"
        );
    }
}
