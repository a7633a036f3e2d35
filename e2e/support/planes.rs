//! The control planes that tests run on: who shares one, and who has one for itself.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tempfile::TempDir;
use tokio::sync::{Mutex, OnceCell, Semaphore, watch};

use crate::harness::{Plane, SavedState, install};
use crate::support::suite::grantable;
use crate::support::{Suite, Test};

/// What a test needs of its control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// A plane with an operator, shared with tests that run at the same time.
    Shared,
    /// A plane with an operator that no other test uses meanwhile: the test takes guards away.
    Alone,
    /// A plane without an operator that no other test uses meanwhile: the test starts operators of its own.
    NoOperator,
    /// Like [`Needs::NoOperator`], while nothing else runs: the test keeps both cores busy, or measures fractions of a
    /// second.
    Busy,
    /// A plane with an operator that no test used before or uses after: the test removes what others need.
    Fresh,
}

/// How many tests share a plane at a time. More would measure the two cores, not the operator: with 4 here and 4 of
/// [`OWN`] a person's access was not yet in force when the grant said so, once in two runs beside compilers.
const SHARED: usize = 3;

/// How many tests at a time have a plane for themselves. They mostly wait: for a fuse, a timeout, a process that starts.
const OWN: usize = 3;

/// All planes of a run. Each starts when the first test needs it, from a state in which Curfew is installed.
pub struct Planes {
    state: OnceCell<SavedState>,
    shared: SharedPlane,
    alone: SharedPlane,
    own: Semaphore,
    /// Tests with [`Needs::Busy`] that have not ended yet: all others wait for them.
    busy: watch::Sender<usize>,
    one_by_one: Semaphore,
    /// Tests with a plane for themselves and no operator that have not begun yet.
    waiting: AtomicUsize,
    /// Planes for them that no test uses now.
    idle: Mutex<Vec<Arc<Suite>>>,
    /// The audit logs of planes that have ended.
    logs: TempDir,
    ended: AtomicUsize,
}

/// Counts a test as ended when dropped, also if it panics.
struct Ended<'a>(&'a watch::Sender<usize>);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|left| *left = left.saturating_sub(1));
    }
}

/// A plane with an operator that serves many tests.
struct SharedPlane {
    suite: Mutex<Option<Arc<Suite>>>,
    turns: Semaphore,
    crowded: bool,
    /// Tests that have not ended yet.
    left: AtomicUsize,
    /// Tests that failed.
    failed: AtomicUsize,
}

impl SharedPlane {
    fn new(at_once: usize, tests: usize) -> Self {
        Self {
            suite: Mutex::new(None),
            turns: Semaphore::new(at_once),
            crowded: at_once > 1,
            left: AtomicUsize::new(tests),
            failed: AtomicUsize::new(0),
        }
    }
}

impl Planes {
    /// Planes for these tests.
    pub fn new(tests: &[Test]) -> anyhow::Result<Self> {
        let count = |needs| tests.iter().filter(|test| test.needs == needs).count();
        Ok(Self {
            state: OnceCell::new(),
            shared: SharedPlane::new(SHARED, count(Needs::Shared)),
            alone: SharedPlane::new(1, count(Needs::Alone)),
            own: Semaphore::new(OWN),
            busy: watch::Sender::new(count(Needs::Busy)),
            one_by_one: Semaphore::new(1),
            waiting: AtomicUsize::new(count(Needs::NoOperator) + count(Needs::Busy)),
            idle: Mutex::new(Vec::new()),
            logs: tempfile::Builder::new().prefix("curfew-audit-").tempdir()?,
            ended: AtomicUsize::new(0),
        })
    }

    /// Runs a test on a plane of its kind. Answers how it ended, and how long the test itself took.
    pub async fn run(&self, test: Test) -> (anyhow::Result<()>, Duration) {
        if test.needs == Needs::Busy {
            let _ended = Ended(&self.busy);
            return self.on_idle_plane(&self.one_by_one, test).await;
        }
        if let Err(closed) = self.busy.subscribe().wait_for(|left| *left == 0).await {
            return (Err(closed.into()), Duration::ZERO);
        }
        match test.needs {
            Needs::Shared => self.on_shared_plane(&self.shared, test).await,
            Needs::Alone => self.on_shared_plane(&self.alone, test).await,
            Needs::NoOperator | Needs::Busy => self.on_idle_plane(&self.own, test).await,
            Needs::Fresh => self.on_fresh_plane(test).await,
        }
    }

    async fn on_shared_plane(&self, plane: &SharedPlane, test: Test) -> (anyhow::Result<()>, Duration) {
        let (mut outcome, took) = match plane.turns.acquire().await {
            Ok(_turn) => timed(self.suite_of(plane).await, test).await,
            Err(closed) => (Err(closed.into()), Duration::ZERO),
        };
        if outcome.is_err() {
            plane.failed.fetch_add(1, Ordering::Relaxed);
        }
        if plane.left.fetch_sub(1, Ordering::Relaxed) == 1
            && let Some(suite) = plane.suite.lock().await.take()
        {
            let ended = self
                .end_operator(&suite, plane.failed.load(Ordering::Relaxed) > 0)
                .await;
            outcome = outcome.and(ended.context("after the last test on this plane"));
        }
        (outcome, took)
    }

