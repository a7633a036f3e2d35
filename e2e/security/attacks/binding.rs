//! Freeing, widening and copying a binding or a Role of ours.

use serde_json::{Value, json};

use super::attack::{Attack, Holds, Request, Who, every_way};
use super::scene::Ground;
use crate::support::json::RBAC;
use crate::support::manifests::{binding, role};

/// The attacks, all by whoever is `admin` in the namespace and holds what the Role gives.
pub fn attacks(ground: &Ground<'_>) -> Vec<Attack> {
    [of_the_binding(ground), of_the_role(ground), forgeries(ground)].concat()
}

/// Getting rid of one's own mark, to be free of what it forbids while the access still stands. Needs
/// [`Ground::mark_carol`].
pub fn on_the_mark(ground: &Ground<'_>) -> Vec<Attack> {
    let path = ground.at(RBAC, &format!("rolebindings/{}", ground.mark()));
    let all = ground.at(RBAC, "rolebindings");
    let stays = Holds::Guard(
        "curfew-binding",
        "it must stay as long as the access. To end the access",
    );
    let lasts = Holds::Guard("curfew-no-souvenirs", "it would outlast the access");
    let empty = json!({"subjects": []});
    [
        (
            "deletes her mark",
            Request::delete(path.clone(), json!({})),
            &stays,
        ),
        (
            "deletes every binding of ours",
            Request::delete(all, json!({})).selecting("access.curfew.dev/grant-uid"),
            &stays,
        ),
        (
            "empties her mark",
            Request::merge(path.clone(), empty.clone()),
            &lasts,
        ),
        (
            "empties her mark, as kubectl edit does",
            Request::strategic(path.clone(), empty),
            &lasts,
        ),
        (
            "empties her mark, by JSON patch",
            Request::json(path, json!([{"op": "remove", "path": "/subjects"}])),
            &lasts,
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

fn more_owners(object: &Value) -> Value {
    let mut owners = object["metadata"]["ownerReferences"].clone();
    if let Some(owners) = owners.as_array_mut() {
        owners.push(json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "mine",
            "uid": "8d7f9f4e-0000-4000-8000-000000000000"}));
    }
    owners
}

fn metadata(object: &Value) -> Vec<(&'static str, Value)> {
    vec![
        (
            "parts it from its fuse",
            json!({"metadata": {"ownerReferences": null}}),
        ),
        (
            "gives it a second owner",
            json!({"metadata": {"ownerReferences": more_owners(object)}}),
        ),
        (
            "gives it to another fuse",
            json!({"metadata": {"ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job",
                "name": object["metadata"]["name"], "uid": "8d7f9f4e-0000-4000-8000-000000000000"}]}}),
        ),
        (
            "holds it back by a finalizer",
            json!({"metadata": {"finalizers": ["example.com/mine"]}}),
        ),
        (
            "takes its label",
            json!({"metadata": {"labels": {"access.curfew.dev/grant-uid": null}}}),
        ),
        (
            "labels it as another's",
            json!({"metadata": {"labels": {"access.curfew.dev/grant-uid": "another"}}}),
        ),
        (
            "says that it ends later",
            json!({"metadata": {"annotations": {"access.curfew.dev/not-after": "2036-01-01T00:00:00.000000Z"}}}),
        ),
        (
            "says that it never ends",
            json!({"metadata": {"annotations": {"access.curfew.dev/not-after": null}}}),
        ),
        (
            "adds a label of Curfew's",
            json!({"metadata": {"labels": {"access.curfew.dev/mine": "yes"}}}),
        ),
    ]
}

fn user(name: &str) -> Value {
    json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name})
}

