//! The people of the demo.

use anyhow::Context as _;

use crate::harness::{PEOPLE, Person};

/// A person who types commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The administrator of the cluster.
    Admin,
    /// An engineer of the group `devs`.
    Alice,
    /// Another engineer of the group `devs`.
    Eve,
    /// A lead of the team, of the group `leads`.
    Bob,
    /// A member of the group `security`.
    Dave,
}

impl Who {
    /// User name in the cluster, also shown before the `$` of a command.
    pub fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Alice => "alice",
            Self::Eve => "eve",
            Self::Bob => "bob",
            Self::Dave => "dave",
        }
    }

    /// Arguments of kubectl with which the administrator impersonates this person; none for the administrator.
    pub fn impersonation(self) -> anyhow::Result<Vec<&'static str>> {
        if self == Self::Admin {
            return Ok(Vec::new());
        }
        let Person { name, groups } = PEOPLE
            .iter()
            .find(|person| person.name == self.name())
            .with_context(|| format!("{} is not in the list of people of the tests", self.name()))?;
        let groups = groups.iter().flat_map(|group| ["--as-group", group]);
        Ok(["--as", name].into_iter().chain(groups).collect())
    }
}
