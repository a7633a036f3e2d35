//! What the operator may do, compared with what it did over the whole suite, as the API server's audit log has it.
#![expect(clippy::print_stdout, reason = "how much the comparison rests on")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::{fmt, fs};

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, Subject};
use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::harness::in_repository;

/// The name of the test.
pub const NAME: &str = concat!(module_path!(), "::every_right_is_used_and_none_is_missing");

/// How the operator calls itself.
const AGENT: &str = "curfew/";

/// What may be handed out is not used by the operator itself.
const GRANTABLE: &str = "curfew-grantable";

/// What the authorizer is asked about and no request does: by RBAC when a binding is made, by a guard when a grant is.
const NO_REQUEST: [&str; 2] = ["bind", "request"];

/// What the operator does to records a day old, the verb first: no test waits so long.
const AFTER_A_DAY: (&str, &str) = ("delete", "accessdecisions");

/// One thing that may be done or was done.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Use {
    group: String,
    resource: String,
    verb: String,
    /// Where a right is for one name only.
    name: Option<String>,
}

impl Use {
    /// Whether it is the same but for the name.
    fn is_like(&self, other: &Self) -> bool {
        (&self.group, &self.resource, &self.verb) == (&other.group, &other.resource, &other.verb)
    }
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.as_deref().unwrap_or("any");
        write!(f, "{} {}.{} ({name})", self.verb, self.resource, self.group)
    }
}

/// Compares the rights that are shipped with what the audit logs of all planes tell.
pub fn every_right_is_used_and_none_is_missing(logs: &[PathBuf]) -> anyhow::Result<()> {
    let manifests = Manifests::read()?;
    let mut events = Vec::new();
    for log in logs {
        let text = fs::read_to_string(log)?;
        // The last line may have been under way.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        for line in whole.lines() {
            events.push(serde_json::from_str::<Value>(line)?);
        }
    }
    let mut wrong = Vec::new();
    for account in &manifests.accounts {
        let name = account.metadata.name.clone().unwrap_or_default();
        let namespace = account.metadata.namespace.clone().unwrap_or_default();
        let user = format!("system:serviceaccount:{namespace}:{name}");
        let done: Vec<&Value> = events
            .iter()
            .filter(|event| text(event, "/user/username") == user)
            // Tests that steal the token call themselves something else.
            .filter(|event| text(event, "/userAgent").starts_with(AGENT))
            .collect();
        let kinds: BTreeSet<Use> = done
            .iter()
            .filter(|event| decision(event) == "allow")
            .map(|event| of_event(event))
            .collect();
        // An API server that starts again refuses everything for a moment, until it has read its RBAC.
        let missing: BTreeSet<String> = done
            .iter()
            .filter(|event| decision(event) == "forbid")
            .map(|event| of_event(event))
            .filter(|refused| !kinds.iter().any(|used| used.is_like(refused)))
            .map(|refused| format!("{name} lacks {refused}"))
            .collect();
        wrong.extend(missing);
        let idle = manifests
            .rights_of(&name)
            .into_iter()
            .filter(|right| !NO_REQUEST.contains(&right.verb.as_str()))
            .filter(|right| (right.verb.as_str(), right.resource.as_str()) != AFTER_A_DAY)
            .filter(|right| !kinds.iter().any(|used| covers(right, used)));
        wrong.extend(idle.map(|right| format!("{name} never used {right}")));
        println!("{name}: {} requests, {} kinds of them", done.len(), kinds.len());
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

fn covers(right: &Use, used: &Use) -> bool {
    right.group == used.group
        && right.resource == used.resource
        && right.verb == used.verb
        && (right.name.is_none() || right.name == used.name)
}

fn decision(event: &Value) -> &str {
    text(event, "/annotations/authorization.k8s.io~1decision")
}

fn of_event(event: &Value) -> Use {
    let subresource = text(event, "/objectRef/subresource");
    let resource = text(event, "/objectRef/resource");
    Use {
        group: text(event, "/objectRef/apiGroup").to_owned(),
        resource: if subresource.is_empty() {
            resource.to_owned()
        } else {
            format!("{resource}/{subresource}")
        },
        verb: text(event, "/verb").to_owned(),
        name: event
            .pointer("/objectRef/name")
            .and_then(Value::as_str)
            .map(str::to_owned),
    }
}

fn text<'a>(event: &'a Value, pointer: &str) -> &'a str {
    event.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The accounts and roles that are shipped.