fn of_the_binding(ground: &Ground<'_>) -> Vec<Attack> {
    let kept = "Labels, end, owner and finalizers of this RoleBinding cannot be changed. To end the access, delete its AccessGrant";
    let emptied = "The subjects of this RoleBinding can only be removed. If someone else needs access, create an AccessGrant";
    let mut changes: Vec<_> = metadata(&ground.binding)
        .into_iter()
        .map(|(what, change)| (what, change, kept))
        .collect();
    for (what, subjects) in [
        ("gives it to somebody else", json!([user("mallory")])),
        (
            "gives it to somebody else as well",
            json!([user("alice"), user("mallory")]),
        ),
        (
            "gives it to a group",
            json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "devs"}]),
        ),
        (
            "gives it to a service account",
            json!([{"kind": "ServiceAccount", "name": "default", "namespace": "default"}]),
        ),
    ] {
        changes.push((what, json!({"subjects": subjects}), emptied));
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

fn of_the_role(ground: &Ground<'_>) -> Vec<Attack> {
    let mut changes = metadata(&ground.role);
    changes.push((
        "widens its rules",
        json!({"rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]}),
    ));
    changes.push(("empties its rules", json!({"rules": []})));
    let mut attacks = Vec::new();
    for (what, change) in changes {
        for (way, request) in every_way(&ground.role_at(), &ground.role, &change) {
            attacks.push(Attack {
                what: format!("of the Role: {what}, by {way}"),
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
    let guess = format!("curfew-{}", "0".repeat(32));
    let mut held = binding("mine", "view", "mallory");
    held["metadata"]["ownerReferences"] = ground.binding["metadata"]["ownerReferences"].clone();
    let mut generated = binding("a", "view", "mallory");
    crate::support::merge(
        &mut generated,
        json!({"metadata": {"name": null, "generateName": "curfew-"}}),
    );
    let ours = "with the label access.curfew.dev/grant-uid. Leave the label out";
    let name = Holds::Guard(
        "curfew-reserved-names",
        "are reserved for Curfew. Choose another name",
    );
    let mut attacks = vec![
        (
            "makes a binding that looks like ours",
            Request::create(bindings.clone(), labelled(binding("mine", "view", "mallory"))),
            Holds::Guard("curfew-binding", ours),
        ),
        (
            "makes one that our fuse holds",
            Request::create(bindings.clone(), labelled(held)),
            Holds::Guard("curfew-binding", ours),
        ),
        (
            "applies a binding that looks like ours",
            Request::apply(
                ground.at(RBAC, "rolebindings/mine"),
                "helm",
                labelled(binding("mine", "view", "mallory")),
            ),
            Holds::Guard("curfew-binding", ours),
        ),
        (
            "labels a binding that stands as ours",
            Request::merge(
                ground.at(RBAC, "rolebindings/bob"),
                json!({"metadata": {"labels": {"access.curfew.dev/grant-uid": "a"}}}),
            ),
            Holds::Guard("curfew-binding", "cannot be changed"),
        ),
        (
            "makes a Role that looks like ours",
            Request::create(roles.clone(), labelled(role("mine"))),
            Holds::Guard("curfew-role", ours),
        ),
        (
            "has a binding generated under a name of ours",
            Request::create(bindings.clone(), generated),
            name.clone(),
        ),
    ];
    for (what, path, object) in [
        (
            "has a binding ready under a name of ours",
            &bindings,
            binding(&guess, "view", "mallory"),
        ),
        (
            "has a mark ready under a name of ours",
            &bindings,
            binding(&format!("{guess}-elevated"), "view", "mallory"),
        ),
        ("has a Role ready under a name of ours", &roles, role(&guess)),
    ] {
        attacks.push((what, Request::create(path.clone(), object.clone()), name.clone()));
        let named = format!(
            "{path}/{}",
            object["metadata"]["name"].as_str().unwrap_or_default()
        );
        attacks.push((
            what,
            Request::apply(named, "argocd-controller", object),
            name.clone(),
        ));
    }
    let bob = attacks.into_iter().map(|(what, request, holds)| Attack {
        what: what.to_owned(),
        who: Who::Person("bob"),
        request,
        holds,
    });
    let mut twin = binding("twin", &ground.name, "mallory");
    twin["roleRef"]["kind"] = json!("Role");
    // Neither holds `bind` or writes bindings: alice holds what the Role gives, but only for a time.
    let rbac = ["alice", "eve"].map(|person| Attack {
        what: "binds our Role to somebody else".to_owned(),
        who: Who::Person(person),
        request: Request::create(bindings.clone(), twin.clone()),
        holds: Holds::Rbac,
    });
    bob.chain(rbac).collect()
}
