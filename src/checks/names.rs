//! One meaning for each name of a public type.

use std::collections::BTreeMap;

use syn::{Item, Visibility};

use super::source::{root, sources};

/// Names that stand for an API object and for its parsed form.
const PAIRS: [&str; 2] = ["Entitlement", "Window"];

fn types(items: &[Item], found: &mut Vec<String>) {
    for item in items {
        let (visibility, name) = match item {
            Item::Struct(item) => (&item.vis, &item.ident),
            Item::Enum(item) => (&item.vis, &item.ident),
            Item::Trait(item) => (&item.vis, &item.ident),
            Item::Type(item) => (&item.vis, &item.ident),
            _ => continue,
        };
        if !matches!(visibility, Visibility::Inherited) {
            found.push(name.to_string());
        }
    }
}

#[test]
fn a_public_type_name_has_one_meaning() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in sources("src").into_iter().filter(|file| !file.is_test()) {
        let mut names = Vec::new();
        types(&syn::parse_file(&file.text).unwrap().items, &mut names);
        for name in names {
            places.entry(name).or_default().push(file.path.clone());
        }
    }
    for pair in PAIRS {
        let found = places.get(pair).map_or(0, Vec::len);
        assert_eq!(found, 2, "{pair} is an allowed pair: {places:?}");
    }
    places.retain(|name, files| files.len() > 1 && !PAIRS.contains(&name.as_str()));
    assert!(
        places.is_empty(),
        "these names have several meanings: {places:#?}"
    );
}

/// Words that the glossary has replaced. CHANGELOG.md, the upgrade notes and the style page name them on purpose.
const RETIRED: &[&str] = &[
    "souvenir",
    "own-hands",
    "curfew-authors",
    "standsAgainst",
    "stands_against",
    "flame",
    "agenda",
    "freshen",
    "newcomer",
    "tally",
    "bring_about",
    "witness",
];

#[test]
fn retired_words_stay_retired() {
    let documents = [
        "README.md",
        "ARCHITECTURE.md",
        "docs/concepts.md",
        "docs/glossary.md",
        "docs/architecture.md",
        "docs/security.md",
    ];
    let texts = documents.iter().map(|path| {
        (
            (*path).to_owned(),
            std::fs::read_to_string(root().join(path)).unwrap(),
        )
    });
    let code = ["src", "e2e"]
        .into_iter()
        .flat_map(sources)
        .filter(|file| !file.path.ends_with("checks/names.rs"));
    for (path, text) in code.map(|file| (file.path, file.text)).chain(texts) {
        let text = text.to_lowercase();
        for word in RETIRED {
            assert!(
                !text.contains(&word.to_lowercase()),
                "{path} has the retired word {word}; see docs/glossary.md"
            );
        }
    }
}
