//! CustomResourceDefinitions, generated from the types.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube::CustomResourceExt;
use serde_json::json;

use crate::api::{AccessDecision, AccessGrant, AccessPolicy, conditions, reasons};

/// CustomResourceDefinitions of Curfew, in the order in which to apply them.
pub fn crds() -> Vec<CustomResourceDefinition> {
    let mut policy = AccessPolicy::crd();
    let mut grant = AccessGrant::crd();
    roots(&mut policy).for_each(tidy);
    roots(&mut grant).for_each(|root| {
        tidy(root);
        if let Some(status) = root
            .properties
            .as_mut()
            .and_then(|properties| properties.get_mut("status"))
        {
            set_pending_default(status);
        }
    });
    let mut decision = AccessDecision::crd();
    roots(&mut decision).for_each(tidy);
    vec![policy, grant, decision]
}

fn roots(crd: &mut CustomResourceDefinition) -> impl Iterator<Item = &mut JSONSchemaProps> {
    crd.spec.versions.iter_mut().filter_map(|version| {
        version
            .schema
            .as_mut()
            .and_then(|schema| schema.open_api_v3_schema.as_mut())
    })
}

/// Removes from a generated schema what Kubernetes does not accept or does not need.
fn tidy(schema: &mut JSONSchemaProps) {
    // An optional field is absent or has a value. Null would be a third state that a transition rule can miss.
    schema.nullable = None;
    // Kubernetes knows int32 and int64, and warns on every apply about any other integer format.
    schema.format = schema.format.take().filter(|format| !format.starts_with("uint"));
    // Doc comments have line breaks at the code's width; `kubectl explain` wraps lines itself.
    schema.description = schema.description.take().map(|text| {
        let paragraphs = text.split("\n\n").map(|paragraph| paragraph.replace('\n', " "));
        paragraphs.collect::<Vec<_>>().join("\n\n")
    });
    schema
        .properties
        .iter_mut()
        .flat_map(|properties| properties.values_mut())
        .for_each(tidy);
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        tidy(items);
    }
}

/// Default status of a new grant: `Reconciling`. Tools that read kstatus (Helm 4, Flux) then wait; they would treat an
/// object without conditions as finished. The Gateway API does the same.
fn set_pending_default(status: &mut JSONSchemaProps) {
    let condition = |kind: &str, status: &str| {
        json!({
            "type": kind,
            "status": status,
            "reason": reasons::PENDING,
            "message": "waiting for Curfew",
            // A default cannot contain the current time; the Gateway API uses the epoch as well.
            "lastTransitionTime": "1970-01-01T00:00:00Z",
        })
    };
    status.default = Some(JSON(json!({
        "conditions": [
            condition(conditions::ACTIVE, "False"),
            condition(conditions::RECONCILING, "True"),
        ]
    })));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crd_yaml(name: &str) -> String {
        let crd = crds()
            .into_iter()
            .find(|crd| crd.metadata.name.as_deref() == Some(name))
            .unwrap();
        serde_yaml::to_string(&crd).unwrap()
    }

    /// On failure, run `make crds`.
    #[test]
    fn the_committed_crds_match_the_types() {
        for (name, committed) in [
            (
                "accesspolicies.access.curfew.dev",
                include_str!("../../crds/accesspolicies.access.curfew.dev.yaml"),
            ),
            (
                "accessgrants.access.curfew.dev",
                include_str!("../../crds/accessgrants.access.curfew.dev.yaml"),
            ),
            (
                "accessdecisions.access.curfew.dev",
                include_str!("../../crds/accessdecisions.access.curfew.dev.yaml"),
            ),
        ] {
            assert!(
                crd_yaml(name) == committed,
                "crds/{name}.yaml is out of date: run make crds"
            );
        }
    }

    #[test]
    fn every_string_and_list_has_a_bound_and_every_list_a_type() {
        for crd in crds() {
            let name = crd.metadata.name.clone().unwrap();
            let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
            for part in ["spec", "status"] {
                assert_bounded(
                    &schema["openAPIV3Schema"]["properties"][part],
                    &format!("{name} {part}"),
                );
            }
        }
    }

    fn assert_bounded(schema: &serde_json::Value, path: &str) {
        let has = |key: &str| !schema[key].is_null();
        match schema["type"].as_str() {
            Some("string") => {
                assert!(
                    has("maxLength") || has("enum") || has("format"),
                    "{path} has no bound"
                );
            }
            Some("array") => {
                assert!(has("maxItems"), "{path} has no bound");
                assert!(
                    has("x-kubernetes-list-type") || path.contains("[]."),
                    "{path} has no list type"
                );
                assert_bounded(&schema["items"], &format!("{path}[]"));
            }
            Some("object") => {
                assert!(has("properties") || has("maxProperties"), "{path} has no bound");
                for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                    assert_bounded(property, &format!("{path}.{name}"));
                }
            }
            _ => {}
        }
    }
}
