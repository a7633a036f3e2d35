//! Duration, as written in objects.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Form of a duration: up to three groups. CEL and Go can convert each group.
const FORM: &str = "^([0-9]{1,5}(h|m|s)){1,3}$";

/// Duration as text, in hours, minutes and seconds: `8h`, `1h30m`, `90s`. At least 1 s, at most 768 h (32 days).
///
/// It stays text so that every stored object can be read. [`crate::core::time::duration::AccessDuration`] is the parsed form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DurationText(pub String);

impl JsonSchema for DurationText {
    fn schema_name() -> Cow<'static, str> {
        "DurationText".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            // Three groups of five digits and a unit.
            "maxLength": 18,
            // Rules, not a `pattern`: the message of a rule can say which form is accepted. The second rule checks only
            // a text that passes the first, because CEL reports a failed conversion as a programming error.
            "x-kubernetes-validations": [
                {
                    "rule": format!("self.matches('{FORM}')"),
                    "message": "write a duration in hours, minutes and seconds, such as 8h, 1h30m or 90s",
                },
                {
                    "rule": format!(
                        "!self.matches('{FORM}') || (duration(self) >= duration('1s') && duration(self) <= duration('768h'))"
                    ),
                    "message": "a duration lies between 1s and 768h",
                },
            ],
        })
    }
}

impl From<&str> for DurationText {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for DurationText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
