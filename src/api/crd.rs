//! The CustomResourceDefinitions, generated from the types.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube::CustomResourceExt;
use serde_json::json;

use super::{AccessGrant, AccessPolicy, conditions, reasons};

/// Every CustomResourceDefinition of Curfew, in the order in which to apply them.
pub fn crds() -> Vec<CustomResourceDefinition> {
    let mut policy = AccessPolicy::crd();
    let mut grant = AccessGrant::crd();
    roots(&mut policy).for_each(forbid_null);
    roots(&mut grant).for_each(|root| {
        forbid_null(root);
        if let Some(status) = root
            .properties
            .as_mut()
            .and_then(|properties| properties.get_mut("status"))
        {
            wait_for_the_first_pass(status);
        }
    });
    vec![policy, grant]
}

fn roots(crd: &mut CustomResourceDefinition) -> impl Iterator<Item = &mut JSONSchemaProps> {
    crd.spec.versions.iter_mut().filter_map(|version| {
        version
            .schema
            .as_mut()
            .and_then(|schema| schema.open_api_v3_schema.as_mut())
    })
}

/// An optional field is absent or has a value. The generator makes it nullable besides, which would give a
/// transition rule a third state to miss.
fn forbid_null(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    schema
        .properties
        .iter_mut()
        .flat_map(|properties| properties.values_mut())
        .for_each(forbid_null);
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        forbid_null(items);
    }
}

/// Gives a new grant a status that says "something is to come", so that tools which read kstatus (Helm 4, Flux)
/// wait instead of taking an object without conditions for finished. Gateway API does the same.
fn wait_for_the_first_pass(status: &mut JSONSchemaProps) {
    let condition = |kind: &str, is: &str| {
        json!({
            "type": kind,
            "status": is,
            "reason": reasons::PENDING,
            "message": "waiting for Curfew",
            // A default cannot know the time; the Gateway API uses the epoch as well.
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
