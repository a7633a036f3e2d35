//! The source files of this repository, parsed, and the paths that they name.

use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{ItemMod, ItemUse, UseTree};

/// One source file.
pub struct Source {
    /// Path from the root of the repository, with `/`.
    pub path: String,
    /// The text.
    pub text: String,
    /// Paths that the product code of the file names, absolute for items of this crate (`crate::core::time`).
    pub names: Vec<String>,
    /// Paths that the tests at the foot of the file name.
    pub test_names: Vec<String>,
}

impl Source {
    /// Whether the whole file is a test: a file in a folder `tests`, `testing` or `checks`.
    pub fn is_test(&self) -> bool {
        self.path.split('/').any(|part| {
            matches!(
                part,
                "tests" | "testing" | "checks" | "testing.rs" | "tests.rs" | "golden.rs"
            )
        })
    }
}

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below a folder, sorted by path.
pub fn sources(folder: &str) -> Vec<Source> {
    let mut files = Vec::new();
    collect(&root().join(folder), &mut files);
    files.sort();
    assert!(!files.is_empty(), "{folder} has no files");
    files.iter().map(|file| read(file)).collect()
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn read(file: &Path) -> Source {
    let path = file
        .strip_prefix(root())
        .unwrap()
        .to_string_lossy()
        .replace('\\', "/");
    let text = fs::read_to_string(file).unwrap();
    let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut finder = Finder {
        module: module_of(&path),
        in_tests: false,
        names: Vec::new(),
        test_names: Vec::new(),
    };
    finder.visit_file(&parsed);
    Source {
        path,
        text,
        names: finder.names,
        test_names: finder.test_names,
    }
}

/// The module of a file: `src/core/time/window.rs` is `crate::core::time::window`.
fn module_of(path: &str) -> Vec<String> {
    let inner = path.split_once('/').map_or(path, |(_, inner)| inner);
    let inner = inner.trim_end_matches(".rs");
    let parts = inner
        .split('/')
        .filter(|part| !matches!(*part, "mod" | "lib" | "main"));
    std::iter::once("crate").chain(parts).map(str::to_owned).collect()
}

struct Finder {
    module: Vec<String>,
    in_tests: bool,
    names: Vec<String>,
    test_names: Vec<String>,
}

impl Finder {
    fn found(&mut self, segments: &[String]) {
        let absolute = match segments.first().map(String::as_str) {
            Some("super") => {
                let up = segments.iter().take_while(|segment| *segment == "super").count();
                let kept = self.module.len().saturating_sub(up);
                let base = self.module.iter().take(kept);
                base.chain(segments.iter().skip(up)).cloned().collect::<Vec<_>>()
            }
            Some("self") => self
                .module
                .iter()
                .chain(segments.iter().skip(1))
                .cloned()
                .collect(),
            _ => segments.to_vec(),
        };
        let name = absolute.join("::");
        if self.in_tests {
            self.test_names.push(name);
        } else {
            self.names.push(name);
        }
    }

    fn tree(&mut self, tree: &UseTree, before: &[String]) {
        let with = |ident: &syn::Ident| [before, &[ident.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.tree(&path.tree, &with(&path.ident)),
            UseTree::Name(name) if name.ident == "self" => self.found(before),
            UseTree::Name(name) => self.found(&with(&name.ident)),
            UseTree::Rename(rename) => self.found(&with(&rename.ident)),
            UseTree::Glob(_) => self.found(before),
            UseTree::Group(group) => group.items.iter().for_each(|item| self.tree(item, before)),
        }
    }

    /// Paths in the tokens of a macro call, which `syn` does not parse.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.found_in_macro(&mut path);
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.found_in_macro(&mut path);
                    colons = 0;
                    self.tokens(group.stream());
                }
                _ => {
                    self.found_in_macro(&mut path);
                    colons = 0;
                }
            }
        }
        self.found_in_macro(&mut path);
    }

    fn found_in_macro(&mut self, path: &mut Vec<String>) {
        if path.len() > 1 {
            self.found(path);
        }
        path.clear();
    }
}

impl Visit<'_> for Finder {
    fn visit_item_mod(&mut self, module: &ItemMod) {
        let Some((_, items)) = &module.content else { return };
        let is_tests = module.attrs.iter().any(|attribute| {
            attribute.path().is_ident("cfg")
                && attribute
                    .meta
                    .require_list()
                    .is_ok_and(|list| list.tokens.to_string() == "test")
        });
        let before = self.in_tests;
        self.in_tests |= is_tests;
        self.module.push(module.ident.to_string());
        for item in items {
            self.visit_item(item);
        }
        self.module.pop();
        self.in_tests = before;
    }

    fn visit_item_use(&mut self, item: &ItemUse) {
        self.tree(&item.tree, &[]);
    }

    fn visit_path(&mut self, path: &syn::Path) {
        let segments: Vec<String> = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string())
            .collect();
        if segments.len() > 1 {
            self.found(&segments);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &syn::Macro) {
        self.visit_path(&call.path);
        self.tokens(call.tokens.clone());
    }
}
