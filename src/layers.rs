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
