//! Whether the admission guards stand: asked by every pass that may give access, kept up to date by a task of its own.
//!
//! A pass pays for it only with the first grant of a namespace, which waits for the forgeries to be refused there
//! (about 30 ms). From then on the answer is known, and renewed every minute while the namespace has a grant that is
//! live or undecided. Whoever does not lead gives nothing, and only compares the guards.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::keylock::KeyLocks;
use super::lease::Leadership;
use super::metrics::Metrics;
use super::probe::Probe;
use super::server::Readiness;
use super::triggers::Triggers;
use crate::cluster::GrantKey;
use crate::core::self_test::{Evidence, Standing, VALIDITY, standing};

/// What `/readyz` calls it.
pub const GUARDS: &str = "guards";

/// How often each half is tried again while it proves the guards: "removed" is noticed within a minute.
const EVERY: Duration = Duration::from_mins(1);

/// How often it is tried again at first when it does not: an API server loads new guards within a second or two.
const SOON: Duration = Duration::from_secs(1);

/// How many times so soon.
const EAGER: u32 = 10;

/// How often after that: whoever mends guards watches whether it helped.
const LATER: Duration = Duration::from_secs(5);

/// Pause between two namespaces: 5 a second at most, so that the self-test costs a bounded share of a core however many
/// namespaces there are. Of more than 300, some are tried less often than once a minute, or when they are needed.
const GAP: Duration = Duration::from_millis(200);

/// How long a pass waits for an answer; then its grant is held, and looked at again when there is one.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often a pass that waits looks whether there is an answer.
const RETRY: Duration = Duration::from_millis(250);

/// The key under which the guards themselves are compared; no namespace has an empty name.
const SPECS: &str = "";

/// What is known of the guards.
pub struct SelfTest {
    probe: Box<dyn Probe>,
    triggers: Triggers,
    readiness: Readiness,
    metrics: Metrics,
    findings: Mutex<Findings>,
    /// Who asks for the same thing at once asks once.
    asking: KeyLocks<String>,
    hurried: Notify,
}

/// What was found in one place.
#[derive(Debug)]
struct Finding {
    last: Option<(Standing, Instant)>,
    /// Why there is no answer, since then.
    silence: Option<String>,
    failures: u32,
    due: Instant,
}

