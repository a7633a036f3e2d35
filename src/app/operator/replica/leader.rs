//! Leader election between the replicas, by a Lease.
//!
//! # Guarantees
//! - A replica leads in terms. Work of a leader runs within a [`Term`] and is dropped at its end, running effects
//!   included. All of it has ended 2 s before another replica may lead (the numbers are in `core::lease`).
//! - An API server that hangs may carry out a write later. That does no harm: a write to a grant is bound to the version
//!   that was read, and nothing is created that is not recorded before.
//!
//! # Caveats
//! A process that was suspended does not notice the time when it wakes up. It believes that it leads until its watch
//! delivers the new Lease. Until then the versions of its writes are the fence.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt as _, Stream, StreamExt as _};
use jiff::Timestamp;
use kube::runtime::watcher;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use crate::app::operator::metrics::Metrics;
use crate::app::operator::server::Readiness;
use crate::cluster::client::error::Error;
use crate::cluster::replica::leader::Leases;
use crate::core::replica::leader::{Candidate, LeaseFacts, LeaseStep, LeaseWrite, ReplicaId};
use crate::core::replica::retry::Class;

/// Name of the condition in `/readyz`. A process is ready when it leads or knows the leader. A process that cannot read
/// the Lease would never lead.
pub const SETTLED: &str = "lease";

/// Time limit of one read or write of the Lease: the interval between two renewals. A leader whose renewal hangs has time
/// for two more.
const ATTEMPT: Duration = Duration::from_secs(2);

/// Interval between two attempts of an unfit leader to hand over. At each attempt no replica leads for a moment.
const ASIDE_EVERY: Duration = Duration::from_mins(5);

/// Time limit to give the Lease back: a write, and after a lost answer a read and a second write.
const RESIGNATION: Duration = ATTEMPT.saturating_mul(3);

/// Whether this process leads. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Leadership(watch::Receiver<Lead>);

/// Current term of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Lead {
    /// Number of the term, counted from the start of the process.
    term: u64,
    /// End of the term, unless the Lease is renewed or lost before.
    until: Option<Instant>,
}

impl Lead {
    fn holds(self) -> bool {
        self.until.is_some_and(|until| Instant::now() < until)
    }
}

/// A time in which this process leads without a break.
#[derive(Clone, Debug)]
pub struct Term {
    number: u64,
    lead: watch::Receiver<Lead>,
}

impl Leadership {
    /// Whether this process leads now.
    pub fn leads(&self) -> bool {
        self.0.borrow().holds()
    }

    /// The current term, if this process leads.
    pub fn term(&self) -> Option<Term> {
        let lead = *self.0.borrow();
        lead.holds().then(|| Term {
            number: lead.term,
            lead: self.0.clone(),
        })
    }

    /// Waits until this process leads.
    pub async fn begins(&self) -> Term {
        let mut changes = self.0.clone();
        loop {
            changes.borrow_and_update();
            if let Some(term) = self.term() {
                return term;
            }
            changed(&mut changes).await;
        }
    }
}

impl Term {
    /// Waits until the term ends.
    pub async fn ends(&self) {
        let mut changes = self.lead.clone();
        loop {
            let lead = *changes.borrow_and_update();
            let Some(until) = lead.until.filter(|_| lead.term == self.number && lead.holds()) else {
                return;
            };
            tokio::select! {
                () = sleep_until(until) => {}
                () = changed(&mut changes) => {}
            }
        }
    }

    /// Runs work that only a leader may do. The end of the term drops the work, and the result is `None`.
    pub async fn run<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.ends() => None,
            done = work => Some(done),
        }
    }
}

