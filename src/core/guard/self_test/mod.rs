//! Self-test of the admission guards: proof that the API server denies forgeries.
//!
//! Curfew trusts `spec.requester` and `spec.decider` because the API server checks them. Curfew therefore grants access
//! only while it has a proof of that check. The proof has two halves:
//!
//! 1. The installed guards equal the generated guards ([`compare`]).
//! 2. In the namespace of the access, each guard denies its forgeries ([`verdict`]). A binding can leave out one
//!    namespace, which a test in another namespace does not notice. A new guard is not in force until the API server has
//!    loaded it.

pub mod canary;
pub mod differences;
pub mod evidence;
pub mod forgery;
pub mod trial;

pub use crate::core::guard::self_test::canary::canary_identity;
pub use crate::core::guard::self_test::differences::{GuardReading, compare};
pub use crate::core::guard::self_test::evidence::{Evidence, VALIDITY, standing};
pub use crate::core::guard::self_test::forgery::{Attempt, Forger, Forgery, Scene};
pub use crate::core::guard::self_test::trial::{Trial, TrialOutcome, trial, verdict};
pub use crate::core::guard::state::GuardState;

/// End of each message about missing or weakened guards.
const REMEDY: &str = "Run `curfew guards | kubectl apply --server-side -f -`, with the operator's flags";
