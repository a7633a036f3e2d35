//! Paths and test names in the documents exist.

use std::collections::BTreeSet;
use std::fs;

use regex::Regex;

use super::source::{root, sources};

const DOCUMENTS: [&str; 3] = ["CONTRIBUTING.md", "ARCHITECTURE.md", "docs/architecture.md"];

fn quoted(document: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(document)).unwrap();
    let quotes = Regex::new("`([^`\n]+)`").unwrap();
    quotes
        .captures_iter(&text)
        .map(|found| found[1].to_owned())
        .collect()
}

#[test]
fn every_path_in_the_documents_exists() {
    let path = Regex::new(r"^(src|e2e|docs|crds|manifests|examples|tests)/[A-Za-z0-9_./-]*$").unwrap();
    let mut checked = 0;
    for document in DOCUMENTS {
        for name in quoted(document).iter().filter(|name| path.is_match(name)) {
            checked += 1;
            assert!(
                root().join(name).exists(),
                "{document} names {name}, which does not exist"
            );
        }
    }
    assert!(checked > 20, "only {checked} paths were found");
}

#[test]
fn every_test_name_in_contributing_exists() {
    let mut names = BTreeSet::new();
    let function = Regex::new(r"(?m)^\s*(?:pub )?(?:async )?fn (\w+)").unwrap();
    for folder in ["src", "e2e"] {
        for file in sources(folder) {
            let inner = file
                .path
                .split_once('/')
                .map_or("", |(_, inner)| inner)
                .trim_end_matches(".rs");
            let module = inner.trim_end_matches("/mod").replace('/', "::");
            for found in function.captures_iter(&file.text) {
                names.insert((folder, module.clone(), found[1].to_owned()));
            }
        }
    }
    let test = Regex::new(r"^(?:core|cluster|app|api|e2e)(?:::\w+){2,}$").unwrap();
    let mut checked = 0;
    for name in quoted("CONTRIBUTING.md")
        .iter()
        .filter(|name| test.is_match(name))
    {
        checked += 1;
        let (path, function) = name.rsplit_once("::").unwrap();
        let (folder, module) = path
            .strip_prefix("e2e::")
            .map_or(("src", path), |inner| ("e2e", inner));
        // A test of `core::rbac::rules` stands in its file, or in `tests/rules.rs` beside it.
        let tail = module
            .trim_end_matches("::tests")
            .trim_end_matches("::properties");
        let found = names.iter().any(|(place, file, found)| {
            *place == folder
                && found == function
                && (file == module || file == tail || stands_beside(file, module))
        });
        assert!(
            found,
            "CONTRIBUTING.md names the test {name}, which does not exist"
        );
    }
    assert!(checked > 60, "only {checked} test names were found");
}

/// Whether `core::rbac::tests::rules` is the file of the test module `core::rbac::rules::tests`.
fn stands_beside(file: &str, module: &str) -> bool {
    let mut parts: Vec<&str> = module.split("::").collect();
    let Some(kind) = parts.pop() else { return false };
    let Some(tested) = parts.pop() else { return false };
    let folder = parts.join("::");
    let own = format!("{folder}::{tested}");
    let beside = match kind {
        "properties" => vec![
            format!("{folder}::tests::{tested}_properties"),
            format!("{folder}::tests::properties"),
            format!("{own}::tests::properties"),
        ],
        _ => vec![
            format!("{folder}::tests::{tested}"),
            format!("{own}::tests::parsing"),
            format!("{own}::tests::table"),
        ],
    };
    beside.iter().any(|candidate| candidate == file)
}
