//! Which layer, folder and crate each file may name. Allow-lists: a name that is not listed is refused.

use super::source::{Source, root, sources};

/// What one layer may name.
struct Layer {
    /// Folder below `src`.
    name: &'static str,
    /// Layers below it.
    layers: &'static [&'static str],
    /// Crates, or parts of a crate.
    crates: &'static [&'static str],
}

/// `cluster`, `cloud` and `integrations` are siblings: one for each kind of outside world.
const LAYERS: [Layer; 4] = [
    Layer {
        name: "api",
        layers: &["api"],
        crates: &[
            "std::borrow",
            "std::collections",
            "std::fmt",
            "k8s_openapi::apiextensions_apiserver",
            "k8s_openapi::apimachinery",
            "kube::CustomResource",
            "kube::CustomResourceExt",
            "kube::KubeSchema",
            "schemars",
            "serde",
            "serde_json",
        ],
    },
    Layer {
        name: "core",
        layers: &["api", "core"],
        crates: &[
            "std::borrow",
            "std::cmp",
            "std::collections",
            "std::fmt",
            "std::hash",
            "std::iter",
            "std::mem",
            "std::panic",
            "std::rc",
            "std::slice",
            "std::str",
            "std::sync",
            "std::time::Duration",
            "cel",
            "jiff",
            "k8s_openapi::api",
            "k8s_openapi::apimachinery",
            "kube::core",
            "regex",
            "serde",
            "serde_json",
            "sha2",
            "thiserror",
        ],
    },
    Layer {
        name: "cluster",
        layers: &["api", "core", "cluster"],
        crates: &[
            "std",
            "futures",
            "getrandom",
            "http",
            "jiff",
            "k8s_openapi",
            "kube",
            "kube_runtime",
            "parking_lot",
            "serde",
            "serde_json",
            "thiserror",
            "tokio",
            "tower",
            "tracing",
        ],
    },
    Layer {
        name: "app",
        layers: &["api", "core", "cluster", "app"],
        crates: &[
            "std",
            "axum",
            "clap",
            "futures",
            "getrandom",
            "http",
            "jiff",
            "k8s_openapi",
            "kube",
            "kube_runtime",
            "parking_lot",
            "prometheus_client",
            "serde",
            "serde_json",
            "serde_yaml",
            "thiserror",
            "tokio",
            "tracing",
            "tracing_subscriber",
            "unicode_width",
        ],
    },
];

/// Order of the folders and files of `core`. Each imports only from groups before its own; those of one group do not
/// know each other.
const CORE: [&[&str]; 9] = [
    &["time", "digest", "conditions"],
    &["settings", "rbac", "request", "replica"],
    &["expression"],
    &["policy", "artifact"],
    &["decision", "guard"],
    &["facts"],
    &["evaluate", "audit"],
    &["grant"],
    &["plan", "cleanup"],
];

/// Files that may read a wall clock, each with its reason. The operator has one clock; a program that decides by
/// another one may decide by a wrong one.
const CLOCK_READERS: [&str; 5] = [
    // The clock itself.
    "src/cluster/client/clock.rs",
    // The sweep uses the earlier of two clocks.
    "src/cluster/cleanup/sweep.rs",
    "src/app/sweep/mod.rs",
    // Drain decides nothing by time; its report names the time.
    "src/app/drain/mod.rs",
    // The renewal time in the Lease, which no replica decides by.
    "src/app/operator/replica/leader.rs",
];

/// Names of crates of this package's manifest, as they are written in code.
fn dependencies() -> Vec<String> {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let mut names = vec!["std".to_owned(), "core".to_owned(), "alloc".to_owned()];
    let mut in_list = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            in_list = line.contains("dependencies");
        } else if in_list && let Some((name, _)) = line.split_once(" =") {
            names.push(name.replace('-', "_"));
        }
    }
    names
}

fn starts_with(name: &str, prefix: &str) -> bool {
    name == prefix
        || name
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.starts_with("::"))
}

/// The crate that a path begins with, if a path outside this crate is named.
fn outside<'a>(name: &str, dependencies: &'a [String]) -> Option<&'a str> {
    let first = name.split("::").next()?;
    dependencies
        .iter()
        .map(String::as_str)
        .find(|dependency| *dependency == first)
}

