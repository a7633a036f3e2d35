//! Stages of the benchmark, in order.
//!
//! In each stage that measures both, the bare client runs first and Curfew second. Each runs as a new process, and
//! serves some grants before the measurement starts. All grants are deleted between the two.

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

/// Time between two grants that are measured one at a time: long enough to finish the bookkeeping of a grant.
pub(crate) const PACE: Duration = Duration::from_millis(150);
/// Time that a grant stays active after the time allowed for its activation.
const ACTIVE_TIME: Duration = Duration::from_secs(3);
/// Deadline for the end of all grants of a stage; then the benchmark gives up.
const GIVE_UP: Duration = Duration::from_mins(3);
/// Time without work before the memory of a process is read.
const REST: Duration = Duration::from_secs(3);
/// Time for which grants are overdue before an operator starts.
const OVERDUE_TIME: Duration = Duration::from_secs(1);
/// Number of starts that are measured.
const STARTS: usize = 3;

/// Numbers of grants and times of a run.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Number of grants measured one at a time.
    pub single: usize,
    /// Bursts: number of grants at once, and number of rounds.
    pub bursts: &'static [(usize, usize)],
    /// Number of grants with rules, whose writes are counted.
    pub rules: usize,
    /// Number of live grants of an idle operator.
    pub live: usize,
    /// Number of ended grants in addition to the live grants; 0 skips the stages of starts.
    pub ended: usize,
    /// Time for which the idle operator is watched.
    pub idle: Duration,
}

impl Scale {
    /// Everything that the targets need.
    pub const FULL: Self = Self {
        single: 100,
        bursts: &[(100, 5), (1_000, 1)],
        rules: 100,
        live: 1_000,
        ended: 9_000,
        idle: Duration::from_mins(1),
    };
    /// A short run: about two minutes, without most targets.
    pub const QUICK: Self = Self {
        single: 30,
        bursts: &[(100, 1)],
        rules: 20,
        live: 100,
        ended: 0,
        idle: Duration::from_secs(10),
    };

    /// Number of phases that [`Teller`] prints.
    pub fn phases(&self) -> usize {
        let starts = if self.ended > 0 { 3 } else { 0 };
        1 + 2 * (1 + self.bursts.len()) + 1 + 2 + 2 + starts
    }
}

/// State of a running benchmark.
pub struct Bench<'a> {
    /// Control plane of the run.
    pub plane: &'a Plane,
    /// Path of the operator's binary.
    pub operator: &'a Path,
    /// Creates grants.
    pub load: Load,
    /// Times from the watch of `RoleBindings`.
    pub sightings: Arc<Sightings>,
    /// Numbers measured so far.
    pub readings: Readings,
    /// Writes so far: the kind of entitlement, the number of grants, and their writes.
    pub writes: Vec<(&'static str, usize, Writes)>,
    /// Prints progress.
    pub teller: Teller,
}

/// Measurement of some grants from request to end.
struct Life {
    made: Vec<Made>,
    seen: Vec<Sighting>,
    used: Used,
}

/// Resources used from the first request to the last end.
struct Used {
    cpu_seconds: f64,
    plane_cpu_seconds: BTreeMap<&'static str, f64>,
    live_mib: f64,
    progress: Option<(Progress, Progress)>,
    writes: Writes,
}

impl Life {
    fn activations(&self) -> Vec<f64> {
        let grants = self.made.iter().zip(&self.seen);
        // The watch can be faster than the answer to the request; that counts as 0 ms.
        grants
            .filter_map(|(made, seen)| Some(milliseconds(made.answered, seen.came?).max(0.0)))
            .collect()
    }

    fn lags(&self) -> Vec<f64> {
        let grants = self.made.iter().zip(&self.seen);
        grants
            .filter_map(|(made, seen)| Some(milliseconds(made.end, seen.went?)))
            .collect()
    }

    /// Time from the first end to the last, in milliseconds.
    fn milliseconds_of_ends(&self) -> Option<f64> {
        let went = || self.seen.iter().filter_map(|seen| seen.went);
        Some(milliseconds(went().min()?, went().max()?))
    }