/// Waits for a change. The sender lives as long as the process; without a sender nothing ever changes.
async fn changed(lead: &mut watch::Receiver<Lead>) {
    if lead.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Storage of the Lease.
pub trait Registry: Send + Sync {
    /// Reads the Lease.
    fn read(&self) -> BoxFuture<'_, Result<Option<LeaseFacts>, Error>>;

    /// Writes the Lease if its version is the expected one.
    fn write<'a>(&'a self, write: &'a LeaseWrite) -> BoxFuture<'a, Result<LeaseFacts, Error>>;
}

impl Registry for Leases {
    fn read(&self) -> BoxFuture<'_, Result<Option<LeaseFacts>, Error>> {
        Self::read(self).boxed()
    }

    fn write<'a>(&'a self, write: &'a LeaseWrite) -> BoxFuture<'a, Result<LeaseFacts, Error>> {
        Self::write(self, write).boxed()
    }
}

/// The attempts of this process to lead.
pub struct Campaign {
    registry: Arc<dyn Registry>,
    candidate: Candidate,
    lead: watch::Sender<Lead>,
    /// Start of the monotonic time of the candidate.
    started: Instant,
    readiness: Readiness,
    metrics: Metrics,
    /// Whether another replica should lead.
    unfit: watch::Receiver<bool>,
    /// When this process last stepped aside.
    aside: Option<Instant>,
    /// Whether this process led at the last log line.
    told: bool,
    /// The other leader of the last log line.
    told_other: Option<String>,
}

impl Campaign {
    /// A campaign that starts with [`Self::start`]. While this process is `unfit`, other replicas may lead first.
    pub fn new(
        registry: Arc<dyn Registry>,
        identity: ReplicaId,
        readiness: Readiness,
        metrics: Metrics,
        unfit: watch::Receiver<bool>,
    ) -> (Self, Leadership) {
        readiness.undone(SETTLED, "not yet");
        let (lead, leadership) = watch::channel(Lead::default());
        let campaign = Self {
            registry,
            candidate: Candidate::new(identity),
            lead,
            started: Instant::now(),
            readiness,
            metrics,
            unfit,
            aside: None,
            told: false,
            told_other: None,
        };
        (campaign, Leadership(leadership))
    }

    /// Leads whenever possible, as soon as the cache is `warm`: before that, a leader could not grant. `changes` is the
    /// watch of the Lease. A follower learns from it at once that the Lease was given back, and a leader that the Lease
    /// was taken.
    pub fn start(
        self,
        changes: impl Stream<Item = Result<Option<LeaseFacts>, watcher::Error>> + Send + 'static,
        warm: impl Future<Output = ()> + Send + 'static,
    ) -> Candidacy {
        let (resign, mut resigned) = oneshot::channel();
        let (tell_put_back, put_back) = oneshot::channel();
        let running = tokio::spawn(async move {
            let is_warm = tokio::select! {
                () = warm => true,
                _ = &mut resigned => false,
            };
            if is_warm && self.run(changes, resigned).await == TermEnd::PutBack {
                // At shutdown the receiver is gone.
                tell_put_back.send(()).unwrap_or_default();
            }
        });
        Candidacy {
            resign,
            put_back,
            running,
        }
    }