#[test]
fn a_layer_names_only_allowed_layers_and_crates() {
    let dependencies = dependencies();
    for layer in LAYERS {
        for file in sources(&format!("src/{}", layer.name)) {
            if file.is_test() {
                continue;
            }
            for name in &file.names {
                let allowed = if let Some(inner) = name.strip_prefix("crate::") {
                    let first = inner.split("::").next().unwrap_or_default();
                    layer.layers.contains(&first)
                } else if outside(name, &dependencies).is_some_and(|dependency| dependency != "core") {
                    layer.crates.iter().any(|allowed| starts_with(name, allowed))
                } else {
                    true
                };
                assert!(allowed, "{} must not name {name}", file.path);
            }
        }
    }
}

#[test]
fn tests_of_a_layer_name_no_layer_above_it() {
    for layer in LAYERS {
        for file in sources(&format!("src/{}", layer.name)) {
            let names = file.names.iter().chain(&file.test_names);
            for inner in names.filter_map(|name| name.strip_prefix("crate::")) {
                let first = inner.split("::").next().unwrap_or_default();
                let known = LAYERS.iter().any(|other| other.name == first);
                assert!(
                    !known || layer.layers.contains(&first),
                    "{} must not name {inner}",
                    file.path
                );
            }
        }
    }
}

#[test]
fn a_folder_of_core_imports_only_folders_before_it() {
    let rank = |folder: &str| CORE.iter().position(|group| group.contains(&folder));
    for file in sources("src/core") {
        let inner = file.path.strip_prefix("src/core/").unwrap_or_default();
        let folder = inner
            .split('/')
            .next()
            .unwrap_or_default()
            .trim_end_matches(".rs");
        if folder == "mod" || file.is_test() {
            continue;
        }
        let Some(own) = rank(folder) else {
            panic!(
                "{}: add the folder {folder} to the order of core's folders",
                file.path
            );
        };
        for name in file
            .names
            .iter()
            .filter_map(|name| name.strip_prefix("crate::core::"))
        {
            let other = name.split("::").next().unwrap_or_default();
            let allowed = other == folder || rank(other).is_some_and(|other| other < own);
            assert!(
                allowed,
                "{} must not import core::{name}: {other} does not come before {folder}",
                file.path
            );
        }
    }
}

#[test]
fn core_reads_no_clock_and_makes_no_random_bits() {
    for file in sources("src/core") {
        for word in [
            "Timestamp::now",
            "SystemTime",
            "Instant::now",
            "getrandom",
            "std::net",
            "tokio",
        ] {
            let names = file.names.iter().chain(&file.test_names);
            let found = names.filter(|name| name.contains(word)).count();
            assert_eq!(found, 0, "{} names {word}", file.path);
        }
    }
}

#[test]
fn only_listed_files_read_the_wall_clock() {
    let files: Vec<Source> = ["src/cluster", "src/app"].into_iter().flat_map(sources).collect();
    for listed in CLOCK_READERS {
        assert!(
            files.iter().any(|file| file.path == listed),
            "{listed} is listed and does not exist"
        );
    }
    for file in files {
        let reads = file
            .names
            .iter()
            .any(|name| name.ends_with("Timestamp::now") || name.contains("SystemTime"));
        assert!(
            !reads || file.is_test() || CLOCK_READERS.contains(&file.path.as_str()),
            "{} reads the wall clock; ask the operator's `Clock`",
            file.path
        );
    }
}

#[test]
fn mod_files_of_layers_only_declare_modules() {
    for layer in ["core", "cluster", "app"] {
        let path = root().join(format!("src/{layer}/mod.rs"));
        let text = std::fs::read_to_string(&path).unwrap();
        for line in text
            .lines()
            .filter(|line| !line.starts_with("//") && !line.starts_with('#'))
        {
            let declares = line.is_empty() || line.ends_with(';') && line.contains("mod ");
            assert!(declares, "src/{layer}/mod.rs is a list of modules, not: {line}");
        }
    }
}

/// Folders of end-to-end tests. A test imports what tests share, its own folder's scene, and no other test.
const TESTS: [&str; 4] = ["behaviour", "security", "faults", "cleanup"];

#[test]
fn an_end_to_end_test_imports_no_test_of_another_folder() {
    for folder in TESTS.iter().chain(&["support", "harness"]) {
        for file in sources(&format!("e2e/{folder}")) {
            for name in file.names.iter().filter_map(|name| name.strip_prefix("crate::")) {
                let first = name.split("::").next().unwrap_or_default();
                let other = TESTS.contains(&first) && first != *folder;
                assert!(!other, "{} imports a test: {name}", file.path);
            }
        }
    }
}
