//! The end-to-end tests.
fn main() {}
