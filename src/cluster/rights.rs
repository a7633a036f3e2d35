//! What the operator may do, asked of the API server.

use std::collections::BTreeSet;

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SelfSubjectRulesReview,
    SelfSubjectRulesReviewSpec,
};
use kube::Api;
use kube::api::PostParams;

use super::edges::{Edges, call};
use super::error::Error;
use crate::api::{RoleKind, Rule};
use crate::core::Policy;
use crate::core::preflight::Rights;

/// The operator's rights, as far as a policy needs them.
pub async fn rights(edges: &Edges, policy: &Policy, namespace: &str) -> Result<Rights, Error> {
    let mut bindable = BTreeSet::new();
    for (kind, name) in policy.role_names() {
        if may_bind(edges, kind, name).await? {
            bindable.insert((kind, name.to_owned()));
        }
    }
    let held = if policy.offers_rules() {
        held(edges, namespace).await?
    } else {
        Vec::new()
    };
    Ok(Rights { bindable, held })
}

async fn may_bind(edges: &Edges, kind: RoleKind, name: &str) -> Result<bool, Error> {
    let resource = match kind {
        RoleKind::ClusterRole => "clusterroles",
        RoleKind::Role => "roles",
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                group: Some("rbac.authorization.k8s.io".to_owned()),
                resource: Some(resource.to_owned()),
                verb: Some("bind".to_owned()),
                name: Some(name.to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let reviews = Api::<SelfSubjectAccessReview>::all(edges.client.clone());
    let answer = call(
        "ask for the right to bind",
        reviews.create(&PostParams::default(), &review),
    )
    .await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

/// Rules the operator holds in a namespace; its rights are cluster-wide, so any namespace answers for all.
async fn held(edges: &Edges, namespace: &str) -> Result<Vec<Rule>, Error> {
    let review = SelfSubjectRulesReview {
        spec: SelfSubjectRulesReviewSpec {
            namespace: Some(namespace.to_owned()),
        },
        ..SelfSubjectRulesReview::default()
    };
    let reviews = Api::<SelfSubjectRulesReview>::all(edges.client.clone());
    let answer = call(
        "ask for own rules",
        reviews.create(&PostParams::default(), &review),
    )
    .await?;
    let rules = answer
        .status
        .map(|status| status.resource_rules)
        .unwrap_or_default();
    Ok(rules
        .into_iter()
        .map(|rule| Rule {
            api_groups: rule.api_groups.unwrap_or_default(),
            resources: rule.resources.unwrap_or_default(),
            verbs: rule.verbs,
            resource_names: rule.resource_names.unwrap_or_default(),
            non_resource_urls: Vec::new(),
        })
        .collect())
}
