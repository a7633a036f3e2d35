//! The self-test of the admission guards: whether the API server refuses what it has to refuse.
//!
//! Curfew believes who asked because the API server checked it, so it gives access only while it has proof that the
//! API server does. The proof has two halves. The guards and their bindings are there, word for word as generated
//! ([`compare`]); and in the namespace in question each forgery is refused by its guard ([`verdict`]): a binding that
//! only leaves out one namespace is invisible to a test elsewhere, and a guard that has just been installed is not
//! loaded yet.

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