    /// The suite on a shared plane, which the first test starts.
    async fn suite_of(&self, plane: &SharedPlane) -> anyhow::Result<Arc<Suite>> {
        let mut suite = plane.suite.lock().await;
        if let Some(suite) = &*suite {
            return Ok(Arc::clone(suite));
        }
        let started = self.start(true, plane.crowded).await.map(Arc::new)?;
        *suite = Some(Arc::clone(&started));
        Ok(started)
    }

    async fn on_idle_plane(&self, turns: &Semaphore, test: Test) -> (anyhow::Result<()>, Duration) {
        let _turn = match turns.acquire().await {
            Ok(turn) => turn,
            Err(closed) => return (Err(closed.into()), Duration::ZERO),
        };
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        let idle = self.idle.lock().await.pop();
        let suite = match idle {
            Some(suite) => suite,
            None => match self.start(false, false).await {
                Ok(suite) => Arc::new(suite),
                Err(error) => return (Err(error), Duration::ZERO),
            },
        };
        let (outcome, took) = timed(Ok(Arc::clone(&suite)), test).await;
        // What a failed test leaves is not for others.
        if outcome.is_ok() && self.waiting.load(Ordering::Relaxed) > 0 {
            self.idle.lock().await.push(suite);
            return (outcome, took);
        }
        let ended = self.end(&suite, outcome.is_err());
        (outcome.and(ended), took)
    }

    async fn on_fresh_plane(&self, test: Test) -> (anyhow::Result<()>, Duration) {
        let _turn = match self.own.acquire().await {
            Ok(turn) => turn,
            Err(closed) => return (Err(closed.into()), Duration::ZERO),
        };
        let suite = match self.start(true, false).await {
            Ok(suite) => Arc::new(suite),
            Err(error) => return (Err(error), Duration::ZERO),
        };
        let (outcome, took) = timed(Ok(Arc::clone(&suite)), test).await;
        let ended = self.end(&suite, outcome.is_err());
        (outcome.and(ended), took)
    }

    /// Starts a plane in the state of one on which Curfew is installed.
    async fn start(&self, operator: bool, crowded: bool) -> anyhow::Result<Suite> {
        let state = self
            .state
            .get_or_try_init(|| async {
                let plane = Plane::start().await?;
                install(&plane).await?;
                grantable(&plane.admin().await?).await?;
                plane.into_state().await
            })
            .await
            .context("the state that planes start from could not be made")?;
        let plane = Plane::start_from(state).await?;
        Suite::on(plane, operator, crowded).await
    }

    /// Ends whatever the tests of a plane have left, and then its operator, which has to end by itself.
    async fn end_operator(&self, suite: &Suite, failed: bool) -> anyhow::Result<()> {
        let cleared = suite.clear().await.context("what the tests left does not go");
        let stopped = match suite.operator() {
            Ok(operator) => operator.terminate().await.map(drop),
            Err(error) => Err(error),
        };
        let outcome = cleared.and(stopped.context("the operator did not stop"));
        self.end(suite, failed || outcome.is_err())?;
        outcome
    }

    /// Keeps a plane's audit log, and its folder if a test failed on it. The plane ends when its suite is dropped.
    fn end(&self, suite: &Suite, failed: bool) -> anyhow::Result<()> {
        if failed {
            suite.plane.keep_logs();
        }
        let number = self.ended.fetch_add(1, Ordering::Relaxed);
        let log = suite.plane.audit_log();
        if log.exists() {
            std::fs::copy(&log, self.logs.path().join(format!("{number}.log")))?;
        }
        Ok(())
    }

    /// Ends the planes that are left: idle ones, and those of which a test has panicked. Keeps the folders of the latter.
    pub async fn finish(&self) -> anyhow::Result<()> {
        let idle = std::mem::take(&mut *self.idle.lock().await);
        for suite in idle {
            self.end(&suite, false)?;
        }
        for plane in [&self.shared, &self.alone] {
            if let Some(suite) = plane.suite.lock().await.take() {
                self.end_operator(&suite, true).await?;
            }
        }
        Ok(())
    }

    /// The audit logs of all planes that have ended.
    pub fn audit_logs(&self) -> anyhow::Result<Vec<PathBuf>> {
        let files = std::fs::read_dir(self.logs.path())?;
        let paths: Vec<PathBuf> = files
            .map(|file| file.map(|file| file.path()))
            .collect::<Result<_, _>>()?;
        if paths.is_empty() {
            bail!("no plane has an audit log");
        }
        Ok(paths)
    }
}

async fn timed(suite: anyhow::Result<Arc<Suite>>, test: Test) -> (anyhow::Result<()>, Duration) {
    match suite {
        Ok(suite) => {
            let began = Instant::now();
            let outcome = (test.run)(suite).await;
            (outcome, began.elapsed())
        }
        Err(error) => (Err(error), Duration::ZERO),
    }
}
