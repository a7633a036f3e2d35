//! Self-test of the admission guards: proof that the API server denies forgeries.
//!
//! Curfew trusts `spec.requester` and `spec.decider` because the API server checks them. Curfew therefore grants access
//! only while it has a proof of that check. The proof has two halves:
//!
//! 1. The installed guards equal the generated guards ([`compare`]).
//! 2. In the namespace of the access, each guard denies its forgeries ([`verdict`]). A binding can leave out one
//!    namespace, which a test in another namespace does not notice. A new guard is not in force until the API server has
//!    loaded it.

mod canary;
mod differences;
mod forgery;
mod standing;
mod trial;

pub use canary::canary_identity;
pub use differences::{Reading, compare};
pub use forgery::{Attempt, Forger, Forgery, Scene};
pub use standing::{Evidence, Standing, VALIDITY, standing};
pub use trial::{Trial, TrialOutcome, trial, verdict};

/// End of each message about missing or weakened guards.
const REMEDY: &str = "Run `curfew guards | kubectl apply --server-side -f -`, with the operator's flags";
