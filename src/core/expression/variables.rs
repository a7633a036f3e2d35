//! What an expression may look at.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::types::Type;
use crate::api::Reference;
use crate::core::{Request, Span};

/// The facts an expression is judged on. They are values to it: no text in them is ever read as an expression.
#[derive(Clone, Debug)]
pub struct Evidence<'a> {
    /// The request.
    pub request: &'a Request,
    /// How long the access would last: as asked, else the policy's default.
    pub duration: Span,
    /// Names of what is asked for, else of what the policy gives by default.
    pub entitlements: Vec<String>,
    /// Name of the grant's namespace.
    pub namespace_name: &'a str,
    /// Its labels.
    pub namespace_labels: &'a BTreeMap<String, String>,
    /// Name of the policy.
    pub policy_name: &'a str,
    /// Its labels.
    pub policy_labels: &'a BTreeMap<String, String>,
    /// The instant of judgement.
    pub now: Timestamp,
}

/// One fact an expression can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variable {
    RequestName,
    RequestReason,
    RequestDuration,
    RequestNotAfter,
    RequestReferences,
    RequestEntitlements,
    RequesterUsername,
    RequesterGroups,
    SubjectKind,
    SubjectName,
    SubjectNamespace,
    NamespaceName,
    NamespaceLabels,
    PolicyName,
    PolicyLabels,
    Now,
}

impl Variable {
    /// The variables with fields, as they are written. `namespace` is a reserved word of CEL, so the namespace is
    /// called what admission policies of Kubernetes call it.
    const FIELDS: [(&str, &str, Self); 15] = [
        ("request", "name", Self::RequestName),
        ("request", "reason", Self::RequestReason),
        ("request", "duration", Self::RequestDuration),
        ("request", "notAfter", Self::RequestNotAfter),
        ("request", "references", Self::RequestReferences),
        ("request", "entitlements", Self::RequestEntitlements),
        ("requester", "username", Self::RequesterUsername),
        ("requester", "groups", Self::RequesterGroups),
        ("subject", "kind", Self::SubjectKind),
        ("subject", "name", Self::SubjectName),
        ("subject", "namespace", Self::SubjectNamespace),
        ("namespaceObject", "name", Self::NamespaceName),
        ("namespaceObject", "labels", Self::NamespaceLabels),
        ("policy", "name", Self::PolicyName),
        ("policy", "labels", Self::PolicyLabels),
    ];

    /// The variable of that name which has no fields.
    pub fn plain(name: &str) -> Option<Self> {
        (name == "now").then_some(Self::Now)
    }

    /// Whether there are fields of a variable of that name.
    pub fn has_fields(name: &str) -> bool {
        Self::FIELDS.iter().any(|(variable, ..)| *variable == name)
    }

    /// The field of a variable.
    pub fn field(variable: &str, field: &str) -> Option<Self> {
        Self::FIELDS
            .iter()
            .find(|(of, name, _)| *of == variable && *name == field)
            .map(|(_, _, found)| *found)
    }

    /// The fields of a variable, for messages.
    pub fn fields_of(variable: &str) -> String {
        let names: Vec<_> = Self::FIELDS
            .iter()
            .filter(|(of, ..)| *of == variable)
            .map(|(_, name, _)| *name)
            .collect();
        names.join(", ")
    }

    /// All variables, for messages.
    pub const ALL: &str = "request, requester, subject, namespaceObject, policy and now";

    /// As it is written.
    pub fn written(self) -> String {
        Self::FIELDS
            .iter()
            .find(|(_, _, found)| *found == self)
            .map_or_else(|| "now".to_owned(), |(of, name, _)| format!("{of}.{name}"))
    }

    /// What it holds.
    pub fn holds(self) -> Type {
        match self {
            Self::RequestName
            | Self::RequestReason
            | Self::RequesterUsername
            | Self::SubjectKind
            | Self::SubjectName
            | Self::SubjectNamespace
            | Self::NamespaceName
            | Self::PolicyName => Type::Text,
            Self::RequestDuration => Type::Duration,
            Self::RequestNotAfter | Self::Now => Type::Time,
            Self::RequestReferences => Type::List(Box::new(Type::Reference)),
            Self::RequestEntitlements | Self::RequesterGroups => Type::List(Box::new(Type::Text)),
            Self::NamespaceLabels | Self::PolicyLabels => Type::Labels,
        }
    }
}

/// Field of a reference to something outside the cluster.
pub(super) fn reference_field(name: &str) -> Option<for<'a> fn(&'a Reference) -> &'a str> {
    match name {
        "type" => Some(|reference| &reference.kind),
        "id" => Some(|reference| &reference.id),
        _ => None,
    }
}
