//! Keeps the layers apart: what each may name.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn no_layer_names_one_above_it_and_core_names_no_runtime_client_or_clock() {
    let table: [(&str, &[&str]); 3] = [
        (
            "api",
            &[
                "crate::core",
                "crate::cluster",
                "crate::app",
                "tokio",
                "kube::Client",
            ],
        ),
        (
            "core",
            &[
                "crate::cluster",
                "crate::app",
                "tokio",
                "kube::Client",
                "kube::Api",
                "kube::runtime",
                "Timestamp::now",
                "SystemTime",
                "Instant::now",
                "getrandom",
                "std::env",
                "std::fs",
                "std::net",
            ],
        ),
        ("cluster", &["crate::app"]),
    ];
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for (layer, forbidden) in table {
        let mut files = Vec::new();
        sources(&root.join(layer), &mut files);
        assert!(!files.is_empty(), "layer {layer} has no files");
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            for (number, line) in code.enumerate() {
                for word in forbidden {
                    assert!(
                        !line.contains(word),
                        "{} names {word}: {line} ({number})",
                        file.display()
                    );
                }
            }
        }
    }
}

/// Whoever decides by a clock of its own decides by one that may be wrong.
#[test]
fn the_operator_reads_the_time_from_its_clock_and_nowhere_else() {
    let others = [
        // The clock itself.
        "cluster/clock.rs",
        // Programs of their own: the sweep goes by the earlier of two clocks, a drain by none.
        "cluster/sweep.rs",
        "app/sweep.rs",
        "app/drain.rs",
        // What the Lease says of its renewal, which nobody goes by.
        "app/lease.rs",
    ];
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    for layer in ["cluster", "app"] {
        sources(&root.join(layer), &mut files);
    }
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let reads = code.contains("Timestamp::now") || code.contains("SystemTime");
        let name = file.strip_prefix(&root).unwrap().to_string_lossy();
        assert!(
            !reads || others.contains(&name.as_ref()),
            "{name} reads the wall clock; ask the operator's `Clock`"
        );
    }
}
