//! Attacks on bindings and Roles of Curfew: detach, widen, copy and forge them.

use serde_json::{Value, json};

use super::attack::{Attack, Holds, Request, Who, every_way};
use super::scene::Ground;
use crate::support::json::RBAC;
use crate::support::manifests::{binding, role};

/// All attacks of this family.
///
/// Bob makes most of them: he is `admin` of the namespace and holds the rights of the Role. Alice and eve, whom RBAC
/// does not allow to bind roles, try to bind the Role.
pub fn attacks(ground: &Ground<'_>) -> Vec<Attack> {
    [binding_edits(ground), role_edits(ground), forgeries(ground)].concat()
}

/// Attacks on one's own elevation marker: without the marker, the guards against persistence no longer apply.
///
/// The scene must be prepared with [`Ground::mark_carol`].
pub fn on_the_mark(ground: &Ground<'_>) -> Vec<Attack> {
    let path = ground.at(RBAC, &format!("rolebindings/{}", ground.mark()));
    let all = ground.at(RBAC, "rolebindings");
    let not_deleted = Holds::Guard(
        "curfew-binding",
        "it must stay as long as the access. To end the access",
    );
    let not_edited = Holds::Guard("curfew-no-persistence", "it would outlast the access");
    let empty = json!({"subjects": []});
    [
        (
            "deletes her elevation marker",
            Request::delete(path.clone(), json!({})),
            &not_deleted,
        ),
        (
            "deletes all bindings of Curfew",
            Request::delete(all, json!({})).selecting("access.curfew.dev/grant-uid"),
            &not_deleted,
        ),
        (
            "removes the subject of her elevation marker",
            Request::merge(path.clone(), empty.clone()),
            &not_edited,
        ),
        (
            "removes the subject of her elevation marker, by strategic patch",
            Request::strategic(path.clone(), empty),
            &not_edited,
        ),
        (
            "removes the subject of her elevation marker, by JSON patch",
            Request::json(path, json!([{"op": "remove", "path": "/subjects"}])),
            &not_edited,
        ),
    ]
    .into_iter()
    .map(|(what, request, holds)| Attack {
        what: what.to_owned(),
        who: Who::Person("carol"),
        request,
        holds: holds.clone(),
    })
    .collect()
}

/// The owners of the object, and a `ConfigMap`.
fn more_owners(object: &Value) -> Value {
    let mut owners = object["metadata"]["ownerReferences"].clone();
    if let Some(owners) = owners.as_array_mut() {
        owners.push(json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "mine",
            "uid": "8d7f9f4e-0000-4000-8000-000000000000"}));
    }
    owners
}

/// Forbidden edits of the metadata of a binding or Role.
fn metadata_edits(object: &Value) -> Vec<(&'static str, Value)> {
    vec![
        (
            "removes the fuse as owner",
            json!({"metadata": {"ownerReferences": null}}),
        ),
        (
            "adds a second owner",
            json!({"metadata": {"ownerReferences": more_owners(object)}}),
        ),
        (
            "makes another fuse the owner",
            json!({"metadata": {"ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job",
                "name": object["metadata"]["name"], "uid": "8d7f9f4e-0000-4000-8000-000000000000"}]}}),
        ),
        (
            "adds a finalizer",
            json!({"metadata": {"finalizers": ["example.com/mine"]}}),
        ),
        (
            "removes the label",
            json!({"metadata": {"labels": {"access.curfew.dev/grant-uid": null}}}),
        ),
        (
            "changes the label to another grant",
            json!({"metadata": {"labels": {"access.curfew.dev/grant-uid": "another"}}}),
        ),
        (
            "changes the annotated end to a later time",
            json!({"metadata": {"annotations": {"access.curfew.dev/not-after": "2036-01-01T00:00:00.000000Z"}}}),
        ),
        (
            "removes the annotated end",
            json!({"metadata": {"annotations": {"access.curfew.dev/not-after": null}}}),
        ),
        (
            "adds a reserved label",
            json!({"metadata": {"labels": {"access.curfew.dev/mine": "yes"}}}),
        ),
    ]
}

fn user(name: &str) -> Value {
    json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name})
}

fn binding_edits(ground: &Ground<'_>) -> Vec<Attack> {
    let metadata_words = "Labels, end, owner and finalizers of this RoleBinding cannot be changed. To end the access, delete its AccessGrant";
    let subject_words = "The subjects of this RoleBinding can only be removed. If someone else needs access, create an AccessGrant";
    let mut changes: Vec<_> = metadata_edits(&ground.binding)
        .into_iter()
        .map(|(what, change)| (what, change, metadata_words))
        .collect();
    for (what, subjects) in [
        ("changes the subject to another user", json!([user("mallory")])),
        (
            "adds another user as subject",
            json!([user("alice"), user("mallory")]),
        ),
        (
            "changes the subject to a group",
            json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "devs"}]),
        ),
        (
            "changes the subject to a service account",
            json!([{"kind": "ServiceAccount", "name": "default", "namespace": "default"}]),
        ),
    ] {
        changes.push((what, json!({"subjects": subjects}), subject_words));
    }
    let mut attacks = Vec::new();
    for (what, change, words) in changes {
        for (way, request) in every_way(&ground.binding_at(), &ground.binding, &change) {
            attacks.push(Attack {
                what: format!("{what}, by {way}"),
                who: Who::Person("bob"),
                request,
                holds: Holds::Guard("curfew-binding", words),
            });
        }
    }
    attacks
}

