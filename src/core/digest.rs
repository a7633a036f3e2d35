//! Hashes for comparison: of the access that people approve, and of requests.

use std::fmt::Write as _;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// SHA-256 over the JSON of a value: `sha256:` and 64 hexadecimal digits.
pub(super) fn sha256(value: &impl Serialize) -> String {
    // Serialization cannot fail: every hashed value has string keys only.
    let text = serde_json::to_vec(value).unwrap_or_default();
    Sha256::digest(&text)
        .iter()
        .fold(String::from("sha256:"), |mut text, byte| {
            // Writing to a string cannot fail.
            if write!(text, "{byte:02x}").is_err() {
                text.clear();
            }
            text
        })
}
