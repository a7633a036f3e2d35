//! Results of the effects of a plan.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::api::AccessGrant;
use crate::cluster::client::error::Error;
use crate::core::artifact::fuse::FuseState;
use crate::core::artifact::key::ArtifactKey;

/// Result of one effect.
pub(crate) enum Applied {
    /// The effect changed nothing that later effects need.
    Nothing,
    /// An artifact exists: its key, its uid and, of a fuse, its state.
    Made(ArtifactKey, String, Option<FuseState>),
    /// The grant as the API server returned it.
    Written(Box<AccessGrant>),
    /// The time at which all artifacts were proven absent.
    Proven(Timestamp),
}

/// Failure of a stage.
#[derive(Debug)]
pub struct Interrupted {
    /// The first error of the stage.
    pub error: Error,
    /// Artifacts that the API server refuses to create, each with its message; a retry would be refused again. Empty if
    /// another effect of the stage failed for another reason.
    pub refused: BTreeMap<ArtifactKey, String>,
}
