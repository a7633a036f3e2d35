//! Waiting for a condition instead of for a time.

use std::time::Duration;

use anyhow::bail;
use tokio::time::{Instant, sleep, timeout};

/// How long to sleep between two looks.
const PAUSE: Duration = Duration::from_millis(25);

/// Looks until `look` answers `Ok`, and fails at `deadline` with `what` was
/// waited for, how long, and what the last look saw.
pub async fn eventually<T, F: Future<Output = Result<T, String>>>(
    what: &str,
    deadline: Duration,
    mut look: impl FnMut() -> F,
) -> anyhow::Result<T> {
    let began = Instant::now();
    let mut seen = String::from("nothing: the first look did not come back");
    while began.elapsed() < deadline {
        let left = deadline.saturating_sub(began.elapsed());
        match timeout(left, look()).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(not_yet)) => seen = not_yet,
            Err(_) => break,
        }
        sleep(PAUSE).await;
    }
    let waited = began.elapsed().as_secs_f64();
    bail!("{what}: not within {waited:.1} s; last seen: {seen}")
}
