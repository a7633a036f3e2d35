//! Attacks on attested identity: a request or decision with a false user name or false groups.

use serde_json::{Value, json};

use super::attack::{Attack, Holds, Request, Who};
use super::scene::Ground;
use crate::support::json::CURFEW;

/// A kind of object whose spec states its author.
struct Statement {
    /// Verb for the names of the attacks.
    does: &'static str,
    /// Plural resource name, as in paths.
    kind: &'static str,
    /// Field of the spec that states the author.
    field: &'static str,
    /// Expected refusal of a false user name.
    another_name: Holds,
    /// Expected refusal of false groups.
    other_groups: Holds,
    /// Expected refusal of an invalid user name.
    no_name: Holds,
    /// Object of a person who states the truth, then merged with the last argument.
    honest: fn(&Ground<'_>, &str, Value) -> Value,
}

/// Attacks on the requester of a grant.
pub fn of_requesters(ground: &Ground<'_>) -> Vec<Attack> {
    let guard = "curfew-requester";
    let request = Statement {
        does: "requests access",
        kind: "accessgrants",
        field: "requester",
        another_name: Holds::Guard(guard, "spec.requester.username must be you"),
        other_groups: Holds::Guard(guard, "spec.requester.groups must be all of your groups"),
        no_name: Holds::Schema("spec.requester.username"),
        honest: |ground, person, edit| ground.asking(person, edit),
    };
    request.attacks(ground)
}

/// Attacks on the decider of a decision.
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

/// False user names: caller, stated name, stated groups, and the end of the attack's name.
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
        "as herself in another case",
    ),
    (
        "alice",
        "alice ",
        &["devs", "system:authenticated"],
        "as herself with a space at the end",
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
        "as alice, who is listed in a policy",
    ),
    (
        "bob",
        "erin",
        &["security", "system:authenticated"],
        "as erin, who is in another group",
    ),
];

/// False groups of carol, and the end of the attack's name.
const GROUPS: &[(&[&str], &str)] = &[
    (&["devs", "system:authenticated"], "omits the group contractors"),
    (&["devs", "contractors"], "omits the group system:authenticated"),
    (&[], "omits all of her groups"),
    (
        &["contractors", "devs", "system:authenticated"],
        "states her groups in another order",
    ),
    (
        &["devs", "devs", "contractors", "system:authenticated"],
        "states a group twice",
    ),
    (
        &["devs", "contractors", "leads", "system:authenticated"],
        "adds a group of approvers",
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

    /// Attack in which `person` creates the object with this statement of its author.
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

    /// The same lie by other kinds of request.
    fn other_ways(&self, ground: &Ground<'_>) -> [Attack; 3] {
        let alice = (self.honest)(ground, "alice", json!({}));
        let last_applied = json!({"metadata": {"annotations":
            {"kubectl.kubernetes.io/last-applied-configuration": alice.to_string()}}});
        let generated_name = json!({"metadata": {"name": null, "generateName": "tried-"}});
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
                "as alice by a client-side apply",
                "bob",
                Request::create(
                    ground.at(CURFEW, self.kind),
                    (self.honest)(ground, "alice", last_applied),
                ),
            ),
            attack(
                "as bob with a generated name",
                "alice",
                Request::create(
                    ground.at(CURFEW, self.kind),
                    (self.honest)(ground, "bob", generated_name),
                ),
            ),
        ]
    }

    /// Impersonation without the right to, and a false name while impersonating.
    fn on_behalf(&self, ground: &Ground<'_>) -> [Attack; 2] {
        let path = ground.at(CURFEW, self.kind);
        let masters = json!({"spec": {(self.field): {"groups": ["system:masters"]}}});
        [
            Attack {
                what: format!("{} and impersonates bob without the right to", self.does),
                who: Who::As("alice", "bob".to_owned()),
                request: Request::create(path.clone(), (self.honest)(ground, "bob", json!({}))),
                holds: Holds::Rbac,
            },
            Attack {
                what: format!("{} as the administrator while impersonating bob", self.does),
                who: Who::AlmightyAs("bob".to_owned()),
                request: Request::create(path, (self.honest)(ground, "admin", masters)),
                holds: self.another_name.clone(),
            },
        ]
    }
}
