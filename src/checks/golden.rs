//! Golden files: texts that other programs read, such as metrics, reports and help.
//!
//! Each file in `tests/golden` is compared with the text of today's code. `CURFEW_GOLDEN=write cargo test --lib golden`
//! writes the files again; the diff then shows what users will see change.

use std::path::Path;

/// Compares `actual` with the golden file of this name, or writes the file if `CURFEW_GOLDEN` is `write`.
#[track_caller]
pub fn assert_golden(name: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var("CURFEW_GOLDEN").is_ok_and(|mode| mode == "write") {
        std::fs::write(&path, actual).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    let difference = expected
        .lines()
        .zip(actual.lines())
        .position(|(expected, actual)| expected != actual)
        .unwrap_or_else(|| expected.lines().count().min(actual.lines().count()));
    assert!(
        expected == actual,
        "tests/golden/{name} differs from line {}:\n  file: {:?}\n  code: {:?}\nIf the change is meant, run \
         CURFEW_GOLDEN=write cargo test --lib golden",
        difference + 1,
        expected.lines().nth(difference),
        actual.lines().nth(difference),
    );
}

/// JSON for a golden file: indented, and with each text for people replaced by `<text>`. `prose` names the keys of
/// these texts.
pub fn shape(mut document: serde_json::Value, prose: &[&str]) -> String {
    mask(&mut document, prose);
    serde_json::to_string_pretty(&document).unwrap() + "\n"
}

fn mask(value: &mut serde_json::Value, prose: &[&str]) {
    use serde_json::Value;
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                match member {
                    Value::String(text) if prose.contains(&key.as_str()) => "<text>".clone_into(text),
                    Value::Array(items) if prose.contains(&key.as_str()) => {
                        for item in items {
                            *item = "<text>".into();
                        }
                    }
                    other => mask(other, prose),
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                mask(item, prose);
            }
        }
        _ => {}
    }
}
