//! Pieces of CEL that several guards use.

use crate::api::{GRANT_UID_LABEL, GROUP, MARKER_SUFFIX, NAME_PREFIX, NOT_AFTER_ANNOTATION, RESERVED_PREFIX};
use crate::core::Span;

use super::GuardSettings;

/// Seconds by which an end may lie beyond the cap, seen from the object's creation: the API server cuts its creation
/// to whole seconds, its clock is not the operator's, and a fuse burns a little later than the access ends.
const SLACK: u32 = 60;

/// A text as a CEL literal.
pub(super) fn quoted(text: &str) -> String {
    let mut literal = String::from("'");
    for character in text.chars() {
        match character {
            '\'' | '\\' => literal.extend(['\\', character]),
            '\n' => literal.push_str("\\n"),
            '\r' => literal.push_str("\\r"),
            other => literal.push(other),
        }
    }
    literal.push('\'');
    literal
}

/// Texts as a CEL list.
pub(super) fn list<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> String {
    let texts: Vec<String> = texts.into_iter().map(|text| quoted(text.as_ref())).collect();
    format!("[{}]", texts.join(", "))
}

/// Whether the operator asks.
pub(super) fn operator_asks(settings: &GuardSettings) -> String {
    format!(
        "request.userInfo.username == {}",
        quoted(&settings.operator_username())
    )
}

/// Whether somebody asks who may create what carries our label.
pub(super) fn creator_asks(settings: &GuardSettings) -> String {
    let operator = [settings.operator_username()];
    format!(
        "request.userInfo.username in {}",
        list(operator.iter().chain(&settings.creators))
    )
}

/// `demand` where the operation is this one; anything otherwise.
pub(super) fn on(operation: &str, demand: &str) -> String {
    format!("request.operation != '{operation}' || ({demand})")
}

/// Variables for the metadata of an object after and before: `labels`, `annotations`, `finalizers` and `owners` (uids),
/// and `oldLabels` and so on; empty where there is none.
pub(super) fn metadata() -> Vec<(String, String)> {
    let fields = [
        ("labels", "oldLabels", "labels", "", "{}"),
        ("annotations", "oldAnnotations", "annotations", "", "{}"),
        ("finalizers", "oldFinalizers", "finalizers", "", "[]"),
        (
            "owners",
            "oldOwners",
            "ownerReferences",
            ".map(owner, owner.uid)",
            "[]",
        ),
    ];
    let variable = |name: &str, object: &str, field: &str, map: &str, empty: &str| {
        let field = format!("{object}.metadata.{field}");
        let value = format!("{object} != null && has({field}) ? {field}{map} : {empty}");
        (name.to_owned(), value)
    };
    fields
        .iter()
        .flat_map(|(name, old, field, map, empty)| {
            [
                variable(name, "object", field, map, empty),
                variable(old, "oldObject", field, map, empty),
            ]
        })
        .collect()
}

/// Whether no label and no annotation of ours was added, changed or removed. Uses [`metadata`].
pub(super) fn reserved_keys_kept() -> String {
    let prefix = quoted(RESERVED_PREFIX);
    let kept = |new: &str, old: &str| {
        format!(
            "variables.{new}.all(key, !key.startsWith({prefix}) || (key in variables.{old} &&\n\
             variables.{old}[key] == variables.{new}[key])) &&\n\
             variables.{old}.all(key, !key.startsWith({prefix}) || key in variables.{new})"
        )
    };
    format!(
        "{} && {}",
        kept("labels", "oldLabels"),
        kept("annotations", "oldAnnotations")
    )
}

/// Whether the metadata holds what it held: our keys as they were, the same owners, no finalizer added. Uses
/// [`metadata`].
pub(super) fn metadata_only_narrowed() -> String {
    format!("{} && {OWNERS_KEPT}", keys_and_finalizers_narrowed())
}

/// The same, but that the operator may give to a fuse what the grant has held for want of one. Uses [`metadata`].
pub(super) fn metadata_only_narrowed_or_handed_over(settings: &GuardSettings, named: &str) -> String {
    format!(
        "{} && ({OWNERS_KEPT} ||\n({} &&\n{} &&\n{}))",
        keys_and_finalizers_narrowed(),
        operator_asks(settings),
        held_by_its_grant(settings, "oldObject"),
        held_by_one_fuse(named)
    )
}

const OWNERS_KEPT: &str = "variables.owners == variables.oldOwners";

fn keys_and_finalizers_narrowed() -> String {
    format!(
        "{} &&\nvariables.finalizers.all(finalizer, finalizer in variables.oldFinalizers)",
        reserved_keys_kept()
    )
}

/// Whether a text is a name that Curfew gives: a prefix and 128 bits, in hexadecimal.
pub(super) fn is_our_name(text: &str) -> String {
    format!("{text}.matches('^{NAME_PREFIX}[0-9a-f]{{32}}$')")
}

/// Whether the end that the object states is one, and lies within the cap. Uses [`metadata`].
pub(super) fn ends_within_cap(cap: Span) -> String {
    let key = quoted(NOT_AFTER_ANNOTATION);
    format!(
        "{key} in variables.annotations &&\n\
         variables.annotations[{key}].matches('^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}T[0-9:]{{8}}[.][0-9]{{6}}Z$') &&\n\
         timestamp(variables.annotations[{key}]) - timestamp(object.metadata.creationTimestamp) <= duration('{}s')",
        seconds(cap)
    )
}

/// The cap with its slack, in seconds.
pub(super) fn seconds(cap: Span) -> u32 {
    cap.seconds() + SLACK
}

/// Whether an object is labelled as ours; none is as good.
pub(super) fn labelled(object: &str) -> String {
    format!(
        "({object} == null || (has({object}.metadata.labels) && {} in {object}.metadata.labels))",
        quoted(GRANT_UID_LABEL)
    )
}

/// Whether exactly one fuse holds the object, of the name that `named` compares with `owner.name`; or, where there is no
/// fuse, the grant with which it is labelled.
pub(super) fn held_by_fuse_or_grant(settings: &GuardSettings, named: &str) -> String {
    format!(
        "({}) ||\n({})",
        held_by_one_fuse(named),
        held_by_its_grant(settings, "object")
    )
}

fn held_by_one_fuse(named: &str) -> String {
    format!(
        "has(object.metadata.ownerReferences) && size(object.metadata.ownerReferences) == 1 &&\n\
         object.metadata.ownerReferences.all(owner, owner.apiVersion == 'batch/v1' && owner.kind == 'Job' && {} &&\n\
         ({named}))",
        is_our_name("owner.name")
    )
}

/// Whether the grant with which an object is labelled, and nothing else, holds it. What lies in the namespace of the
/// identities no grant can hold.
fn held_by_its_grant(settings: &GuardSettings, object: &str) -> String {
    let label = quoted(GRANT_UID_LABEL);
    format!(
        "request.namespace != {} &&\n\
         {object}.metadata.name.matches('^{NAME_PREFIX}[0-9a-f]{{32}}({MARKER_SUFFIX})?$') &&\n\
         has({object}.metadata.ownerReferences) && size({object}.metadata.ownerReferences) == 1 &&\n\
         {object}.metadata.ownerReferences.all(owner, owner.kind == 'AccessGrant' &&\n\
         owner.apiVersion.startsWith('{GROUP}/') && {object}.metadata.labels[{label}] == owner.uid)",
        quoted(&settings.identities)
    )
}
