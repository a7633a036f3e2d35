//! Asking in another's name, or as less or more than one is.

use serde_json::{Value, json};

use super::attack::{Attack, CURFEW, Holds, Request, Who};
use super::ground::{Ground, requester};

/// The attacks.
pub fn attacks(ground: &Ground<'_>) -> Vec<Attack> {
    let grants = ground.at(CURFEW, "accessgrants");
    let create = |person: &'static str, what: &str, requester: Value, holds: Holds| Attack {
        what: what.to_owned(),
        who: Who::Person(person),
        request: Request::create(
            grants.clone(),
            ground.asking(person, json!({"spec": {"requester": requester}})),
        ),
        holds,
    };
    let name = |person: &'static str, what: &str, username: &str, groups: Value| {
        let stated = json!({"username": username, "groups": groups});
        create(
            person,
            what,
            stated,
            Holds::Guard("curfew-requester", "spec.requester.username must be you"),
        )
    };
    let groups = |person: &'static str, what: &str, groups: Value| {
        let stated = json!({"username": person, "groups": groups});
        create(
            person,
            what,
            stated,
            Holds::Guard(
                "curfew-requester",
                "spec.requester.groups must be all of your groups",
            ),
        )
    };
    let mut attacks = vec![
        name(
            "alice",
            "asks as bob",
            "bob",
            json!(["leads", "system:authenticated"]),
        ),
        name(
            "alice",
            "asks as bob with groups of her own",
            "bob",
            json!(["devs", "system:authenticated"]),
        ),
        name(
            "alice",
            "asks as the administrator",
            "admin",
            json!(["system:masters", "system:authenticated"]),
        ),
        name(
            "alice",
            "asks as herself, spelled otherwise",
            "Alice",
            json!(["devs", "system:authenticated"]),
        ),
        name(
            "alice",
            "asks as herself with a space",
            "alice ",
            json!(["devs", "system:authenticated"]),
        ),
        name(
            "alice",
            "asks as a service account",
            "system:serviceaccount:default:default",
            json!(["system:serviceaccounts", "system:authenticated"]),
        ),
        name(
            "bob",
            "asks as alice, who may get it",
            "alice",
            json!(["devs", "system:authenticated"]),
        ),
        groups(
            "carol",
            "hides that she is a contractor",
            json!(["devs", "system:authenticated"]),
        ),
        groups(
            "carol",
            "hides that she is authenticated",
            json!(["devs", "contractors"]),
        ),
        groups("carol", "hides all of her groups", json!([])),
        groups(
            "carol",
            "says her groups in another order",
            json!(["contractors", "devs", "system:authenticated"]),
        ),
        groups(
            "carol",
            "says a group twice",
            json!(["devs", "devs", "contractors", "system:authenticated"]),
        ),
        groups(
            "carol",
            "adds a group that decides",
            json!(["devs", "contractors", "leads", "system:authenticated"]),
        ),
        groups(
            "carol",
            "adds system:masters",
            json!(["devs", "contractors", "system:authenticated", "system:masters"]),
        ),
        create(
            "alice",
            "asks with an invisible character in her name",
            json!({"username": "alice\u{200b}", "groups": ["devs", "system:authenticated"]}),
            Holds::Schema("spec.requester.username"),
        ),
        Attack {
            what: "applies a grant of alice's".to_owned(),
            who: Who::Person("bob"),
            request: Request::apply(
                ground.at(CURFEW, "accessgrants/tried"),
                "helm",
                ground.asking("alice", json!({})),
            ),
            holds: Holds::Guard("curfew-requester", "spec.requester.username must be you, bob"),
        },
        Attack {
            what: "asks in bob's name without the right to".to_owned(),
            who: Who::As("alice", "bob".to_owned()),
            request: Request::create(grants.clone(), ground.asking("bob", json!({}))),
            holds: Holds::Rbac,
        },
        Attack {
            what: "asks for the administrator while acting as bob".to_owned(),
            who: Who::AlmightyAs("bob".to_owned()),
            request: Request::create(
                grants.clone(),
                ground.asking(
                    "admin",
                    json!({"spec": {"requester": {"groups": ["system:masters"]}}}),
                ),
            ),
            holds: Holds::Guard("curfew-requester", "spec.requester.username must be you, bob"),
        },
    ];
    let mut without = ground.asking("carol", json!({}));
    without["spec"]["requester"] = json!({"username": "carol"});
    attacks.push(Attack {
        what: "states no groups".to_owned(),
        who: Who::Person("carol"),
        request: Request::create(grants.clone(), without),
        holds: Holds::Guard(
            "curfew-requester",
            "spec.requester.groups must be all of your groups",
        ),
    });
    let mut generated = ground.asking(
        "alice",
        json!({"metadata": {"name": null, "generateName": "tried-"}}),
    );
    generated["spec"]["requester"] = requester("bob");
    attacks.push(Attack {
        what: "asks as bob by a generated name".to_owned(),
        who: Who::Person("alice"),
        request: Request::create(grants, generated),
        holds: Holds::Guard("curfew-requester", "spec.requester.username must be you, alice"),
    });
    attacks
}
