//! The people of the tests, whom the API server knows by a token file.

use std::fs::File;
use std::io::Read;

use anyhow::Context;

/// Somebody who may call the API server.
#[derive(Debug, Clone, Copy)]
pub struct Person {
    /// The user name.
    pub name: &'static str,
    /// The groups besides `system:authenticated`, which everybody is in.
    pub groups: &'static [&'static str],
}

/// The members of the cast; none has any permission before a test gives it.
pub const PEOPLE: &[Person] = &[
    Person {
        name: "alice",
        groups: &["devs"],
    },
    Person {
        name: "bob",
        groups: &["leads"],
    },
    Person {
        name: "carol",
        groups: &["devs", "contractors"],
    },
    Person {
        name: "dave",
        groups: &["security"],
    },
    Person {
        name: "erin",
        groups: &["security"],
    },
    Person {
        name: "frank",
        groups: &["security"],
    },
    Person {
        name: "eve",
        groups: &["devs"],
    },
];

/// Those who make the plane work.
const STAFF: &[Person] = &[
    Person {
        name: ADMIN,
        groups: &["system:masters"],
    },
    Person {
        name: CONTROLLER_MANAGER,
        groups: &[],
    },
];

/// The user who may do everything.
pub const ADMIN: &str = "admin";
/// The controller-manager's own user; each controller has a ServiceAccount.
pub const CONTROLLER_MANAGER: &str = "system:kube-controller-manager";

/// One token a person, made anew for each plane.
#[derive(Debug)]
pub struct Tokens(Vec<(Person, String)>);

impl Tokens {
    /// Makes a token for everybody.
    pub fn new() -> anyhow::Result<Self> {
        let everybody = PEOPLE.iter().chain(STAFF);
        let tokens = everybody.map(|person| Ok((*person, random_hex()?)));
        Ok(Self(tokens.collect::<anyhow::Result<_>>()?))
    }

    /// The token of the person of that name.
    pub fn of(&self, name: &str) -> anyhow::Result<&str> {
        let found = self.0.iter().find(|(person, _)| person.name == name);
        let (_, token) = found.with_context(|| format!("{name} is not one of PEOPLE"))?;
        Ok(token)
    }

    /// The API server's token file: `token,user,uid,"group1,group2"`.
    pub fn file(&self) -> String {
        let line = |(person, token): &(Person, String)| {
            let (name, groups) = (person.name, person.groups.join(","));
            format!("{token},{name},uid-of-{name},\"{groups}\"\n")
        };
        self.0.iter().map(line).collect()
    }
}

fn random_hex() -> anyhow::Result<String> {
    let mut bytes = [0_u8; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}
