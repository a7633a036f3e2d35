//! Asking or deciding in another's name, or as less or more than one is.

use serde_json::{Value, json};

use super::attack::{Attack, Holds, Request, Who};
use super::scene::Ground;
use crate::support::json::CURFEW;

/// Something in which people state who they are.
struct Statement {
    /// What they do by it.
    does: &'static str,
    /// The kind of object, as paths name it.
    kind: &'static str,
    /// The field of its spec.
    field: &'static str,
    /// Who must refuse another name.
    another_name: Holds,
    /// Who must refuse other groups.
    other_groups: Holds,
    /// Who must refuse what is no name.
    no_name: Holds,
    /// One by somebody who states themselves; changed.
    honest: fn(&Ground<'_>, &str, Value) -> Value,
}

/// The attacks on who asks.
pub fn of_requesters(ground: &Ground<'_>) -> Vec<Attack> {
    let guard = "curfew-requester";
    let request = Statement {
        does: "asks",
        kind: "accessgrants",
        field: "requester",
        another_name: Holds::Guard(guard, "spec.requester.username must be you"),
        other_groups: Holds::Guard(guard, "spec.requester.groups must be all of your groups"),
        no_name: Holds::Schema("spec.requester.username"),
        honest: |ground, person, edit| ground.asking(person, edit),
    };
    request.attacks(ground)
}

/// The attacks on who decides.
pub fn of_deciders(ground: &Ground<'_>) -> Vec<Attack> {
    let guard = "curfew-decider";
    let decision = Statement {
        does: "decides",
        kind: "accessdecisions",
        field: "decider",
        another_name: Holds::Guard(guard, "spec.decider.username must be you"),
        other_groups: Holds::Guard(guard, "spec.decider.groups must be all of your groups"),
        no_name: Holds::Schema("spec.decider.username"),
        honest: |ground, person, edit| ground.approving(person, edit),
    };
    decision.attacks(ground)
}

/// Whoever states a name, the name, the groups, and what that is.
const NAMES: &[(&str, &str, &[&str], &str)] = &[
    ("alice", "bob", &["leads", "system:authenticated"], "as bob"),
    (
        "alice",
        "bob",
        &["devs", "system:authenticated"],
        "as bob with groups of her own",
    ),
    (
        "alice",
        "admin",
        &["system:masters", "system:authenticated"],
        "as the administrator",
    ),
    (
        "alice",
        "Alice",
        &["devs", "system:authenticated"],
        "as herself, spelled otherwise",
    ),
    (
        "alice",
        "alice ",
        &["devs", "system:authenticated"],
        "as herself with a space",
    ),
    (
        "alice",
        "system:serviceaccount:default:default",
        &["system:serviceaccounts", "system:authenticated"],
        "as a service account",
    ),
    (
        "bob",
        "alice",
        &["devs", "system:authenticated"],
        "as alice, whom a policy lists",
    ),
    (
        "bob",
        "erin",
        &["security", "system:authenticated"],
        "as erin, who is of another group",
    ),
];

/// What carol says of her groups.
const GROUPS: &[(&[&str], &str)] = &[
    (
        &["devs", "system:authenticated"],
        "hides that she is a contractor",
    ),
    (&["devs", "contractors"], "hides that she is authenticated"),
    (&[], "hides all of her groups"),
    (
        &["contractors", "devs", "system:authenticated"],
        "says her groups in another order",
    ),
    (
        &["devs", "devs", "contractors", "system:authenticated"],
        "says a group twice",
    ),
    (
        &["devs", "contractors", "leads", "system:authenticated"],
        "adds a group that decides",
    ),
    (
        &["devs", "contractors", "system:authenticated", "system:masters"],
        "adds system:masters",
    ),
];

impl Statement {
    fn attacks(&self, ground: &Ground<'_>) -> Vec<Attack> {
        let names = NAMES.iter().map(|(person, name, groups, what)| {
            let stated = json!({"username": name, "groups": groups});
            self.stating(
                ground,
                person,
                format!("{} {what}", self.does),
                &stated,
                &self.another_name,
            )
        });
        let groups = GROUPS.iter().map(|(groups, what)| {
            let stated = json!({"username": "carol", "groups": groups});
            let what = format!("{} and {what}", self.does);
            self.stating(ground, "carol", what, &stated, &self.other_groups)
        });
        let mut attacks: Vec<_> = names.chain(groups).collect();
        attacks.push(self.stating(
            ground,
            "alice",
            format!("{} with an invisible character in her name", self.does),
            &json!({"username": "alice\u{200b}", "groups": ["devs", "system:authenticated"]}),
            &self.no_name,
        ));
        attacks.push(self.stating(
            ground,
            "carol",
            format!("{} and states no groups", self.does),
            &json!({"username": "carol", "groups": null}),
            &self.other_groups,
        ));
        attacks.extend(self.other_ways(ground));
        attacks.extend(self.on_behalf(ground));
        attacks
    }

    /// Somebody creates it and states this.
    fn stating(
        &self,
        ground: &Ground<'_>,
        person: &'static str,
        what: String,
        stated: &Value,
        holds: &Holds,
    ) -> Attack {
        let body = (self.honest)(ground, person, json!({"spec": {(self.field): stated}}));
        Attack {
            what,
            who: Who::Person(person),
            request: Request::create(ground.at(CURFEW, self.kind), body),
            holds: holds.clone(),
        }
    }

    fn other_ways(&self, ground: &Ground<'_>) -> [Attack; 3] {
        let alice = (self.honest)(ground, "alice", json!({}));
        let last_applied = json!({"metadata": {"annotations":
            {"kubectl.kubernetes.io/last-applied-configuration": alice.to_string()}}});
        let nameless = json!({"metadata": {"name": null, "generateName": "tried-"}});
        let attack = |what: &str, who: &'static str, request: Request| Attack {
            what: format!("{} {what}", self.does),
            who: Who::Person(who),
            request,
            holds: self.another_name.clone(),
        };
        [
            attack(
                "as alice by a forced apply",
                "bob",
                Request::apply(ground.at(CURFEW, &format!("{}/tried", self.kind)), "helm", alice),
            ),
            attack(
                "as alice by an apply of kubectl's own",
                "bob",
                Request::create(
                    ground.at(CURFEW, self.kind),
                    (self.honest)(ground, "alice", last_applied),
                ),
            ),
            attack(
                "as bob by a generated name",
                "alice",
                Request::create(
                    ground.at(CURFEW, self.kind),
                    (self.honest)(ground, "bob", nameless),
                ),
            ),
        ]
    }

    fn on_behalf(&self, ground: &Ground<'_>) -> [Attack; 2] {
        let path = ground.at(CURFEW, self.kind);
        let masters = json!({"spec": {(self.field): {"groups": ["system:masters"]}}});
        [
            Attack {
                what: format!("{} in bob's name without the right to", self.does),
                who: Who::As("alice", "bob".to_owned()),
                request: Request::create(path.clone(), (self.honest)(ground, "bob", json!({}))),
                holds: Holds::Rbac,
            },
            Attack {
                what: format!("{} as the administrator while acting as bob", self.does),
                who: Who::AlmightyAs("bob".to_owned()),
                request: Request::create(path, (self.honest)(ground, "admin", masters)),
                holds: self.another_name.clone(),
            },
        ]
    }
}
