//! What is measured, one stage after the other.
//!
//! In each stage the bare client goes first and Curfew second, each as a new process that has served some grants
//! before anything counts; between them the cluster is emptied.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use curfew::api::AccessGrantStatus;
use jiff::{SignedDuration, Timestamp};
use kube::api::ListParams;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::contender::{Contender, Progress, Running};
use crate::harness::{Plane, eventually};
use crate::load::{CREATORS, Load, Made, Wish};
use crate::progress::Teller;
use crate::readings::{Readings, milliseconds};
use crate::watch::{Sighting, Sightings};
use crate::writes::{Writes, requests};

/// Time between two grants of those that come alone: long enough for the bookkeeping of one to be done.
pub(crate) const PACE: Duration = Duration::from_millis(150);
/// How long a grant stands beyond the time that making it may take.
const STANDING: Duration = Duration::from_secs(3);
/// How long ending so many may take at most, before the benchmark gives up.
const GIVE_UP: Duration = Duration::from_mins(3);
/// How long a process is left alone before its memory is read.
const REST: Duration = Duration::from_secs(3);
/// How long grants are past their end before somebody comes who ends them.
const OVERDUE: Duration = Duration::from_secs(1);
/// How often a process is killed and started again.
const STARTS: usize = 3;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Grants one at a time.
    pub single: usize,
    /// Bursts: how many grants at once, in how many rounds.
    pub bursts: &'static [(usize, usize)],
    /// Grants with rules, to count their writes.
    pub rules: usize,
    /// Live grants of an idle operator.
    pub live: usize,
    /// Ended grants beside them.
    pub ended: usize,
    /// How long to watch it being idle.
    pub idle: Duration,
}

impl Scale {
    /// Everything that the figures to reach are about.
    pub const FULL: Self = Self {
        single: 100,
        bursts: &[(100, 5), (1_000, 1)],
        rules: 100,
        live: 1_000,
        ended: 9_000,
        idle: Duration::from_mins(1),
    };
    /// A first impression.
    pub const QUICK: Self = Self {
        single: 30,
        bursts: &[(100, 1)],
        rules: 20,
        live: 100,
        ended: 0,
        idle: Duration::from_secs(10),
    };

    /// How many phases the teller tells.
    pub fn phases(&self) -> usize {
        let starts = if self.ended > 0 { 3 } else { 0 };
        1 + 2 * (1 + self.bursts.len()) + 1 + 2 + 2 + starts
    }
}

/// A benchmark under way.
pub struct Bench<'a> {
    /// The control plane.
    pub plane: &'a Plane,
    /// The operator's binary.
    pub operator: &'a Path,
    /// Who asks.
    pub load: Load,
    /// Who watches.
    pub sightings: Arc<Sightings>,
    /// What was measured.
    pub readings: Readings,
    /// What was written, by what was asked for and how many grants that were.
    pub writes: Vec<(&'static str, usize, Writes)>,
    /// Who tells.
    pub teller: Teller,
}

/// The whole life of some grants.
struct Life {
    made: Vec<Made>,
    seen: Vec<Sighting>,
    used: Used,
}

/// What it took.
struct Used {
    cpu_seconds: f64,
    plane_cpu_seconds: BTreeMap<&'static str, f64>,
    live_mib: f64,
    progress: Option<(Progress, Progress)>,
    writes: Writes,
}

impl Life {
    fn activations(&self) -> Vec<f64> {
        let each = self.made.iter().zip(&self.seen);
        // The watch can be faster than the answer.
        each.filter_map(|(made, seen)| Some(milliseconds(made.answered, seen.came?).max(0.0)))
            .collect()
    }

    fn lags(&self) -> Vec<f64> {
        let each = self.made.iter().zip(&self.seen);
        each.filter_map(|(made, seen)| Some(milliseconds(made.end, seen.went?)))
            .collect()
    }

    /// From the first end to the last.
    fn milliseconds_of_ends(&self) -> Option<f64> {
        let went = || self.seen.iter().filter_map(|seen| seen.went);
        Some(milliseconds(went().min()?, went().max()?))
    }

    /// From the first request to the last binding.
    fn seconds_to_all(&self) -> Option<f64> {
        let first = self.made.iter().map(|made| made.asked).min()?;
        let last = self.seen.iter().filter_map(|seen| seen.came).max()?;
        Some(milliseconds(first, last) / 1000.0)
    }
}

