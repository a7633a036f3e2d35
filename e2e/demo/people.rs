//! The cast.

use anyhow::Context as _;

use crate::harness::{PEOPLE, Person};

/// Somebody who types commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Runs the cluster.
    Admin,
    /// An engineer of the group `devs`.
    Alice,
    /// Another one.
    Eve,
    /// A lead of their team, of the group `leads`.
    Bob,
    /// Of the group `security`.
    Dave,
}

impl Who {
    /// Their name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Alice => "alice",
            Self::Eve => "eve",
            Self::Bob => "bob",
            Self::Dave => "dave",
        }
    }

    /// The arguments with which the admin of a cluster acts as them.
    pub fn impersonation(self) -> anyhow::Result<Vec<&'static str>> {
        if self == Self::Admin {
            return Ok(Vec::new());
        }
        let Person { name, groups } = PEOPLE
            .iter()
            .find(|person| person.name == self.name())
            .with_context(|| format!("{} is not one of the people", self.name()))?;
        let groups = groups.iter().flat_map(|group| ["--as-group", group]);
        Ok(["--as", name].into_iter().chain(groups).collect())
    }
}
