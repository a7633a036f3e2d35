//! Tests about the source itself: its layers, its names and the documents that point into it.

mod documents;
mod expression_budget;
pub(crate) mod golden;
mod layers;
mod names;
mod source;