#[derive(Default)]
struct Manifests {
    accounts: Vec<ServiceAccount>,
    cluster_roles: Vec<ClusterRole>,
    roles: Vec<Role>,
    cluster_bindings: Vec<ClusterRoleBinding>,
    bindings: Vec<RoleBinding>,
}

impl Manifests {
    fn read() -> anyhow::Result<Self> {
        let mut manifests = Self::default();
        for file in fs::read_dir(in_repository("manifests"))? {
            let path = file?.path();
            let content = fs::read_to_string(&path)?;
            for document in serde_yaml::Deserializer::from_str(&content) {
                let value = Value::deserialize(document).with_context(|| path.display().to_string())?;
                manifests.take(value)?;
            }
        }
        ensure!(!manifests.accounts.is_empty(), "no ServiceAccount is shipped");
        Ok(manifests)
    }

    fn take(&mut self, value: Value) -> anyhow::Result<()> {
        match text(&value, "/kind").to_owned().as_str() {
            "ServiceAccount" => self.accounts.push(read(value)?),
            "ClusterRole" => self.cluster_roles.push(read(value)?),
            "Role" => self.roles.push(read(value)?),
            "ClusterRoleBinding" => self.cluster_bindings.push(read(value)?),
            "RoleBinding" => self.bindings.push(read(value)?),
            _ => {}
        }
        Ok(())
    }

    fn rights_of(&self, account: &str) -> BTreeSet<Use> {
        let is_bound = |subjects: &Option<Vec<Subject>>| {
            subjects
                .iter()
                .flatten()
                .any(|subject| subject.kind == "ServiceAccount" && subject.name == account)
        };
        let everywhere = self
            .cluster_bindings
            .iter()
            .filter(|bound| is_bound(&bound.subjects));
        let here = self.bindings.iter().filter(|bound| is_bound(&bound.subjects));
        let referred = everywhere
            .map(|bound| &bound.role_ref)
            .chain(here.map(|bound| &bound.role_ref));
        referred
            .filter(|role| role.name != GRANTABLE)
            .flat_map(|role| self.rules(&role.kind, &role.name))
            .flat_map(|rule| of_rule(&rule))
            .collect()
    }

    fn rules(&self, kind: &str, name: &str) -> Vec<PolicyRule> {
        let is_it = |found: &Option<String>| found.as_deref() == Some(name);
        let rules = if kind == "Role" {
            let roles = self.roles.iter().find(|role| is_it(&role.metadata.name));
            roles.and_then(|role| role.rules.clone())
        } else {
            let roles = self.cluster_roles.iter().find(|role| is_it(&role.metadata.name));
            roles.and_then(|role| role.rules.clone())
        };
        rules.unwrap_or_default()
    }
}

fn read<K: DeserializeOwned>(value: Value) -> anyhow::Result<K> {
    Ok(serde_json::from_value(value)?)
}

fn of_rule(rule: &PolicyRule) -> Vec<Use> {
    let names: Vec<Option<String>> = match rule.resource_names.as_deref().unwrap_or_default() {
        [] => vec![None],
        names => names.iter().cloned().map(Some).collect(),
    };
    let mut uses = Vec::new();
    for group in rule.api_groups.iter().flatten() {
        for resource in rule.resources.iter().flatten() {
            for verb in &rule.verbs {
                uses.extend(names.iter().map(|name| Use {
                    group: group.clone(),
                    resource: resource.clone(),
                    verb: verb.clone(),
                    name: name.clone(),
                }));
            }
        }
    }
    uses
}