impl Bench<'_> {
    /// All stages.
    pub async fn run(&mut self, scale: &Scale) -> anyhow::Result<()> {
        for who in Contender::BOTH {
            self.one_at_a_time(who, scale.single).await?;
        }
        for &(number, rounds) in scale.bursts {
            for who in Contender::BOTH {
                self.at_once(who, number, rounds).await?;
            }
        }
        self.rules(scale.rules).await?;
        self.approvals(scale).await?;
        self.standing(scale).await
    }

    /// Grants that come and go alone.
    async fn one_at_a_time(&mut self, who: Contender, number: usize) -> anyhow::Result<()> {
        self.teller
            .phase(format_args!("{who}: {number} grants, one at a time"));
        let running = self.start(who).await?;
        sleep(REST).await;
        self.readings
            .put(who, "resident_mib.idle", running.usage()?.resident_mib);
        self.warm_up(&running).await?;
        let all = PACE * u32::try_from(number)?;
        let mut end = in_so_long(all + STANDING)?;
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let life = self
            .life(&running, async |load| {
                let mut made = Vec::with_capacity(number);
                for _ in 0..number {
                    pace.tick().await;
                    made.push(load.one(Wish::Role, end).await?);
                    end = end.saturating_add(PACE)?;
                }
                Ok(made)
            })
            .await?;
        self.readings
            .put_times(who, "activation_ms.single", &life.activations());
        self.readings.put_times(who, "lag_ms.single", &life.lags());
        self.stop(running).await
    }

    /// Grants that come at once and end at the same moment.
    async fn at_once(&mut self, who: Contender, number: usize, rounds: usize) -> anyhow::Result<()> {
        self.teller
            .phase(format_args!("{who}: {number} grants at once, {rounds} time(s)"));
        let running = self.start(who).await?;
        self.warm_up(&running).await?;
        let mut lives = Vec::new();
        for round in 1..=rounds {
            self.teller.step(format_args!("round {round} of {rounds}"));
            lives.push(self.burst(&running, number, Wish::Role).await?);
        }
        self.note_bursts(who, &format!("burst{number}"), number, &lives);
        if who == Contender::Curfew {
            self.note_writes("role", &lives);
        }
        self.stop(running).await
    }

    fn note_bursts(&mut self, who: Contender, name: &str, number: usize, lives: &[Life]) {
        #[expect(clippy::cast_precision_loss, reason = "thousands")]
        let grants = (number * lives.len()) as f64;
        let all = |times: fn(&Life) -> Vec<f64>| lives.iter().flat_map(times).collect::<Vec<_>>();
        let sum = |of: fn(&Used) -> f64| lives.iter().map(|life| of(&life.used)).sum::<f64>();
        let readings = &mut self.readings;
        readings.put_times(who, &format!("activation_ms.{name}"), &all(Life::activations));
        readings.put_times(who, &format!("lag_ms.{name}"), &all(Life::lags));
        let seconds: f64 = lives.iter().filter_map(Life::seconds_to_all).sum();
        readings.put(who, &format!("activations_per_second.{name}"), grants / seconds);
        let ends: Vec<f64> = lives.iter().filter_map(Life::milliseconds_of_ends).collect();
        readings.put(
            who,
            &format!("ends_ms.{name}"),
            ends.iter().fold(0.0, |a, b| f64::max(a, *b)),
        );
        let mut per_grant = |what: &str, value: f64| {
            readings.put(who, &format!("{what}_per_grant.{name}"), value / grants);
        };
        per_grant("cpu_ms", sum(|used| used.cpu_seconds) * 1000.0);
        let mut plane = BTreeMap::<_, f64>::new();
        for (process, seconds) in lives.iter().flat_map(|life| &life.used.plane_cpu_seconds) {
            *plane.entry(process).or_default() += seconds;
        }
        for (process, seconds) in plane {
            per_grant(&format!("{process}_cpu_ms"), seconds * 1000.0);
        }
        let progress: Vec<_> = lives.iter().filter_map(|life| life.used.progress).collect();
        if !progress.is_empty() {
            let delta =
                |of: fn(&Progress) -> f64| progress.iter().map(|(from, to)| of(to) - of(from)).sum::<f64>();
            per_grant("passes", delta(|progress| progress.passes));
            per_grant("effects", delta(|progress| progress.effects));
            per_grant("odd_effects", delta(|progress| progress.odd_effects));
        }
        let most = lives.iter().map(|life| life.used.live_mib).fold(0.0, f64::max);
        readings.put(who, &format!("resident_mib.{name}"), most);
    }

    /// Grants with rules of the policy's own, for their writes.
    async fn rules(&mut self, number: usize) -> anyhow::Result<()> {
        self.teller.phase(format_args!(
            "curfew: {number} grants with rules, to count writes"
        ));
        let running = self.start(Contender::Curfew).await?;
        self.warm_up(&running).await?;
        let life = self.burst(&running, number, Wish::Rules).await?;
        self.note_writes("rules", &[life]);
        self.stop(running).await
    }

    fn note_writes(&mut self, what: &'static str, lives: &[Life]) {
        let mut writes = Writes::default();
        for life in lives {
            writes.add(&life.used.writes);
        }
        let grants = lives.iter().map(|life| life.made.len()).sum::<usize>();
        #[expect(clippy::cast_precision_loss, reason = "thousands")]
        let per_grant = writes.number_for_grants() as f64 / grants.max(1) as f64;
        self.readings
            .put(Contender::Curfew, &format!("writes_per_grant.{what}"), per_grant);
        self.writes.push((what, grants, writes));
    }

    /// Grants that stand: what they cost while nothing happens, and at a start.
    async fn standing(&mut self, scale: &Scale) -> anyhow::Result<()> {
        let (live, who) = (scale.live, Contender::Curfew);
        self.teller.phase(format_args!("curfew: {live} live grants"));
        let running = self.start(who).await?;
        let model = self
            .warm_up(&running)
            .await?
            .context("no grant of the warm-up has ended")?;
        let far = in_so_long(Duration::from_hours(2))?;
        let before = running.progress().await?.unwrap_or_default();
        let made = self.load.burst(live, Wish::Role, far).await?;
        let late = lead(who, live);
        self.until_seen("made", &running, &made, late, |seen| seen.came.is_some())
            .await?;
        self.until_done(
            &running,
            "active",
            late,
            |now| now.active - before.active,
            made.len(),
        )
        .await?;
        self.idle(&running, &format!("live{live}"), scale.idle).await?;
        if scale.ended == 0 {
            return self.stop(running).await;
        }
        running.stop().await?;
        let ended = scale.ended;
        self.teller
            .phase(format_args!("{ended} ended grants beside them, with no operator"));
        for part in 1..=10 {
            self.load.ended(ended / 10, &model).await?;
            self.teller.step(format_args!("{} of {ended}", ended / 10 * part));
        }
        self.starts(live + ended).await?;
        self.overdue(made, live + ended).await
    }

    /// What doing nothing costs.
    pub(crate) async fn idle(
        &mut self,
        running: &Running,
        what: &str,
        window: Duration,
    ) -> anyhow::Result<()> {
        self.teller
            .phase(format_args!("curfew: idle, {what}, {} s", window.as_secs()));
        // The policy's count of live grants is written ten seconds after the last change at most.
        sleep(Duration::from_secs(12)).await;
        let from = self.plane.audit_mark()?;
        let cpu = running.usage()?.cpu_seconds;
        sleep(window).await;
        let events = self.plane.audit_events_since(from)?;
        let usage = running.usage()?;
        let seconds = window.as_secs_f64();
        let written = Writes::of(&events);
        #[expect(clippy::cast_precision_loss, reason = "hundreds")]
        let (writes, heartbeats, requests) = (
            written.number() as f64,
            written.heartbeats as f64,
            requests(&events) as f64,
        );
        let who = Contender::Curfew;
        self.readings.put(who, &format!("idle_writes.{what}"), writes);
        self.readings
            .put(who, &format!("idle_heartbeats.{what}"), heartbeats);
        self.readings.put(
            who,
            &format!("idle_requests_per_second.{what}"),
            requests / seconds,
        );
        let cpu = (usage.cpu_seconds - cpu) * 1000.0 / seconds;
        self.readings
            .put(who, &format!("idle_cpu_ms_per_second.{what}"), cpu);
        self.readings
            .put(who, &format!("resident_mib.{what}"), usage.resident_mib);
        Ok(())
    }

    /// Starts with so many grants there.
    async fn starts(&mut self, total: usize) -> anyhow::Result<()> {
        self.teller
            .phase(format_args!("curfew: {STARTS} starts with {total} grants"));
        let mut times = Vec::new();
        for start in 1..=STARTS {
            let began = Timestamp::now();
            let running = Running::start(self.plane, Contender::Curfew, self.operator).await?;
            times.push(milliseconds(began, Timestamp::now()));
            self.until_done(&running, "looked at", GIVE_UP, |now| now.passes, total)
                .await?;
            sleep(REST).await;
            if start == STARTS {
                let resident = running.usage()?.resident_mib;
                self.readings
                    .put(Contender::Curfew, &format!("resident_mib.total{total}"), resident);
            }
            if let Running::Curfew(operator) = &running {
                operator.kill9().await?;
            }
        }
        times.sort_by(f64::total_cmp);
        let median = crate::readings::percentile(&times, 50).unwrap_or_default();
        self.readings
            .put(Contender::Curfew, &format!("start_ms.total{total}"), median);
        Ok(())
    }

    /// A start with some grants past their end that nobody has ended, in place of those that stand: operator and
    /// controller-manager were dead.
    async fn overdue(&mut self, standing: Vec<Made>, total: usize) -> anyhow::Result<()> {
        let (number, who) = (standing.len(), Contender::Curfew);
        self.teller.phase(format_args!(
            "{who}: a start with {total} grants, {number} of them overdue"
        ));
        let running = self.start(who).await?;
        self.load.delete(&standing).await?;
        self.until_seen("gone", &running, &standing, GIVE_UP, |seen| seen.went.is_some())
            .await?;
        let before = running.progress().await?.unwrap_or_default();
        let patience = 2 * lead(who, number);
        let end = in_so_long(patience + STANDING)?;
        let made = self.load.burst(number, Wish::Role, end).await?;
        self.until_seen("made", &running, &made, patience, |seen| seen.came.is_some())
            .await?;
        let active = |now: Progress| now.active - before.active;
        self.until_done(&running, "active", patience, active, number)
            .await?;
        if let Running::Curfew(operator) = &running {
            operator.kill9().await?;
        }
        self.plane.stop_controller_manager().await?;
        sleep(until(end) + OVERDUE).await;
        let began = Timestamp::now();
        let running = self.start(who).await?;
        self.until_seen("ended", &running, &made, GIVE_UP, |seen| seen.went.is_some())
            .await?;
        let seen = self.sightings.of(made.iter().map(|made| made.uid.as_str()))?;
        let went = || seen.iter().filter_map(|seen| seen.went);
        let (first, last) = (went().min().unwrap_or(began), went().max().unwrap_or(began));
        let first_ms = milliseconds(began, first);
        self.readings
            .put(who, &format!("overdue_first_ms.total{total}"), first_ms);
        let name = format!("ends_ms.overdue{number}");
        self.readings.put(who, &name, milliseconds(first, last));
        // The bare client has no past: it takes as long when as many end at once while it lives.
        let alive = self
            .readings
            .get(Contender::Bare, &format!("ends_ms.burst{number}"));
        if let Some(alive) = alive {
            self.readings.put(Contender::Bare, &name, alive);
        }
        self.until_done(&running, "ended", GIVE_UP, |now| now.ended, number)
            .await?;
        self.plane.start_controller_manager().await?;
        self.stop(running).await
    }

    pub(crate) async fn start(&self, who: Contender) -> anyhow::Result<Running> {
        Running::start(self.plane, who, self.operator).await
    }

    pub(crate) async fn stop(&self, running: Running) -> anyhow::Result<()> {
        running.stop().await?;
        self.load.clear().await
    }

    /// Some grants before anything counts: connections are open, caches filled. Answers how one of them ended.
    pub(crate) async fn warm_up(&self, running: &Running) -> anyhow::Result<Option<AccessGrantStatus>> {
        let life = self.burst(running, CREATORS, Wish::Role).await?;
        let Some(one) = life.made.first() else {
            return Ok(None);
        };
        let status = self.load.grants().get(&one.name).await?.status;
        Ok(status.filter(|status| status.ended_at.is_some()))
    }

    async fn burst(&self, running: &Running, number: usize, wish: Wish) -> anyhow::Result<Life> {
        let end = in_so_long(lead(running.who(), number) + STANDING)?;
        self.life(running, async |load| load.burst(number, wish, end).await)
            .await
    }

    /// Makes some grants and follows them to their end.
    async fn life(
        &self,
        running: &Running,
        ask: impl AsyncFnOnce(&Load) -> anyhow::Result<Vec<Made>>,
    ) -> anyhow::Result<Life> {
        let before = running.progress().await?.unwrap_or_default();
        let cpu = running.usage()?.cpu_seconds;
        let plane_cpu = self.plane_cpu_since(&BTreeMap::new()).await?;
        let audit = self.plane.audit_mark()?;
        let made = ask(&self.load).await?;
        let first_end = made.iter().map(|made| made.end).min().context("no grants")?;
        let last_end = made.iter().map(|made| made.end).max().context("no grants")?;
        let number = made.len();
        self.until_seen("made", running, &made, until(first_end), |seen| {
            seen.came.is_some()
        })
        .await?;
        self.until_done(
            running,
            "active",
            until(first_end),
            |now| now.active - before.active,
            number,
        )
        .await?;
        let live_mib = running.usage()?.resident_mib;
        self.ends_are_recorded(running, &made).await?;
        let late = until(last_end) + GIVE_UP;
        self.until_seen("ended", running, &made, late, |seen| seen.went.is_some())
            .await?;
        self.until_done(running, "ended", GIVE_UP, |now| now.ended - before.ended, number)
            .await?;
        let seen = self.sightings.of(made.iter().map(|made| made.uid.as_str()))?;
        let used = Used {
            cpu_seconds: running.usage()?.cpu_seconds - cpu,
            plane_cpu_seconds: self.plane_cpu_since(&plane_cpu).await?,
            live_mib,
            progress: running.progress().await?.map(|now| (before, now)),
            writes: Writes::of(&self.plane.audit_events_since(audit)?),
        };
        Ok(Life { made, seen, used })
    }

    /// What the plane's processes have used since then, or in all.
    async fn plane_cpu_since(
        &self,
        then: &BTreeMap<&'static str, f64>,
    ) -> anyhow::Result<BTreeMap<&'static str, f64>> {
        let now = self.plane.cpu_seconds().await?;
        let since = |(process, seconds)| (process, seconds - then.get(process).unwrap_or(&0.0));
        Ok(now.map(since).into_iter().collect())
    }

    /// Waits until the watch has seen it of all of them.
    pub(crate) async fn until_seen(
        &self,
        what: &str,
        running: &Running,
        made: &[Made],
        deadline: Duration,
        has: impl Fn(&Sighting) -> bool,
    ) -> anyhow::Result<()> {
        let what = format!("the bindings of {} grants are {what}", made.len());
        let waited = eventually(&what, deadline, async || {
            let seen = self.sightings.of(made.iter().map(|made| made.uid.as_str()));
            let seen = seen.map_err(|error| error.to_string())?;
            let number = seen.iter().filter(|seen| has(seen)).count();
            if number == made.len() {
                Ok(())
            } else {
                Err(format!("{number} of them"))
            }
        });
        waited.await.with_context(|| tail(running))
    }

    /// Waits until Curfew says that it has done it with so many.
    async fn until_done(
        &self,
        running: &Running,
        what: &str,
        deadline: Duration,
        done: impl Fn(Progress) -> f64,
        number: usize,
    ) -> anyhow::Result<()> {
        let what = format!("{number} grants are {what}");
        #[expect(clippy::cast_precision_loss, reason = "thousands")]
        let number = number as f64;
        let waited = eventually(&what, deadline, async || {
            match running.progress().await.map_err(|error| error.to_string())? {
                Some(now) if done(now) < number => Err(format!("{} of them", done(now))),
                _ => Ok(()),
            }
        });
        waited.await.with_context(|| tail(running))
    }

    /// That the deadline by which lag is judged is the one on record.
    async fn ends_are_recorded(&self, running: &Running, made: &[Made]) -> anyhow::Result<()> {
        if let Running::Bare(_) = running {
            return Ok(());
        }
        let grants = self.load.grants().list(&ListParams::default()).await?;
        for made in made {
            let mut statuses = grants
                .iter()
                .filter(|grant| grant.metadata.uid.as_ref() == Some(&made.uid));
            let status = statuses.next().and_then(|grant| grant.status.as_ref());
            let end = status
                .and_then(|status| status.expires_at.as_ref())
                .map(|end| end.0);
            ensure!(
                end == Some(made.end),
                "{} ends at {end:?}, not at {}",
                made.name,
                made.end
            );
        }
        Ok(())
    }
}

/// How long making so many may take, on a machine that does other things besides.
fn lead(who: Contender, number: usize) -> Duration {
    let a_second = match who {
        Contender::Bare => 50,
        Contender::Curfew => 25,
    };
    Duration::from_secs(5 + number as u64 / a_second)
}

/// Then, to the millisecond: what is compared must be what a status can hold.
pub(crate) fn in_so_long(duration: Duration) -> anyhow::Result<Timestamp> {
    let then = Timestamp::now().saturating_add(duration)?;
    Ok(Timestamp::from_millisecond(then.as_millisecond())?)
}

/// From now to then.
fn until(end: Timestamp) -> Duration {
    let left: SignedDuration = end.duration_since(Timestamp::now());
    Duration::try_from(left).unwrap_or(Duration::ZERO)
}

fn tail(running: &Running) -> String {
    let log = running.log();
    let lines: Vec<&str> = log.lines().rev().take(20).collect();
    let lines: Vec<&str> = lines.into_iter().rev().collect();
    format!("{} said at last:\n{}", running.who(), lines.join("\n"))
}
