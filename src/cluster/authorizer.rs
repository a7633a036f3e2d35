//! Access reviews: rights of the operator and of revokers, as the API server knows them.

use std::collections::BTreeSet;

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SelfSubjectRulesReview,
    SelfSubjectRulesReviewSpec, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::Api;
use kube::api::PostParams;

use crate::api::{GROUP, RoleKind, Rule};
use crate::cluster::client::call;
use crate::cluster::client::error::Error;
use crate::cluster::context::Cluster;
use crate::cluster::objects::keys::GrantKey;
use crate::core::decision::Authority;
use crate::core::policy::Policy;
use crate::core::policy::preflight::OperatorRights;
use crate::core::request::caller::Caller;

/// The operator's rights that a policy needs.
pub async fn rights(edges: &Cluster, policy: &Policy, namespace: &str) -> Result<OperatorRights, Error> {
    let mut bindable = BTreeSet::new();
    for (kind, name) in policy.role_names() {
        if may_bind(edges, kind, name).await? {
            bindable.insert((kind, name.to_owned()));
        }
    }
    let held = if policy.offers_rules() {
        granted_rules(edges, namespace).await?
    } else {
        Vec::new()
    };
    Ok(OperatorRights { bindable, held })
}

/// Whether a user has the verb `revoke` on a grant.
///
/// # Caveats
/// The review has no extra attributes of the user, so an authorizer that needs them denies. A failed review is logged
/// and leaves the answer open.
pub async fn authority(edges: &Cluster, grant: &GrantKey, decider: &Caller) -> Authority {
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(decider.username.clone()),
            groups: Some(decider.groups.clone()),
            resource_attributes: Some(ResourceAttributes {
                group: Some(GROUP.to_owned()),
                resource: Some("accessgrants".to_owned()),
                verb: Some("revoke".to_owned()),
                namespace: Some(grant.namespace.clone()),
                name: Some(grant.name.clone()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let reviews = Api::<SubjectAccessReview>::all(edges.client.clone());
    match call(
        "check the right to revoke",
        reviews.create(&PostParams::default(), &review),
    )
    .await
    {
        Ok(answer) if answer.status.as_ref().is_some_and(|status| status.allowed) => Authority::Held,
        Ok(_) => Authority::NotHeld,
        Err(error) => {
            tracing::warn!(
                %error,
                reason = error.reason(),
                namespace = grant.namespace,
                grant = grant.name,
                "cannot check the right to revoke; the decision waits, will retry"
            );
            Authority::Unclear
        }
    }
}

async fn may_bind(edges: &Cluster, kind: RoleKind, name: &str) -> Result<bool, Error> {
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
        "check the right to bind",
        reviews.create(&PostParams::default(), &review),
    )
    .await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

/// Rules granted to the operator in a namespace. Its rights are cluster-wide, so every namespace gives the same answer.
async fn granted_rules(edges: &Cluster, namespace: &str) -> Result<Vec<Rule>, Error> {
    let review = SelfSubjectRulesReview {
        spec: SelfSubjectRulesReviewSpec {
            namespace: Some(namespace.to_owned()),
        },
        ..SelfSubjectRulesReview::default()
    };
    let reviews = Api::<SelfSubjectRulesReview>::all(edges.client.clone());
    let answer = call("read own rules", reviews.create(&PostParams::default(), &review)).await?;
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