    async fn run(
        mut self,
        changes: impl Stream<Item = Result<Option<LeaseFacts>, watcher::Error>>,
        resign: oneshot::Receiver<()>,
    ) -> TermEnd {
        let mut changes = std::pin::pin!(changes);
        // A dropped sender means resign too.
        let mut resign = resign.map(drop);
        loop {
            if self.had_better_step_aside() {
                self.step_aside().await;
            }
            let now = self.started.elapsed();
            let doing = match self.candidate.next(now, Timestamp::now()) {
                LeaseStep::Wait(until) => {
                    if !self.candidate.is_doubtful() {
                        self.readiness.done(SETTLED);
                    }
                    self.tell_other();
                    let until = self.ends_before(until);
                    tokio::select! {
                        () = sleep_until(until) => {}
                        Some(change) = changes.next() => self.heard(change),
                        () = &mut resign => break,
                    }
                    self.tell();
                    continue;
                }
                LeaseStep::Read => None,
                LeaseStep::Write(write) => Some(write),
            };
            let sent = self.started.elapsed();
            let known = self.candidate.order();
            let mut attempt = std::pin::pin!(attempt(Arc::clone(&self.registry), doing));
            let outcome = loop {
                tokio::select! {
                    outcome = &mut attempt => break Some(outcome),
                    // A leader must learn that it lost the Lease, also during an attempt that hangs.
                    Some(change) = changes.next() => self.heard(change),
                    () = &mut resign => break None,
                }
                self.tell();
            };
            let Some(outcome) = outcome else { break };
            // Each read is answered by etcd itself, so it sees at least the version known when it was sent. A version that
            // is no number (0) proves nothing.
            if matches!(&outcome, Ok(LeaseReply::Read(Some(lease))) if (1..known).contains(&lease.order())) {
                return TermEnd::PutBack;
            }
            self.note(outcome, sent);
            self.tell();
        }
        self.give_back().await;
        TermEnd::Resigned
    }

    /// Whether this process leads, is unfit, and has not tried to hand over in the last 5 minutes.
    fn had_better_step_aside(&self) -> bool {
        let tried = |since: Instant| since.elapsed() < ASIDE_EVERY;
        self.told && *self.unfit.borrow() && !self.aside.is_some_and(tried)
    }

    /// Gives the Lease back, so that another replica may take it.
    async fn step_aside(&mut self) {
        self.aside = Some(Instant::now());
        let sent = self.started.elapsed();
        let Some(write) = self.candidate.step_aside(sent, Timestamp::now()) else {
            return;
        };
        tracing::warn!(
            "this replica cannot grant access and gives the leader Lease back, so that another replica can lead"
        );
        // Before another replica can lead.
        self.tell();
        let outcome = answered(self.registry.write(&write)).await;
        self.note(outcome.map(|lease| LeaseReply::Read(Some(lease))), sent);
    }

    /// Time of the next step. A term also ends without any attempt.
    fn ends_before(&self, until: Duration) -> Instant {
        let leads_until = self.candidate.leads_until().filter(|_| self.told);
        self.started + leads_until.map_or(until, |end| end.min(until))
    }

    fn heard(&mut self, change: Result<Option<LeaseFacts>, watcher::Error>) {
        match change {
            Ok(lease) => self.candidate.observe(lease, self.started.elapsed()),
            Err(error) => tracing::warn!(watch = SETTLED, %error, "watch failed, will retry in at most 2 s"),
        }
    }

    /// Notes the result of an attempt that was sent at `sent`.
    fn note(&mut self, outcome: Result<LeaseReply, Option<Error>>, sent: Duration) {
        let now = self.started.elapsed();
        match outcome {
            Ok(LeaseReply::Read(lease)) => self.candidate.observe(lease, now),
            Ok(LeaseReply::Wrote(lease)) => self.candidate.wrote(lease, sent, now),
            Err(Some(error)) if error.class() == Class::Conflict => self.candidate.conflicted(),
            Err(error) => {
                let why = error.map_or_else(
                    || format!("no answer within {} s", ATTEMPT.as_secs()),
                    |error| error.to_string(),
                );
                tracing::warn!(
                    why,
                    leads = self.told,
                    "leader Lease cannot be read or renewed, will retry"
                );
                self.readiness.undone(SETTLED, &why);
                self.candidate.failed(now);
            }
        }
    }

    /// Publishes whether this process leads, and logs a change.
    fn tell(&mut self) {
        let until = self.candidate.leads_until().map(|until| self.started + until);
        let leads = until.is_some_and(|until| Instant::now() < until);
        self.lead.send_if_modified(|lead| {
            let before = *lead;
            let began = leads && !before.holds();
            lead.term = lead.term.saturating_add(u64::from(began));
            lead.until = until.filter(|_| leads);
            *lead != before
        });
        if leads != self.told {
            self.told = leads;
            self.metrics.set_leader(leads);
            if leads {
                tracing::info!(holder = self.candidate.holder(), "this replica leads");
            } else {
                tracing::warn!("this replica no longer leads; it only ends overdue access");
            }
        }
    }

