//! Tests about the source itself.

#[cfg(test)]
mod expression_budget;
#[cfg(test)]
pub(crate) mod golden;
#[cfg(test)]
mod layers;