#[derive(Debug)]
struct Findings {
    specs: Finding,
    namespaces: HashMap<String, Finding>,
    /// Namespaces in which grants wait for the guards.
    held: BTreeSet<String>,
    /// What was last told of all of it.
    told: Option<Standing>,
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
        matches!(&self.last, Some((Standing::Breached(_), _)))
    }

    /// Takes in an answer; without one, what was found before counts on. Says whether it is another one.
    fn note(&mut self, answer: Result<Standing, String>) -> bool {
        let now = Instant::now();
        let proven = answer == Ok(Standing::InForce);
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
    /// Nothing is known yet.
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
        self.findings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether access may be given in the namespace of this grant. What is known answers at once; otherwise it is
    /// tried, for 5 s at most. Whoever is told no is triggered when that changes.
    pub async fn standing(&self, grant: &GrantKey) -> Standing {
        let namespace = &grant.namespace;
        if self.findings().known(namespace).is_none() {
            // What was found out counts, not whether all of it was.
            timeout(PATIENCE, self.find_out(grant)).await.unwrap_or_default();
        }
        let mut findings = self.findings();
        let standing = findings
            .known(namespace)
            .unwrap_or_else(|| Standing::Unproven(findings.silence(namespace)));
        if standing != Standing::InForce {
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

    /// Tries what is due, until it is dropped.
    pub async fn run(self: Arc<Self>, mut synced: watch::Receiver<bool>, leadership: Leadership) {
        // Its sender lives as long as the process.
        if synced.wait_for(|synced| *synced).await.is_err() {
            return;
        }
        loop {
            self.compare_if(|specs| specs.due <= Instant::now()).await;
            let leads = leadership.leads();
            if !leads {
                // Nobody tries them again, and what was broken may be mended. What was proven gets too old by itself.
                self.findings()
                    .namespaces
                    .retain(|_, finding| !finding.is_breached());
            }
            if let Some(grant) = self.due_namespace().filter(|_| leads) {
                let alone = self.asking.lock(grant.namespace.clone()).await;
                // A pass may have done it meanwhile.
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
        // Somebody else may have done it meanwhile.
        if !wanted(&self.findings().specs) {
            return;
        }
        let answer = self.probe.compare().await;
        let mut findings = self.findings();
        let changed = findings.specs.note(answer);
        if findings.specs.is_breached() {
            // Guards that come back have to prove themselves anew: the API server may not have loaded them.
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
        // Meanwhile the guards themselves may have been found wanting, and then this proves nothing.
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
            // What is wrong here may be wrong everywhere, and the guards themselves may say what it is: until they have
            // been compared nobody is given anything.
            findings.specs.last = None;
            findings.specs.due = now;
        }
        let concerned = match findings.known(namespace) {
            Some(Standing::InForce) => findings.held.take(namespace),
            _ => (changed && breached)
                .then(|| findings.held.get(namespace).cloned())
                .flatten(),
        };
        drop(findings);
        self.told_to_look(&concerned.into_iter().collect());
        self.hurried.notify_one();
        self.tell();
    }

    /// The namespace whose turn it is, by one of its grants.
    fn due_namespace(&self) -> Option<GrantKey> {
        let open = self.probe.open_namespaces();
        let now = Instant::now();
        let mut findings = self.findings();
        findings.namespaces.retain(|name, finding| {
            let is_open = open.contains_key(name);
            if !is_open && finding.due <= now {
                // Nobody needs it any more; until it is too old it spares the next grant a trial.
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

    /// Says what is wrong, if that has changed.
    fn tell(&self) {
        let mut findings = self.findings();
        let all = match findings.wrong() {
            None => Standing::InForce,
            Some(why) => Standing::Breached(why),
        };
        if findings.told.as_ref() == Some(&all) {
            return;
        }
        let first = findings.told.is_none();
        findings.told = Some(all.clone());
        drop(findings);
        self.metrics.set_guards_in_force(all == Standing::InForce);
        match all {
            Standing::InForce => {
                self.readiness.done(GUARDS);
                tracing::info!("the admission guards are in force");
            }
            Standing::Breached(why) | Standing::Unproven(why) => {
                self.readiness.undone(GUARDS, &why);
                if !first {
                    tracing::error!(why, "the admission guards are not in force: no access is given");
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
    /// What is known, if what was found still counts.
    fn known(&self, namespace: &str) -> Option<Standing> {
        let here = self.namespaces.get(namespace).and_then(Finding::evidence);
        standing(self.specs.evidence().as_ref(), here.as_ref())
    }

    fn is_due(&self, namespace: &str) -> bool {
        let here = self.namespaces.get(namespace);
        here.is_none_or(|here| here.due <= Instant::now())
    }

    /// Whether forgeries are to be tried in a namespace before anything can be given there. After a trial without an
    /// answer the next one comes when it is due: a hundred passes must not make a hundred.
    fn wants_trial(&self, namespace: &str) -> bool {
        self.is_due(namespace) && self.specs.is_proof() && self.known(namespace).is_none()
    }

    /// Why nothing is known.
    fn silence(&self, namespace: &str) -> String {
        let here = self.namespaces.get(namespace);
        let why = here
            .and_then(|here| here.silence.as_deref())
            .or(self.specs.silence.as_deref());
        format!(
            "nobody knows yet whether they do: {}",
            why.unwrap_or("no answer yet")
        )
    }

    /// What keeps access from being given anywhere.
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

    /// When something is due next; forgeries are only for a leader.
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
mod tests;
