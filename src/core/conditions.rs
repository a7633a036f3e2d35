//! Builds a Kubernetes condition; keeps its transition time.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Longest message in a status, in characters. The schema allows 32,768; people read less.
const MESSAGE_LENGTH: usize = 1024;

/// A wanted condition: type, status, reason, message.
pub(crate) type Wanted<'a> = (&'static str, &'static str, &'static str, &'a str);

/// One condition. Keeps its transition time while its status does not change.
pub(crate) fn condition(
    previous: &[Condition],
    &(type_, status, reason, message): &Wanted<'_>,
    generation: Option<i64>,
    at: Timestamp,
) -> Condition {
    let since = previous
        .iter()
        .find(|condition| condition.type_ == type_ && condition.status == status)
        .map(|condition| condition.last_transition_time.0)
        // The default of the schema has no time and sets the epoch.
        .filter(|since| *since != Timestamp::UNIX_EPOCH);
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: generation,
        last_transition_time: Time(since.unwrap_or(at)),
    }
}

pub(crate) fn shortened(message: &str) -> String {
    cut(message, MESSAGE_LENGTH, |_| 1)
}

/// `text`, cut at a whole character to at most `limit`; a cut text ends with `…`. `size` is the size of one character
/// in the unit of `limit`: 1 for characters, [`char::len_utf8`] for bytes.
pub(crate) fn cut(text: &str, limit: usize, size: fn(char) -> usize) -> String {
    if text.chars().map(size).sum::<usize>() <= limit {
        return text.to_owned();
    }
    let mut room = limit.saturating_sub(size('…'));
    let fitting = text.chars().take_while(|character| {
        let rest = room.checked_sub(size(*character));
        room = rest.unwrap_or_default();
        rest.is_some()
    });
    fitting.chain(['…']).collect()
}
