//! A rule as one line of text.

use crate::api::Rule;

/// The rule on one line, for messages: `get, list pods (apps) named a, b`. Long lists and names are cut, and
/// control characters are escaped. The result has at most 32 KiB, and far less for ordinary rules.
pub fn describe(rule: &Rule) -> String {
    let mut text = list(&rule.verbs);
    if !rule.resources.is_empty() {
        text = format!("{text} {}", list(&rule.resources));
        if rule.api_groups.iter().any(|group| !group.is_empty()) {
            let groups = rule.api_groups.iter().map(|group| match group.as_str() {
                "" => "core".to_owned(),
                named => named.to_owned(),
            });
            text = format!("{text} ({})", list(&groups.collect::<Vec<_>>()));
        }
        if !rule.resource_names.is_empty() {
            text = format!("{text} named {}", list(&rule.resource_names));
        }
    }
    if !rule.non_resource_urls.is_empty() {
        text = format!("{text} {}", list(&rule.non_resource_urls));
    }
    text
}

/// The first 8 items, each cut at 64 characters.
pub(crate) fn list(items: &[String]) -> String {
    const ITEMS: usize = 8;
    const CHARACTERS: usize = 64;
    let shown = |item: &String| match item.chars().nth(CHARACTERS) {
        _ if item.is_empty() => "\"\"".to_owned(),
        None => item.escape_debug().to_string(),
        Some(_) => {
            let start: String = item.chars().take(CHARACTERS).collect();
            format!("{}...", start.escape_debug())
        }
    };
    let mut parts: Vec<String> = items.iter().take(ITEMS).map(shown).collect();
    match items.len().saturating_sub(ITEMS) {
        _ if items.is_empty() => parts.push("nothing".to_owned()),
        0 => {}
        more => parts.push(format!("{more} more")),
    }
    parts.join(", ")
}