    /// Logs the name of the leader if it changed.
    fn tell_other(&mut self) {
        let other = self.candidate.holder().filter(|_| !self.candidate.holds());
        if self.told_other.as_deref() != other {
            self.told_other = other.map(str::to_owned);
            if let Some(holder) = other {
                tracing::info!(
                    holder,
                    "another replica leads; this replica only ends overdue access"
                );
            }
        }
    }

    async fn give_back(mut self) {
        let led = self.told;
        // A second time, if the last renewal was carried out and only its answer is missing.
        for _ in 0..2 {
            let write = self.candidate.resign(Timestamp::now());
            self.tell();
            let Some(write) = write else { return };
            match answered(self.registry.write(&write)).await {
                Ok(_) => {
                    tracing::info!(led, "leader Lease given back");
                    return;
                }
                Err(Some(error)) if error.class() == Class::Conflict => {}
                Err(error) => {
                    let why = error.map_or_else(String::new, |error| error.to_string());
                    tracing::warn!(why, "leader Lease not given back; it expires");
                    return;
                }
            }
            if let Ok(lease) = answered(self.registry.read()).await {
                self.candidate.observe(lease, self.started.elapsed());
            }
        }
    }
}

/// End of a campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TermEnd {
    /// This process resigned.
    Resigned,
    /// The Lease is older than before: the cluster was restored from a backup.
    PutBack,
}

/// A running campaign.
pub struct Candidacy {
    resign: oneshot::Sender<()>,
    put_back: oneshot::Receiver<()>,
    running: JoinHandle<()>,
}

impl Candidacy {
    /// Waits until the Lease is older than before: the cluster was restored from a backup. The cache of this process is
    /// wrong then, and its watches wait for versions that do not exist yet, without an error. The campaign has ended.
    pub async fn is_put_back(&mut self) {
        if (&mut self.put_back).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Ends the campaign, and gives the Lease back if this process holds it.
    pub async fn resign(self) {
        drop(self.resign);
        if timeout(RESIGNATION, self.running).await.is_err() {
            tracing::warn!("leader Lease not given back within 6 s; it expires");
        }
    }
}

/// Result of an attempt.
enum LeaseReply {
    Read(Option<LeaseFacts>),
    Wrote(LeaseFacts),
}

/// Writes the Lease, or reads it if there is nothing to write.
async fn attempt(
    registry: Arc<dyn Registry>,
    write: Option<LeaseWrite>,
) -> Result<LeaseReply, Option<Error>> {
    match write {
        None => answered(registry.read()).await.map(LeaseReply::Read),
        Some(write) => answered(registry.write(&write)).await.map(LeaseReply::Wrote),
    }
}

/// Runs an attempt with its time limit. The error `None` means: no answer in time.
async fn answered<T>(attempt: impl Future<Output = Result<T, Error>>) -> Result<T, Option<Error>> {
    match timeout(ATTEMPT, attempt).await {
        Ok(answer) => answer.map_err(Some),
        Err(_) => Err(None),
    }
}

#[cfg(test)]
impl Leadership {
    /// Leadership of a process that leads when the test says so.
    pub fn as_told() -> (impl Fn(bool), Self) {
        let (sender, leadership) = watch::channel(Lead::default());
        let tell = move |leads: bool| {
            sender.send_modify(|lead| {
                lead.term += u64::from(leads);
                lead.until = leads.then(|| Instant::now() + Duration::from_hours(24));
            });
        };
        (tell, Self(leadership))
    }
}

#[cfg(test)]
#[path = "tests/leader.rs"]
mod tests;
