//! Report at the end: a text for people and a JSON file.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::contender::Contender;
use crate::figures::FIGURES;
use crate::readings::Readings;
use crate::writes::Writes;

/// Content of the report.
#[derive(Debug)]
pub struct Report<'a> {
    /// Time, machine and cluster of the run.
    pub setting: Setting,
    /// All measured numbers.
    pub readings: &'a Readings,
    /// Writes of each kind of entitlement: its name, the number of grants, and their writes.
    pub writes: &'a [(&'static str, usize, Writes)],
}

/// Time, machine and cluster of a run.
#[derive(Debug)]
pub struct Setting {
    /// Start of the run, in UTC.
    pub at: String,
    /// Duration of the run, in seconds.
    pub seconds: u64,
    /// Number of processors, shared by all processes of the run.
    pub processors: usize,
    /// Version of the API server.
    pub kubernetes: String,
    /// Whether the run measured less (`--quick`).
    pub quick: bool,
}

/// Rows of the table: label of at most 48 characters, reading, number of decimals.
const ROWS: [(&str, &str, usize); 39] = [
    (
        "activation, one at a time, p50, ms",
        "activation_ms.single.p50",
        1,
    ),
    (
        "activation, one at a time, p99, ms",
        "activation_ms.single.p99",
        1,
    ),
    (
        "activation, 100 at once, p50, ms",
        "activation_ms.burst100.p50",
        0,
    ),
    (
        "activation, 100 at once, p99, ms",
        "activation_ms.burst100.p99",
        0,
    ),
    (
        "activation, 100 at once, per second",
        "activations_per_second.burst100",
        0,
    ),
    (
        "activation, 1,000 at once, p50, ms",
        "activation_ms.burst1000.p50",
        0,
    ),
    (
        "activation, 1,000 at once, p99, ms",
        "activation_ms.burst1000.p99",
        0,
    ),
    (
        "activation, 1,000 at once, per second",
        "activations_per_second.burst1000",
        0,
    ),
    ("revocation lag, idle, p50, ms", "lag_ms.single.p50", 1),
    ("revocation lag, idle, p99, ms", "lag_ms.single.p99", 1),
    (
        "revocation lag, 100 in one instant, p50, ms",
        "lag_ms.burst100.p50",
        0,
    ),
    (
        "revocation lag, 100 in one instant, p99, ms",
        "lag_ms.burst100.p99",
        0,
    ),
    (
        "revocation lag, 1,000 in one instant, p50, ms",
        "lag_ms.burst1000.p50",
        0,
    ),
    (
        "revocation lag, 1,000 in one instant, p99, ms",
        "lag_ms.burst1000.p99",
        0,
    ),
    (
        "operator CPU per grant, 100 at once, ms",
        "cpu_ms_per_grant.burst100",
        2,
    ),
    (
        "operator CPU per grant, 1,000 at once, ms",
        "cpu_ms_per_grant.burst1000",
        2,
    ),
    (
        "API server CPU per grant, 100 at once, ms",
        "kube-apiserver_cpu_ms_per_grant.burst100",
        1,
    ),
    (
        "etcd CPU per grant, 100 at once, ms",
        "etcd_cpu_ms_per_grant.burst100",
        1,
    ),
    (
        "controller-manager CPU per grant, 100, ms",
        "kube-controller-manager_cpu_ms_per_grant.burst100",
        1,
    ),
    (
        "API server CPU per grant, 1,000 at once, ms",
        "kube-apiserver_cpu_ms_per_grant.burst1000",
        1,
    ),
    (
        "etcd CPU per grant, 1,000 at once, ms",
        "etcd_cpu_ms_per_grant.burst1000",
        1,
    ),
    (
        "controller-manager CPU per grant, 1,000, ms",
        "kube-controller-manager_cpu_ms_per_grant.burst1000",
        1,
    ),
    ("resident memory, idle, MiB", "resident_mib.idle", 1),
    ("resident memory, 100 live, MiB", "resident_mib.burst100", 1),
    ("resident memory, 1,000 live, MiB", "resident_mib.burst1000", 1),
    (
        "resident memory, 1,000 live, after 1 min, MiB",
        "resident_mib.live1000",
        1,
    ),
    (
        "resident memory, 1,000 live, 9,000 ended, MiB",
        "resident_mib.total10000",
        1,
    ),
    (
        "start to ready, 10,000 grants, median of 3, ms",
        "start_ms.total10000",
        0,
    ),
    (
        "idle, 100 live: writes in 10 s, no heartbeats",
        "idle_writes.live100",
        0,
    ),
    (
        "idle, 1,000 live: writes per min, no heartbeats",
        "idle_writes.live1000",
        0,
    ),
    (
        "idle, 1,000 live: heartbeats per minute",
        "idle_heartbeats.live1000",
        0,
    ),
    (
        "idle, 1,000 live: requests per second",
        "idle_requests_per_second.live1000",
        2,
    ),
    (
        "idle, 1,000 live: CPU per second, ms",
        "idle_cpu_ms_per_second.live1000",
        2,
    ),
    ("writes per grant, role", "writes_per_grant.role", 2),
    ("writes per grant, rules", "writes_per_grant.rules", 2),
    (
        "reconciles per grant, 1,000 at once",
        "passes_per_grant.burst1000",
        2,
    ),
    (
        "effects per grant, 1,000 at once",
        "effects_per_grant.burst1000",
        2,
    ),
    (
        "effects not applied, per grant, 100 at once",
        "odd_effects_per_grant.burst100",
        2,
    ),
    (
        "effects not applied, per grant, 1,000 at once",
        "odd_effects_per_grant.burst1000",
        2,
    ),
];

