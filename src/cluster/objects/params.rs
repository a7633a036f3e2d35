//! Parameters of writes, alike for every request of the operator.

use kube::api::{DeleteParams, PatchParams, PostParams, Preconditions, PropagationPolicy};

use crate::api::CONTROLLER;

/// Parameters of a patch, with Curfew as the field manager.
pub(crate) fn patch() -> PatchParams {
    PatchParams {
        field_manager: Some(CONTROLLER.to_owned()),
        ..PatchParams::default()
    }
}

/// Parameters of a create or replace, with Curfew as the field manager.
pub(crate) fn post() -> PostParams {
    PostParams {
        field_manager: Some(CONTROLLER.to_owned()),
        ..PostParams::default()
    }
}

/// Preconditions that only the object of this uid fulfills.
pub(crate) fn of_uid(uid: &str) -> Preconditions {
    Preconditions {
        uid: Some(uid.to_owned()),
        resource_version: None,
    }
}

/// Parameters of a deletion in the background: the garbage collector deletes owned objects afterwards.
///
/// Such a deletion also removes the finalizer of an earlier foreground deletion. Owned objects then cannot delay the
/// removal of this object.
pub(crate) fn delete(preconditions: Preconditions) -> DeleteParams {
    DeleteParams {
        preconditions: Some(preconditions),
        propagation_policy: Some(PropagationPolicy::Background),
        ..DeleteParams::default()
    }
}
