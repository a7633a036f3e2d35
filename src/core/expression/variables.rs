//! Variables of an expression.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::api::Reference;
use crate::core::expression::types::Type;
use crate::core::request::Request;
use crate::core::time::duration::AccessDuration;

/// Facts about one request, the variables of an expression. They are values: no text in them is ever parsed as an
/// expression.
#[derive(Clone, Debug)]
pub struct Variables<'a> {
    /// The parsed request of the grant.
    pub request: &'a Request,
    /// Access duration: the requested one, or else the default of the policy.
    pub duration: AccessDuration,
    /// Names of the requested entitlements, or else of the default entitlements of the policy.
    pub entitlements: Vec<String>,
    /// Name of the grant's namespace.
    pub namespace_name: &'a str,
    /// Labels of the grant's namespace.
    pub namespace_labels: &'a BTreeMap<String, String>,
    /// Name of the policy.
    pub policy_name: &'a str,
    /// Labels of the policy.
    pub policy_labels: &'a BTreeMap<String, String>,
    /// Time of the evaluation.
    pub now: Timestamp,
}

/// One fact that an expression can name.
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
    /// The variables with fields, as they are written. `namespace` is a reserved word of CEL, so the namespace has the
    /// name that it has in admission policies of Kubernetes.
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

    /// The variable without fields of that name.
    pub fn plain(name: &str) -> Option<Self> {
        (name == "now").then_some(Self::Now)
    }

    /// True if a variable of that name has fields.
    pub fn has_fields(name: &str) -> bool {
        Self::FIELDS.iter().any(|(variable, ..)| *variable == name)
    }

    /// The fact of that variable and field.
    pub fn field(variable: &str, field: &str) -> Option<Self> {
        Self::FIELDS
            .iter()
            .find(|(of, name, _)| *of == variable && *name == field)
            .map(|(_, _, found)| *found)
    }

    /// Names of the fields of a variable, for messages.
    pub fn fields_of(variable: &str) -> String {
        let names: Vec<_> = Self::FIELDS
            .iter()
            .filter(|(of, ..)| *of == variable)
            .map(|(_, name, _)| *name)
            .collect();
        names.join(", ")
    }

    /// Names of all variables, for messages.
    pub const ALL: &str = "request, requester, subject, namespaceObject, policy and now";

    /// The text of the variable in an expression.
    pub fn written(self) -> String {
        Self::FIELDS
            .iter()
            .find(|(_, _, found)| *found == self)
            .map_or_else(|| "now".to_owned(), |(of, name, _)| format!("{of}.{name}"))
    }

    /// Type of the variable.
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

/// Getter of a field of a reference (such as a ticket); `None` if there is no such field.
pub(super) fn reference_field(name: &str) -> Option<for<'a> fn(&'a Reference) -> &'a str> {
    match name {
        "type" => Some(|reference| &reference.kind),
        "id" => Some(|reference| &reference.id),
        _ => None,
    }
}
