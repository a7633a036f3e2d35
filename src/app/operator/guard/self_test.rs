//! Self-test of the admission guards. Each reconcile that may grant access asks for the result.
//!
//! Only the first grant of a namespace waits, until the forgeries are refused there (about 30 ms). After that the result
//! is known. A task renews it every minute while the namespace has a live or undecided grant. A follower grants nothing
//! and only compares the guards.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::app::operator::guard::probe::Probe;
use crate::app::operator::key_lock::KeyLocks;
use crate::app::operator::metrics::Metrics;
use crate::app::operator::replica::leader::Leadership;
use crate::app::operator::server::Readiness;
use crate::app::operator::triggers::Triggers;
use crate::cluster::objects::keys::GrantKey;
use crate::core::guard::self_test::evidence::{Evidence, VALIDITY, standing};
use crate::core::guard::state::GuardState;

/// Name of the condition in `/readyz`.
pub const GUARDS: &str = "guards";

/// Interval between two comparisons, and between two trials of a namespace, while the guards are in force. Removed guards
/// are noticed within a minute.
const EVERY: Duration = Duration::from_mins(1);

/// Interval at first while the guards are not in force. An API server loads new guards within a second or two.
const SOON: Duration = Duration::from_secs(1);

/// Number of attempts at that interval.
const EAGER: u32 = 10;

/// Interval after that. The person who repairs the guards waits for the result.
const LATER: Duration = Duration::from_secs(5);

/// Pause between the trials of two namespaces: at most 5 a second, which bounds the processor time of the self-test. With
/// more than 300 namespaces, some are tried less often than once a minute, or when a grant needs them.
const GAP: Duration = Duration::from_millis(200);

/// How long a reconcile waits for a result. After that the grant is held, and reconciled when there is a result.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often a waiting reconcile checks for a result.
const RETRY: Duration = Duration::from_millis(250);

/// Lock key of the comparison. No namespace has an empty name.
const SPECS: &str = "";

/// Self-test of the admission guards, and its results.
pub struct SelfTest {
    probe: Box<dyn Probe>,
    triggers: Triggers,
    readiness: Readiness,
    metrics: Metrics,
    findings: Mutex<Findings>,
    /// Concurrent callers share one comparison, and one trial of each namespace.
    asking: KeyLocks<String>,
    hurried: Notify,
}

/// Result of the comparison, or of the trial in one namespace.
#[derive(Debug)]
struct Finding {
    last: Option<(GuardState, Instant)>,
    /// Why the last attempt had no answer.
    silence: Option<String>,
    failures: u32,
    due: Instant,
}

#[derive(Debug)]
struct Findings {
    specs: Finding,
    namespaces: HashMap<String, Finding>,
    /// Namespaces with grants that are held for the guards.
    held: BTreeSet<String>,
    /// The overall state that was logged last.
    told: Option<GuardState>,
}

impl Finding {
    fn due_at(due: Instant) -> Self {
        Self {
            last: None,
            silence: None,
            failures: 0,
            due,
        }
    }

    fn evidence(&self) -> Option<Evidence> {
        self.last.as_ref().map(|(standing, since)| Evidence {
            standing: standing.clone(),
            age: since.elapsed(),
        })
    }

    fn is_breached(&self) -> bool {
        matches!(&self.last, Some((GuardState::Breached(_), _)))
    }

    /// Notes an answer. Without an answer the last result stays. Returns whether the result changed.
    fn note(&mut self, answer: Result<GuardState, String>) -> bool {
        let now = Instant::now();
        let proven = answer == Ok(GuardState::InForce);
        let changed = match answer {
            Ok(standing) => {
                let changed = self.last.as_ref().is_none_or(|(before, _)| *before != standing);
                self.last = Some((standing, now));
                self.silence = None;
                changed
            }
            Err(why) => {
                self.silence = Some(why);
                false
            }
        };
        self.failures = if proven {
            0
        } else {
            self.failures.saturating_add(1)
        };
        self.due = now
            + match self.failures {
                0 => EVERY,
                1..=EAGER => SOON,
                _ => LATER,
            };
        changed
    }
}

impl SelfTest {
    /// No result is known yet.
    pub fn new(probe: Box<dyn Probe>, triggers: Triggers, readiness: Readiness, metrics: Metrics) -> Self {
        let test = Self {
            probe,
            triggers,
            readiness,
            metrics,
            findings: Mutex::new(Findings {
                specs: Finding::due_at(Instant::now()),
                namespaces: HashMap::new(),
                held: BTreeSet::new(),
                told: None,
            }),
            asking: KeyLocks::default(),
            hurried: Notify::new(),
        };
        test.tell();
        test
    }

