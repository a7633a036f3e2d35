//! Leading: one of the replicas does what only one may do, and each knows whether it is the one.
//!
//! Whoever leads does so in terms. What only a leader may do is done within a [`Term`] and dropped when the term
//! ends, effects under way included, so that everything has ended 2 s before another replica may lead (the numbers
//! are in `core::lease`). What an API server that hangs carries out later does no harm either: what is written to a
//! grant is bound to the version that was read, and nothing is made that is not recorded so.
//!
//! A process that is suspended as a whole takes the time for not having passed when it wakes up. It then believes that
//! it leads until its watch tells it otherwise, and the versions of what it writes are the fence.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt as _, Stream, StreamExt as _};
use jiff::Timestamp;
use kube::runtime::watcher;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::metrics::Metrics;
use super::server::Readiness;
use crate::cluster::{Error, Leases};
use crate::core::Class;
use crate::core::lease::{Candidate, Identity, LeaseFacts, LeaseWrite, Step};

/// What `/readyz` calls it: a process is ready when it leads or knows who does; one that cannot even read the Lease would
/// never lead.
pub const SETTLED: &str = "lease";

/// How long one read or write of the Lease may take: as long as there is between two renewals. A leader whose
/// renewal hangs has time for two more.
const ATTEMPT: Duration = Duration::from_secs(2);

/// How long a leader that had better not lead, and has nobody to lead in its place, waits before it tries again
/// whether there is somebody: for a moment nobody leads then.
const ASIDE_EVERY: Duration = Duration::from_mins(5);

/// How long giving it back may take: a write, and after an answer that was lost a read and a second one.
const RESIGNATION: Duration = ATTEMPT.saturating_mul(3);

/// Whether this process leads. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Leadership(watch::Receiver<Lead>);

/// What is known of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Lead {
    /// Counts the terms of this process.
    term: u64,
    /// Until when it leads, unless it hears otherwise.
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

    /// The term that goes on now, if there is one.
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
    /// Waits until it is over.
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

    /// Does something that only a leader may do. It is dropped when the term ends: then there is no answer.
    pub async fn run<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.ends() => None,
            done = work => Some(done),
        }
    }
}