impl Report<'_> {
    /// The report as text for people.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut out = String::new();
        let setting = &self.setting;
        writeln!(
            out,
            "Curfew against the bare client (16 workers; per grant one create and one delete), {}\n\
             Kubernetes {}, etcd with fsync, {} processors for all processes, 50 parallel creators, run time {} s\n\
             Percentiles are nearest-rank. A percentile of bursts of 100 covers all rounds together.\n",
            setting.at, setting.kubernetes, setting.processors, setting.seconds
        )?;
        self.rows(&mut out)?;
        self.write_kinds(&mut out)?;
        self.figures(&mut out)?;
        Ok(out)
    }

    fn rows(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "{:<48}{:>10}{:>10}{:>9}", "", "bare", "curfew", "ratio")?;
        for (name, reading, decimals) in ROWS {
            let [bare, curfew] = Contender::BOTH.map(|who| self.readings.get(who, reading));
            if bare.is_none() && curfew.is_none() {
                continue;
            }
            let number =
                |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.decimals$}"));
            let ratio = match (bare, curfew) {
                (Some(bare), Some(curfew)) if bare > 0.0 => format!("{:.2}", curfew / bare),
                _ => String::new(),
            };
            writeln!(
                out,
                "{name:<48}{:>10}{:>10}{ratio:>9}",
                number(bare),
                number(curfew)
            )?;
        }
        Ok(())
    }

    fn write_kinds(&self, out: &mut String) -> std::fmt::Result {
        for (what, grants, writes) in self.writes {
            let title = format!("Writes of {grants} grants with a {what} entitlement");
            writeln!(out, "\n{title:<48}{:>10}{:>10}", "per grant", "ms each")?;
            for (kind, requests) in &writes.for_grants {
                #[expect(clippy::cast_precision_loss, reason = "thousands")]
                let (number, grants) = (requests.number as f64, *grants as f64);
                let (per_grant, each) = (number / grants, requests.milliseconds / number);
                writeln!(out, "  {kind:<46}{per_grant:>10.2}{each:>10.1}")?;
            }
            let policy = "policy statuses, for all grants together";
            writeln!(out, "  {policy:<46}{:>10}", writes.policy_status)?;
        }
        Ok(())
    }

    fn figures(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "\n{:<40}{:>16}{:>12}{:>12}  ",
            "target", "limit", "measured", "ratio"
        )?;
        for figure in &FIGURES {
            let (name, limit) = (figure.name, figure.limit_in_words());
            let (seen, ratio, verdict) = match figure.judge(self.readings) {
                None => (String::new(), String::new(), "not measured"),
                Some(seen) => (
                    format!("{:.1} {}", seen.value, figure.unit).trim_end().to_owned(),
                    seen.ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}")),
                    if seen.reached { "reached" } else { "missed" },
                ),
            };
            writeln!(out, "{name:<40}{limit:>16}{seen:>12}{ratio:>12}  {verdict}")?;
        }
        Ok(())
    }

    /// Writes the report as JSON to a file. Creates the folder if it does not exist.
    pub fn write(&self, file: &Path) -> anyhow::Result<()> {
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let text = format!("{:#}\n", self.json());
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
    }

    fn json(&self) -> Value {
        let figures: Vec<Value> = FIGURES
            .iter()
            .map(|figure| {
                let seen = figure.judge(self.readings);
                json!({
                    "name": figure.name,
                    "reading": figure.reading,
                    "unit": figure.unit,
                    "limit": figure.limit_in_words(),
                    "limitValue": seen.map(|seen| seen.limit),
                    "seen": seen.map(|seen| seen.value),
                    "timesBare": seen.and_then(|seen| seen.ratio),
                    "reached": seen.map(|seen| seen.reached),
                })
            })
            .collect();
        let writes: Vec<Value> = self
            .writes
            .iter()
            .map(|(what, grants, writes)| {
                let kinds = writes.for_grants.iter().map(|(kind, requests)| {
                    let totals = json!({"number": requests.number, "milliseconds": requests.milliseconds});
                    (kind, totals)
                });
                json!({
                    "entitlement": what,
                    "grants": grants,
                    "forGrants": kinds.collect::<BTreeMap<_, _>>(),
                    "policyStatus": writes.policy_status,
                })
            })
            .collect();
        json!({
            "at": self.setting.at,
            "seconds": self.setting.seconds,
            "quick": self.setting.quick,
            "processors": self.setting.processors,
            "kubernetes": self.setting.kubernetes,
            "etcdFsync": true,
            "readings": self.readings.json(),
            "writes": writes,
            "figures": figures,
        })
    }
}
