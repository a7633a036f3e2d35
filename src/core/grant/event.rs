//! The Event of a transition.

/// The text of a Kubernetes Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventText {
    /// Object name. The same transition of the same grant always has the same name, so a repeat creates no second
    /// Event.
    pub name: String,
    /// Whether the type is `Warning`; otherwise `Normal`.
    pub warning: bool,
    /// Why, in one word.
    pub reason: &'static str,
    /// What Curfew did, in one word.
    pub action: &'static str,
    /// What happened, for people: at most 1024 bytes.
    pub note: String,
}