/// Its sender lives as long as the process; without it nothing will ever change.
async fn changed(lead: &mut watch::Receiver<Lead>) {
    if lead.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Where the Lease is.
pub trait Registry: Send + Sync {
    /// Reads it.
    fn read(&self) -> BoxFuture<'_, Result<Option<LeaseFacts>, Error>>;

    /// Writes it, if it is still as the write expects.
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

/// This process's attempts to lead.
pub struct Campaign {
    registry: Arc<dyn Registry>,
    candidate: Candidate,
    lead: watch::Sender<Lead>,
    /// From when the candidate's time counts.
    started: Instant,
    readiness: Readiness,
    metrics: Metrics,
    /// Whether somebody else had better lead.
    unfit: watch::Receiver<bool>,
    /// When this process last stepped aside.
    aside: Option<Instant>,
    /// Whether this process led when that was last told.
    told: bool,
    /// Who was last told to lead in its place.
    told_other: Option<String>,
}

impl Campaign {
    /// Nothing is tried before [`Self::start`]. While this process is `unfit` to lead it lets others be first.
    pub fn new(
        registry: Arc<dyn Registry>,
        identity: Identity,
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

    /// Leads whenever it may from when it is `warm` on: whoever has not seen everything yet would lead and not grant.
    /// `changes` is the watch of the Lease: whoever waits hears at once that it was given back, and whoever leads that
    /// it was taken.
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
            if is_warm && self.run(changes, resigned).await == Ending::PutBack {
                // Nobody listens at shutdown.
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
    ) -> Ending {
        let mut changes = std::pin::pin!(changes);
        // Whoever drops its sender wants this to end as well.
        let mut resign = resign.map(drop);
        loop {
            if self.had_better_step_aside() {
                self.step_aside().await;
            }
            let now = self.started.elapsed();
            let doing = match self.candidate.next(now, Timestamp::now()) {
                Step::Wait(until) => {
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
                Step::Read => None,
                Step::Write(write) => Some(write),
            };
            let sent = self.started.elapsed();
            let known = self.candidate.order();
            let mut attempt = std::pin::pin!(attempt(Arc::clone(&self.registry), doing));
            let outcome = loop {
                tokio::select! {
                    outcome = &mut attempt => break Some(outcome),
                    // One that hangs must not keep a leader from hearing that it leads no more.
                    Some(change) = changes.next() => self.heard(change),
                    () = &mut resign => break None,
                }
                self.tell();
            };
            let Some(outcome) = outcome else { break };
            // Each read is answered by the store itself, and sees what was known when it was sent. A version that is no
            // number (0) says nothing.
            if matches!(&outcome, Ok(Answer::Read(Some(lease))) if (1..known).contains(&lease.order())) {
                return Ending::PutBack;
            }
            self.note(outcome, sent);
            self.tell();
        }
        self.give_back().await;
        Ending::Resigned
    }

    /// Whether this process leads, had better not, and has not lately tried whether somebody else does.
    fn had_better_step_aside(&self) -> bool {
        let tried = |since: Instant| since.elapsed() < ASIDE_EVERY;
        self.told && *self.unfit.borrow() && !self.aside.is_some_and(tried)
    }

    /// Gives the Lease back, so that another one may take it.
    async fn step_aside(&mut self) {
        self.aside = Some(Instant::now());
        let sent = self.started.elapsed();
        let Some(write) = self.candidate.step_aside(sent, Timestamp::now()) else {
            return;
        };
        tracing::warn!("this process can give no access: another one may lead");
        // Before anybody else can lead.
        self.tell();
        let outcome = answered(self.registry.write(&write)).await;
        self.note(outcome.map(|lease| Answer::Read(Some(lease))), sent);
    }

    /// The next moment at which something is to be done or told: a term ends also when nothing is tried.
    fn ends_before(&self, until: Duration) -> Instant {
        let leads_until = self.candidate.leads_until().filter(|_| self.told);
        self.started + leads_until.map_or(until, |end| end.min(until))
    }

    fn heard(&mut self, change: Result<Option<LeaseFacts>, watcher::Error>) {
        match change {
            Ok(lease) => self.candidate.observe(lease, self.started.elapsed()),
            Err(error) => tracing::warn!(watch = SETTLED, %error, "a watch broke; it is tried again"),
        }
    }

    /// Takes in what came of an attempt that was sent at `sent`.
    fn note(&mut self, outcome: Result<Answer, Option<Error>>, sent: Duration) {
        let now = self.started.elapsed();
        match outcome {
            Ok(Answer::Read(lease)) => self.candidate.observe(lease, now),
            Ok(Answer::Wrote(lease)) => self.candidate.wrote(lease, sent, now),
            Err(Some(error)) if error.class() == Class::Conflict => self.candidate.conflicted(),
            Err(error) => {
                let why = error.map_or_else(
                    || format!("no answer within {} s", ATTEMPT.as_secs()),
                    |error| error.to_string(),
                );
                tracing::warn!(
                    why,
                    leads = self.told,
                    "the lease can be neither read nor renewed; it is tried again"
                );
                self.readiness.undone(SETTLED, &why);
                self.candidate.failed(now);
            }
        }
    }

    /// Tells everybody whether this process leads, and the log if that has changed.
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
                tracing::info!(holder = self.candidate.holder(), "this process leads");
            } else {
                tracing::warn!("this process leads no more");
            }
        }
    }

    /// Tells the log whom this process waits for, if that is somebody else than before.
    fn tell_other(&mut self) {
        let other = self.candidate.holder().filter(|_| !self.candidate.holds());
        if self.told_other.as_deref() != other {
            self.told_other = other.map(str::to_owned);
            if let Some(holder) = other {
                tracing::info!(
                    holder,
                    "another replica leads; this one only ends what is past its end"
                );
            }
        }
    }

    async fn give_back(mut self) {
        let led = self.told;
        // Once more, if the last renewal was done and only its answer is missing.
        for _ in 0..2 {
            let write = self.candidate.resign(Timestamp::now());
            self.tell();
            let Some(write) = write else { return };
            match answered(self.registry.write(&write)).await {
                Ok(_) => {
                    tracing::info!(led, "the lease was given back");
                    return;
                }
                Err(Some(error)) if error.class() == Class::Conflict => {}
                Err(error) => {
                    let why = error.map_or_else(String::new, |error| error.to_string());
                    tracing::warn!(why, "the lease could not be given back; it runs out");
                    return;
                }
            }
            if let Ok(lease) = answered(self.registry.read()).await {
                self.candidate.observe(lease, self.started.elapsed());
            }
        }
    }
}

/// How a campaign ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// It was told to.
    Resigned,
    /// The Lease is older than it was.
    PutBack,
}

/// A campaign under way.
pub struct Candidacy {
    resign: oneshot::Sender<()>,
    put_back: oneshot::Receiver<()>,
    running: JoinHandle<()>,
}

impl Candidacy {
    /// Until the Lease turns out to be older than it was: the cluster goes on from a backup. What this process knows
    /// then has never been, and its watches wait for versions that are yet to come, without an error. Nothing is
    /// tried any more.
    pub async fn is_put_back(&mut self) {
        if (&mut self.put_back).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Ends it: this process leads no more, and gives the Lease back if it has it.
    pub async fn resign(self) {
        drop(self.resign);
        if timeout(RESIGNATION, self.running).await.is_err() {
            tracing::warn!("the lease was not given back in time; it runs out");
        }
    }
}

/// What an attempt gave.
enum Answer {
    Read(Option<LeaseFacts>),
    Wrote(LeaseFacts),
}

/// Writes that, or reads.
async fn attempt(registry: Arc<dyn Registry>, write: Option<LeaseWrite>) -> Result<Answer, Option<Error>> {
    match write {
        None => answered(registry.read()).await.map(Answer::Read),
        Some(write) => answered(registry.write(&write)).await.map(Answer::Wrote),
    }
}

/// Within the time that an attempt may take; an error of `None`: no answer came.
async fn answered<T>(attempt: impl Future<Output = Result<T, Error>>) -> Result<T, Option<Error>> {
    match timeout(ATTEMPT, attempt).await {
        Ok(answer) => answer.map_err(Some),
        Err(_) => Err(None),
    }
}

#[cfg(test)]
impl Leadership {
    /// That of a process which leads when a test says so.
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
mod tests;
