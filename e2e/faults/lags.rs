//! How late access was gone.

use std::fmt;
use std::time::Duration;

use anyhow::Context as _;
use curfew::api::ArtifactKind;
use jiff::{SignedDuration, Timestamp};

use super::scene::{Asked, Ground};

/// How long after its recorded end the access of each grant was gone, shortest first.
#[derive(Debug, Clone)]
pub struct Lags(Vec<SignedDuration>);

impl Lags {
    /// Those of grants whose access has been in force and is gone.
    pub fn of(ground: &Ground<'_>, asked: &[Asked]) -> anyhow::Result<Self> {
        let lag = |asked: &Asked| {
            let end = ground.journal.tale(&asked.uid).expires_at().context("no end")?;
            Ok(gone_at(ground, asked)?.duration_since(end))
        };
        let mut lags = asked.iter().map(lag).collect::<anyhow::Result<Vec<_>>>()?;
        lags.sort_unstable();
        Ok(Self(lags))
    }

    /// When the last access of these grants was gone.
    pub fn last_gone(ground: &Ground<'_>, asked: &[Asked]) -> anyhow::Result<Timestamp> {
        let gone = asked.iter().map(|asked| gone_at(ground, asked));
        let gone = gone.collect::<anyhow::Result<Vec<_>>>()?;
        gone.into_iter().max().context("no grants")
    }

    /// Of all pairs of these grants the share whose access was not gone in the order of their ends: 0 where the oldest
    /// end always came first, 0.5 where they came in no order.
    pub fn disorder(ground: &Ground<'_>, asked: &[Asked]) -> anyhow::Result<f64> {
        let end_and_gone = |asked: &Asked| {
            let end = ground.journal.tale(&asked.uid).expires_at().context("no end")?;
            Ok((end, gone_at(ground, asked)?))
        };
        let mut all = asked
            .iter()
            .map(end_and_gone)
            .collect::<anyhow::Result<Vec<_>>>()?;
        all.sort_unstable();
        let (mut pairs, mut swapped) = (0_u32, 0_u32);
        for (place, (_, gone)) in all.iter().enumerate() {
            for (_, later) in all.iter().skip(place + 1) {
                pairs += 1;
                swapped += u32::from(later < gone);
            }
        }
        Ok(f64::from(swapped) / f64::from(pairs.max(1)))
    }

    /// The shortest.
    pub fn shortest(&self) -> SignedDuration {
        self.percentile(0)
    }

    /// The longest.
    pub fn longest(&self) -> SignedDuration {
        self.percentile(100)
    }

    fn percentile(&self, percent: usize) -> SignedDuration {
        let last = self.0.len().saturating_sub(1);
        self.0
            .get((last * percent).div_ceil(100))
            .copied()
            .unwrap_or_default()
    }
}

/// Shortest, median, 90th and 99th percentile, and longest, in seconds.
impl fmt::Display for Lags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |percent| self.percentile(percent).as_secs_f64();
        write!(
            f,
            "{:.2} to {:.2} s after its end (median {:.2}, 90 % {:.2}, 99 % {:.2})",
            seconds(0),
            seconds(100),
            seconds(50),
            seconds(90),
            seconds(99)
        )
    }
}

/// When a grant's last binding was gone.
fn gone_at(ground: &Ground<'_>, asked: &Asked) -> anyhow::Result<Timestamp> {
    let pieces = ground.journal.pieces(&asked.uid).into_iter();
    let bindings: Vec<_> = pieces
        .filter(|piece| piece.kind == ArtifactKind::RoleBinding)
        .map(|piece| piece.gone_at)
        .collect();
    let gone = bindings.iter().copied().collect::<Option<Vec<_>>>();
    gone.and_then(|gone| gone.into_iter().max())
        .with_context(|| format!("{}: no binding, or one that stands: {bindings:?}", asked.name))
}

/// Until a moment that a deadline names.
pub async fn until(at: Timestamp) {
    let left = Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO);
    tokio::time::sleep(left).await;
}
