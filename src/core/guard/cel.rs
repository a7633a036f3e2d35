//! CEL expressions and validations that several guards share.

use k8s_openapi::api::admissionregistration::v1::Validation;

use crate::api::{GRANT_UID_LABEL, GROUP, MARKER_SUFFIX, NAME_PREFIX, NOT_AFTER_ANNOTATION, RESERVED_PREFIX};
use crate::core::guard::GuardSettings;
use crate::core::guard::manifest::demand;
use crate::core::time::duration::AccessDuration;

/// Seconds that an end may be beyond the fuse cap, counted from the creation of the object. The API server truncates
/// the creation time to whole seconds, its clock differs from the operator's, and a fuse has its deadline a little
/// after the end of the access.
const SLACK: u32 = 60;

/// CEL string literal.
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

/// CEL list of string literals.
pub(super) fn list<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> String {
    let texts: Vec<String> = texts.into_iter().map(|text| quoted(text.as_ref())).collect();
    format!("[{}]", texts.join(", "))
}

/// CEL: the operator makes the request.
pub(super) fn operator_asks(settings: &GuardSettings) -> String {
    format!(
        "request.userInfo.username == {}",
        quoted(&settings.operator_username())
    )
}

/// CEL: the user may create objects with Curfew's label.
fn creator_asks(settings: &GuardSettings) -> String {
    let operator = [settings.operator_username()];
    format!(
        "request.userInfo.username in {}",
        list(operator.iter().chain(&settings.creators))
    )
}

/// CEL: `demand` must hold for this operation; other operations pass.
pub(super) fn on(operation: &str, demand: &str) -> String {
    format!("request.operation != '{operation}' || ({demand})")
}

/// CEL variables for the metadata of the new and the old object: `labels`, `annotations`, `finalizers`, `owners`
/// (uids), and `oldLabels` and so on. A variable is empty if the field or the object is missing.
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

/// Validation: only Curfew, and the extra creators of the settings, may create objects with the label. `kind` is a
/// plural.
pub(super) fn only_curfew_creates(settings: &GuardSettings, kind: &str) -> Validation {
    demand(
        on("CREATE", &creator_asks(settings)),
        format!(
            "Only Curfew creates {kind} with the label {GRANT_UID_LABEL}. Leave the label out, or request access with \
             an AccessGrant."
        ),
    )
}

/// Validation: a new object has no finalizer, and its end is within the fuse cap. Uses [`metadata`].
pub(super) fn ends_in_time(settings: &GuardSettings, object: &str) -> Validation {
    let cap = settings.cap;
    demand(
        on(
            "CREATE",
            &format!("size(variables.finalizers) == 0 && {}", ends_within_cap(cap)),
        ),
        format!(
            "{object} must have no finalizer, and its annotation {NOT_AFTER_ANNOTATION} must be at most {cap} ahead. \
             Request a shorter duration."
        ),
    )
}

/// Validation: a new object has one owner, a fuse whose name passes `named`, or the grant of the label.
pub(super) fn has_one_owner(settings: &GuardSettings, object: &str, named: &str) -> Validation {
    demand(
        on("CREATE", &held_by_fuse_or_grant(settings, named)),
        format!(
            "{object} must have exactly one owner: the fuse of the same name, or the grant in its label. Let Curfew \
             create it."
        ),
    )
}

/// CEL: no reserved label or annotation was added, changed or removed. Uses [`metadata`].
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

/// CEL: reserved labels and annotations and the owners are unchanged, and no finalizer was added. Uses [`metadata`].
pub(super) fn metadata_only_narrowed() -> String {
    format!("{} && {OWNERS_KEPT}", keys_and_finalizers_narrowed())
}

/// Like [`metadata_only_narrowed`], but the operator may hand an object over from its grant to a fuse.
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

/// CEL: `text` is a name that Curfew gives: the prefix and 128 bits in hexadecimal.
pub(super) fn is_our_name(text: &str) -> String {
    format!("{text}.matches('^{NAME_PREFIX}[0-9a-f]{{32}}$')")
}

/// CEL: the end annotation is a timestamp within the fuse cap. Uses [`metadata`].
fn ends_within_cap(cap: AccessDuration) -> String {
    let key = quoted(NOT_AFTER_ANNOTATION);
    format!(
        "{key} in variables.annotations &&\n\
         variables.annotations[{key}].matches('^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}T[0-9:]{{8}}[.][0-9]{{6}}Z$') &&\n\
         timestamp(variables.annotations[{key}]) - timestamp(object.metadata.creationTimestamp) <= duration('{}s')",
        seconds(cap)
    )
}

/// The fuse cap plus [`SLACK`], in seconds.
pub(super) fn seconds(cap: AccessDuration) -> u32 {
    cap.seconds() + SLACK
}

/// CEL: the object carries Curfew's label, or there is no such object.
pub(super) fn labelled(object: &str) -> String {
    format!(
        "({object} == null || (has({object}.metadata.labels) && {} in {object}.metadata.labels))",
        quoted(GRANT_UID_LABEL)
    )
}

/// CEL: the only owner is a fuse whose name passes `named`, an expression about `owner.name`; or the grant of the
/// label.
fn held_by_fuse_or_grant(settings: &GuardSettings, named: &str) -> String {
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

/// CEL: the only owner is the grant of the label. A grant cannot own an object in the namespace of the act-as accounts.
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