    fn findings(&self) -> MutexGuard<'_, Findings> {
        self.findings.lock()
    }

    /// State of the guards for the namespace of a grant. A known result returns at once; otherwise the forgeries are
    /// tried, for 5 s at most. If the state is not `InForce`, the grant is reconciled when the state changes.
    pub async fn standing(&self, grant: &GrantKey) -> GuardState {
        let namespace = &grant.namespace;
        if self.findings().known(namespace).is_none() {
            // Any result counts, also after a timeout.
            timeout(PATIENCE, self.find_out(grant)).await.unwrap_or_default();
        }
        let mut findings = self.findings();
        let standing = findings
            .known(namespace)
            .unwrap_or_else(|| GuardState::Unproven(findings.silence(namespace)));
        if standing != GuardState::InForce {
            findings.held.insert(namespace.clone());
        }
        standing
    }

    async fn find_out(&self, grant: &GrantKey) {
        loop {
            self.compare_if(|specs| specs.is_outdated() && specs.due <= Instant::now())
                .await;
            let alone = self.asking.lock(grant.namespace.clone()).await;
            if self.findings().wants_trial(&grant.namespace) {
                self.forge(grant).await;
            }
            drop(alone);
            if self.findings().known(&grant.namespace).is_some() {
                return;
            }
            sleep(RETRY).await;
        }
    }

    /// Runs the due comparisons and trials until the future is dropped.
    pub async fn run(self: Arc<Self>, mut synced: watch::Receiver<bool>, leadership: Leadership) {
        // Its sender lives as long as the process.
        if synced.wait_for(|synced| *synced).await.is_err() {
            return;
        }
        loop {
            self.compare_if(|specs| specs.due <= Instant::now()).await;
            let leads = leadership.leads();
            if !leads {
                // A follower tries no forgeries, so a breach could stay although it was repaired. A proof expires by itself.
                self.findings()
                    .namespaces
                    .retain(|_, finding| !finding.is_breached());
            }
            if let Some(grant) = self.due_namespace().filter(|_| leads) {
                let alone = self.asking.lock(grant.namespace.clone()).await;
                // A reconcile may have tried the forgeries meanwhile.
                if self.findings().is_due(&grant.namespace) {
                    self.forge(&grant).await;
                }
                drop(alone);
                sleep(GAP).await;
                continue;
            }
            self.tell();
            let next = self.findings().next(leads);
            tokio::select! {
                () = sleep_until(next) => {}
                () = self.hurried.notified() => {}
                _ = leadership.begins(), if !leads => {}
            }
        }
    }

    async fn compare_if(&self, wanted: impl Fn(&Finding) -> bool) {
        if !wanted(&self.findings().specs) {
            return;
        }
        let _alone = self.asking.lock(SPECS.to_owned()).await;
        // Another caller may have compared the guards meanwhile.
        if !wanted(&self.findings().specs) {
            return;
        }
        let answer = self.probe.compare().await;
        let mut findings = self.findings();
        let changed = findings.specs.note(answer);
        if findings.specs.is_breached() {
            // Restored guards need a new trial: the API server may not have loaded them.
            findings.namespaces.clear();
        }
        let concerned = if changed && findings.specs.is_breached() {
            findings.held.clone()
        } else {
            BTreeSet::new()
        };
        drop(findings);
        self.told_to_look(&concerned);
        self.hurried.notify_one();
        self.tell();
    }

    async fn forge(&self, grant: &GrantKey) {
        let namespace = &grant.namespace;
        let answer = self.probe.forge(grant).await;
        let mut findings = self.findings();
        // If the comparison has found a breach meanwhile, the trial proves nothing.
        if findings.specs.is_breached() {
            return;
        }
        let now = Instant::now();
        let finding = findings
            .namespaces
            .entry(namespace.clone())
            .or_insert_with(|| Finding::due_at(now));
        let changed = finding.note(answer);
        let breached = finding.is_breached();
        if changed && breached {
            // The breach may exist in all namespaces, and a comparison may show its cause. Until the guards are compared,
            // no access is granted anywhere.
            findings.specs.last = None;
            findings.specs.due = now;
        }
        let concerned = match findings.known(namespace) {
            Some(GuardState::InForce) => findings.held.take(namespace),
            _ => (changed && breached)
                .then(|| findings.held.get(namespace).cloned())
                .flatten(),
        };
        drop(findings);
        self.told_to_look(&concerned.into_iter().collect());
        self.hurried.notify_one();
        self.tell();
    }

    /// The namespace whose trial is due, as the key of one of its grants.
    fn due_namespace(&self) -> Option<GrantKey> {
        let open = self.probe.open_namespaces();
        let now = Instant::now();
        let mut findings = self.findings();
        findings.namespaces.retain(|name, finding| {
            let is_open = open.contains_key(name);
            if !is_open && finding.due <= now {
                // No grant needs the result now. Until it expires, it spares the next grant a trial.
                finding.due = now + EVERY;
            }
            is_open || finding.is_proof()
        });
        findings.held.retain(|name| open.contains_key(name));
        if !findings.specs.is_proof() {
            return None;
        }
        let due = |name: &String| findings.namespaces.get(name).map_or(now, |finding| finding.due);
        open.into_iter()
            .filter(|(name, _)| due(name) <= now)
            .min_by_key(|(name, _)| due(name))
            .map(|(namespace, name)| GrantKey { namespace, name })
    }

    fn told_to_look(&self, namespaces: &BTreeSet<String>) {
        for namespace in namespaces {
            self.triggers.fire_grants(self.probe.waiting(namespace));
        }
    }

    /// Updates metric and readiness, and logs a new state.
    fn tell(&self) {
        let mut findings = self.findings();
        let all = match findings.wrong() {
            None => GuardState::InForce,
            Some(why) => GuardState::Breached(why),
        };
        if findings.told.as_ref() == Some(&all) {
            return;
        }
        let first = findings.told.is_none();
        findings.told = Some(all.clone());
        drop(findings);
        self.metrics.set_guards_in_force(all == GuardState::InForce);
        match all {
            GuardState::InForce => {
                self.readiness.done(GUARDS);
                tracing::info!("the admission guards are in force");
            }
            GuardState::Breached(why) | GuardState::Unproven(why) => {
                self.readiness.undone(GUARDS, &why);
                if !first {
                    tracing::error!(
                        why,
                        "the admission guards are not in force: no access is granted; apply the output of `curfew guards`"
                    );
                }
            }
        }
    }
}