    /// Time from the first request to the last RoleBinding, in seconds.
    fn seconds_to_all(&self) -> Option<f64> {
        let first = self.made.iter().map(|made| made.asked).min()?;
        let last = self.seen.iter().filter_map(|seen| seen.came).max()?;
        Some(milliseconds(first, last) / 1000.0)
    }
}

impl Bench<'_> {
    /// Runs all stages.
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
        self.live_grants(scale).await
    }

    /// Measures grants one at a time: idle memory, activation and lag.
    async fn one_at_a_time(&mut self, who: Contender, number: usize) -> anyhow::Result<()> {
        self.teller
            .phase(format_args!("{who}: {number} grants, one at a time"));
        let running = self.start(who).await?;
        sleep(REST).await;
        self.readings
            .put(who, "resident_mib.idle", running.usage()?.resident_mib);
        self.warm_up(&running).await?;
        let all = PACE * u32::try_from(number)?;
        let mut end = in_so_long(all + ACTIVE_TIME)?;
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

    /// Measures bursts: grants that are requested in parallel and end at the same moment.
    async fn at_once(&mut self, who: Contender, number: usize, rounds: usize) -> anyhow::Result<()> {
        self.teller
            .phase(format_args!("{who}: {number} grants at once, rounds: {rounds}"));
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
        let sum = |field: fn(&Used) -> f64| lives.iter().map(|life| field(&life.used)).sum::<f64>();
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
            let delta = |field: fn(&Progress) -> f64| {
                progress
                    .iter()
                    .map(|(from, to)| field(to) - field(from))
                    .sum::<f64>()
            };
            per_grant("passes", delta(|progress| progress.passes));
            per_grant("effects", delta(|progress| progress.effects));
            per_grant("odd_effects", delta(|progress| progress.odd_effects));
        }
        let most = lives.iter().map(|life| life.used.live_mib).fold(0.0, f64::max);
        readings.put(who, &format!("resident_mib.{name}"), most);
    }

    /// Counts the writes of grants whose entitlement is rules.
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

    /// Measures live grants: their cost while nothing happens, and the starts of an operator.
    async fn live_grants(&mut self, scale: &Scale) -> anyhow::Result<()> {
        let (live, who) = (scale.live, Contender::Curfew);
        self.teller.phase(format_args!("curfew: {live} live grants"));
        let running = self.start(who).await?;
        let model = self
            .warm_up(&running)
            .await?
            .context("the first grant of the warm-up has no status.endedAt")?;
        let far_end = in_so_long(Duration::from_hours(2))?;
        let before = running.progress().await?.unwrap_or_default();
        let made = self.load.burst(live, Wish::Role, far_end).await?;
        let patience = activation_time(who, live);
        self.until_seen("created", &running, &made, patience, |seen| seen.came.is_some())
            .await?;
        self.until_done(
            &running,
            "active",
            patience,
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
        self.teller.phase(format_args!(
            "{ended} ended grants in addition, while no operator runs"
        ));
        for part in 1..=10 {
            self.load.ended(ended / 10, &model).await?;
            self.teller.step(format_args!("{} of {ended}", ended / 10 * part));
        }
        self.starts(live + ended).await?;
        self.overdue(made, live + ended).await
    }

    /// Measures the cost of an idle operator for the time `window`: writes, requests, CPU and memory.
    pub(crate) async fn idle(
        &mut self,
        running: &Running,
        what: &str,
        window: Duration,
    ) -> anyhow::Result<()> {
        self.teller
            .phase(format_args!("curfew: idle, {what}, {} s", window.as_secs()));
        // The operator writes the policy's count of live grants up to 10 s after the last change.
        sleep(Duration::from_secs(12)).await;
        let from = self.plane.audit_mark()?;
        let cpu_before = running.usage()?.cpu_seconds;
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
        let cpu = (usage.cpu_seconds - cpu_before) * 1000.0 / seconds;
        self.readings
            .put(who, &format!("idle_cpu_ms_per_second.{what}"), cpu);
        self.readings
            .put(who, &format!("resident_mib.{what}"), usage.resident_mib);
        Ok(())
    }

    /// Measures starts of the operator with `total` grants in the cluster: the median time to ready, and memory.
    async fn starts(&mut self, total: usize) -> anyhow::Result<()> {
        self.teller
            .phase(format_args!("curfew: {STARTS} starts with {total} grants"));
        let mut times = Vec::new();
        for start in 1..=STARTS {
            let began = Timestamp::now();
            let running = Running::start(self.plane, Contender::Curfew, self.operator).await?;
            times.push(milliseconds(began, Timestamp::now()));
            self.until_done(&running, "reconciled", GIVE_UP, |now| now.passes, total)
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

    /// Measures a start with overdue grants: they expired while operator and controller-manager were dead. Replaces the
    /// grants in `live` by as many new grants.
    async fn overdue(&mut self, live: Vec<Made>, total: usize) -> anyhow::Result<()> {
        let (number, who) = (live.len(), Contender::Curfew);
        self.teller.phase(format_args!(
            "{who}: a start with {total} grants, {number} of them overdue"
        ));
        let running = self.start(who).await?;
        self.load.delete(&live).await?;
        self.until_seen("deleted", &running, &live, GIVE_UP, |seen| seen.went.is_some())
            .await?;
        let before = running.progress().await?.unwrap_or_default();
        let patience = 2 * activation_time(who, number);
        let end = in_so_long(patience + ACTIVE_TIME)?;
        let made = self.load.burst(number, Wish::Role, end).await?;
        self.until_seen("created", &running, &made, patience, |seen| seen.came.is_some())
            .await?;
        let active = |now: Progress| now.active - before.active;
        self.until_done(&running, "active", patience, active, number)
            .await?;
        if let Running::Curfew(operator) = &running {
            operator.kill9().await?;
        }
        self.plane.stop_controller_manager().await?;
        sleep(until(end) + OVERDUE_TIME).await;
        let began = Timestamp::now();
        let running = self.start(who).await?;
        self.until_seen("deleted", &running, &made, GIVE_UP, |seen| seen.went.is_some())
            .await?;
        let seen = self.sightings.of(made.iter().map(|made| made.uid.as_str()))?;
        let went = || seen.iter().filter_map(|seen| seen.went);
        let (first, last) = (went().min().unwrap_or(began), went().max().unwrap_or(began));
        let first_ms = milliseconds(began, first);
        self.readings
            .put(who, &format!("overdue_first_ms.total{total}"), first_ms);
        let name = format!("ends_ms.overdue{number}");
        self.readings.put(who, &name, milliseconds(first, last));
        // The bare client keeps no record, so its start is not measured. The baseline is its time for as many ends at
        // once while it runs.
        let baseline = self
            .readings
            .get(Contender::Bare, &format!("ends_ms.burst{number}"));
        if let Some(baseline) = baseline {
            self.readings.put(Contender::Bare, &name, baseline);
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

    /// Serves some grants that are not measured, to open connections and fill caches. Returns the status of an ended
    /// grant.
    pub(crate) async fn warm_up(&self, running: &Running) -> anyhow::Result<Option<AccessGrantStatus>> {
        let life = self.burst(running, CREATORS, Wish::Role).await?;
        let Some(first) = life.made.first() else {
            return Ok(None);
        };
        let status = self.load.grants().get(&first.name).await?.status;
        Ok(status.filter(|status| status.ended_at.is_some()))
    }

    async fn burst(&self, running: &Running, number: usize, wish: Wish) -> anyhow::Result<Life> {
        let end = in_so_long(activation_time(running.who(), number) + ACTIVE_TIME)?;
        self.life(running, async |load| load.burst(number, wish, end).await)
            .await
    }

    /// Creates grants with `ask` and measures until all have ended.
    ///
    /// # Errors
    /// An activation or an end takes too long, or a recorded end differs from the requested end.
    async fn life(
        &self,
        running: &Running,
        ask: impl AsyncFnOnce(&Load) -> anyhow::Result<Vec<Made>>,
    ) -> anyhow::Result<Life> {
        let before = running.progress().await?.unwrap_or_default();
        let cpu_before = running.usage()?.cpu_seconds;
        let plane_cpu_before = self.plane_cpu_since(&BTreeMap::new()).await?;
        let audit = self.plane.audit_mark()?;
        let made = ask(&self.load).await?;
        let first_end = made
            .iter()
            .map(|made| made.end)
            .min()
            .context("no grant was created")?;
        let last_end = made
            .iter()
            .map(|made| made.end)
            .max()
            .context("no grant was created")?;
        let number = made.len();
        self.until_seen("created", running, &made, until(first_end), |seen| {
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
        let patience = until(last_end) + GIVE_UP;
        self.until_seen("deleted", running, &made, patience, |seen| seen.went.is_some())
            .await?;
        self.until_done(running, "ended", GIVE_UP, |now| now.ended - before.ended, number)
            .await?;
        let seen = self.sightings.of(made.iter().map(|made| made.uid.as_str()))?;
        let used = Used {
            cpu_seconds: running.usage()?.cpu_seconds - cpu_before,
            plane_cpu_seconds: self.plane_cpu_since(&plane_cpu_before).await?,
            live_mib,
            progress: running.progress().await?.map(|now| (before, now)),
            writes: Writes::of(&self.plane.audit_events_since(audit)?),
        };
        Ok(Life { made, seen, used })
    }

    /// Processor time of the control plane's processes since `then`, in seconds. An empty `then` means since their
    /// start.
    async fn plane_cpu_since(
        &self,
        then: &BTreeMap<&'static str, f64>,
    ) -> anyhow::Result<BTreeMap<&'static str, f64>> {
        let now = self.plane.cpu_seconds().await?;
        let since = |(process, seconds)| (process, seconds - then.get(process).unwrap_or(&0.0));
        Ok(now.map(since).into_iter().collect())
    }

    /// Waits until `has` is true for the `RoleBindings` of all these grants. `what` names this state in an error.
    pub(crate) async fn until_seen(
        &self,
        what: &str,
        running: &Running,
        made: &[Made],
        deadline: Duration,
        has: impl Fn(&Sighting) -> bool,
    ) -> anyhow::Result<()> {
        let what = format!("the RoleBindings of {} grants are {what}", made.len());
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
        waited.await.with_context(|| last_log_lines(running))
    }

    /// Waits until Curfew's metrics count `number` grants in `done`. Returns at once for the bare client, which has no
    /// metrics. `what` names the work in an error.
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
        waited.await.with_context(|| last_log_lines(running))
    }

    /// Checks that each recorded end is the requested end, because the lag is measured from the requested end.
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
                "grant {} has the recorded end {end:?}, but asked for the end {}",
                made.name,
                made.end
            );
        }
        Ok(())
    }
}

/// Time allowed to create and activate `number` grants, on a machine with other work.
fn activation_time(who: Contender, number: usize) -> Duration {
    let a_second = match who {
        Contender::Bare => 50,
        Contender::Curfew => 25,
    };
    Duration::from_secs(5 + number as u64 / a_second)
}

/// Time `duration` from now, in whole milliseconds: a status has no finer times, and the two are compared.
pub(crate) fn in_so_long(duration: Duration) -> anyhow::Result<Timestamp> {
    let then = Timestamp::now().saturating_add(duration)?;
    Ok(Timestamp::from_millisecond(then.as_millisecond())?)
}

/// Time from now until `end`; zero if `end` is past.
fn until(end: Timestamp) -> Duration {
    let left: SignedDuration = end.duration_since(Timestamp::now());
    Duration::try_from(left).unwrap_or(Duration::ZERO)
}

fn last_log_lines(running: &Running) -> String {
    let log = running.log();
    let lines: Vec<&str> = log.lines().rev().take(20).collect();
    let lines: Vec<&str> = lines.into_iter().rev().collect();
    format!("last log lines of {}:\n{}", running.who(), lines.join("\n"))
}