fn role_edits(ground: &Ground<'_>) -> Vec<Attack> {
    let mut changes = metadata_edits(&ground.role);
    changes.push((
        "changes the rules",
        json!({"rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]}),
    ));
    changes.push(("removes the rules", json!({"rules": []})));
    let mut attacks = Vec::new();
    for (what, change) in changes {
        for (way, request) in every_way(&ground.role_at(), &ground.role, &change) {
            attacks.push(Attack {
                what: format!("Role: {what}, by {way}"),
                who: Who::Person("bob"),
                request,
                holds: Holds::Guard(
                    "curfew-role",
                    "finalizers of this Role cannot be changed. To end the access, delete its AccessGrant",
                ),
            });
        }
    }
    attacks
}

fn forgeries(ground: &Ground<'_>) -> Vec<Attack> {
    let (roles, bindings) = (ground.at(RBAC, "roles"), ground.at(RBAC, "rolebindings"));
    let labelled = |mut object: Value| {
        object["metadata"]["labels"] =
            json!({"access.curfew.dev/grant-uid": ground.grant["metadata"]["uid"]});
        object
    };
    let reserved_name = format!("curfew-{}", "0".repeat(32));
    let mut owned = binding("mine", "view", "mallory");
    owned["metadata"]["ownerReferences"] = ground.binding["metadata"]["ownerReferences"].clone();
    let mut generated = binding("a", "view", "mallory");
    crate::support::merge(
        &mut generated,
        json!({"metadata": {"name": null, "generateName": "curfew-"}}),
    );
    let label_words = "with the label access.curfew.dev/grant-uid. Leave the label out";
    let name_is_reserved = Holds::Guard(
        "curfew-reserved-names",
        "are reserved for Curfew. Choose another name",
    );
    let mut attacks = vec![
        (
            "creates a binding with the label of the grant",
            Request::create(bindings.clone(), labelled(binding("mine", "view", "mallory"))),
            Holds::Guard("curfew-binding", label_words),
        ),
        (
            "creates a binding with the label, owned by the fuse",
            Request::create(bindings.clone(), labelled(owned)),
            Holds::Guard("curfew-binding", label_words),
        ),
        (
            "applies a binding with the label of the grant",
            Request::apply(
                ground.at(RBAC, "rolebindings/mine"),
                "helm",
                labelled(binding("mine", "view", "mallory")),
            ),
            Holds::Guard("curfew-binding", label_words),
        ),
        (
            "adds the label to an existing binding",
            Request::merge(
                ground.at(RBAC, "rolebindings/bob"),
                json!({"metadata": {"labels": {"access.curfew.dev/grant-uid": "a"}}}),
            ),
            Holds::Guard("curfew-binding", "cannot be changed"),
        ),
        (
            "creates a Role with the label of the grant",
            Request::create(roles.clone(), labelled(role("mine"))),
            Holds::Guard("curfew-role", label_words),
        ),
        (
            "creates a binding with a generated name that is reserved",
            Request::create(bindings.clone(), generated),
            name_is_reserved.clone(),
        ),
    ];
    for (what, path, object) in [
        (
            "creates a binding with a reserved name",
            &bindings,
            binding(&reserved_name, "view", "mallory"),
        ),
        (
            "creates an elevation marker with a reserved name",
            &bindings,
            binding(&format!("{reserved_name}-elevated"), "view", "mallory"),
        ),
        (
            "creates a Role with a reserved name",
            &roles,
            role(&reserved_name),
        ),
    ] {
        attacks.push((
            what,
            Request::create(path.clone(), object.clone()),
            name_is_reserved.clone(),
        ));
        let object_path = format!(
            "{path}/{}",
            object["metadata"]["name"].as_str().unwrap_or_default()
        );
        attacks.push((
            what,
            Request::apply(object_path, "argocd-controller", object),
            name_is_reserved.clone(),
        ));
    }
    let by_bob = attacks.into_iter().map(|(what, request, holds)| Attack {
        what: what.to_owned(),
        who: Who::Person("bob"),
        request,
        holds,
    });
    let mut twin = binding("twin", &ground.name, "mallory");
    twin["roleRef"]["kind"] = json!("Role");
    // Neither may write bindings or holds `bind`. Alice holds the rights of the Role, but only for a time.
    let by_others = ["alice", "eve"].map(|person| Attack {
        what: "binds a Role of Curfew to another user".to_owned(),
        who: Who::Person(person),
        request: Request::create(bindings.clone(), twin.clone()),
        holds: Holds::Rbac,
    });
    by_bob.chain(by_others).collect()
}