impl Finding {
    fn is_outdated(&self) -> bool {
        self.last
            .as_ref()
            .is_none_or(|(_, since)| since.elapsed() > VALIDITY)
    }

    fn is_proof(&self) -> bool {
        !self.is_breached() && !self.is_outdated()
    }
}

impl Findings {
    /// The state, if the results have not expired.
    fn known(&self, namespace: &str) -> Option<GuardState> {
        let here = self.namespaces.get(namespace).and_then(Finding::evidence);
        standing(self.specs.evidence().as_ref(), here.as_ref())
    }

    fn is_due(&self, namespace: &str) -> bool {
        let here = self.namespaces.get(namespace);
        here.is_none_or(|here| here.due <= Instant::now())
    }

    /// Whether a namespace needs a trial before access can be granted there. After a trial without an answer, the next
    /// trial runs when it is due: a hundred reconciles must not cause a hundred trials.
    fn wants_trial(&self, namespace: &str) -> bool {
        self.is_due(namespace) && self.specs.is_proof() && self.known(namespace).is_none()
    }

    /// Why no state is known.
    fn silence(&self, namespace: &str) -> String {
        let here = self.namespaces.get(namespace);
        let why = here
            .and_then(|here| here.silence.as_deref())
            .or(self.specs.silence.as_deref());
        format!("not tested yet: {}", why.unwrap_or("no answer yet"))
    }

    /// Why no access can be granted; `None`: the guards are in force.
    fn wrong(&self) -> Option<String> {
        if self.specs.is_proof() {
            return self.breached_somewhere();
        }
        let breach = self.specs.last.as_ref().and_then(|(last, _)| last.breach());
        breach
            .map(ToOwned::to_owned)
            .or_else(|| self.breached_somewhere())
            .or_else(|| {
                let why = self.specs.silence.as_ref()?;
                Some(format!("they could not be compared: {why}"))
            })
            .or_else(|| Some("not compared yet".to_owned()))
    }

    /// The first namespace in which a forgery was not refused.
    fn breached_somewhere(&self) -> Option<String> {
        let mut breaches: Vec<(&String, &str)> = self
            .namespaces
            .iter()
            .filter_map(|(name, finding)| Some((name, finding.last.as_ref()?.0.breach()?)))
            .collect();
        breaches.sort_unstable();
        let (name, why) = breaches.first()?;
        let others = breaches.len() - 1;
        let more = if others > 0 {
            format!(" (and {others} other namespaces)")
        } else {
            String::new()
        };
        Some(format!("in namespace {name}{more}: {why}"))
    }

    /// Time of the next comparison or trial. Only a leader makes trials.
    fn next(&self, leads: bool) -> Instant {
        let specs = self.specs.due;
        if !leads || !self.specs.is_proof() {
            return specs;
        }
        self.namespaces
            .values()
            .map(|finding| finding.due)
            .fold(specs, Instant::min)
    }
}

#[cfg(test)]
#[path = "tests/self_test.rs"]
mod tests;
