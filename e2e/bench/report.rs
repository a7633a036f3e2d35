//! What is printed and written down at the end.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::contender::Contender;
use crate::figures::FIGURES;
use crate::readings::Readings;
use crate::writes::Writes;

/// Everything there is to report.
#[derive(Debug)]
pub struct Report<'a> {
    /// What it ran on.
    pub setting: Setting,
    /// What was measured.
    pub readings: &'a Readings,
    /// What was written.
    pub writes: &'a [(&'static str, usize, Writes)],
}

/// What it ran on.
#[derive(Debug)]
pub struct Setting {
    /// When.
    pub at: String,
    /// How long it took, in seconds.
    pub seconds: u64,
    /// Processors.
    pub processors: usize,
    /// The API server's version.
    pub kubernetes: String,
    /// Whether it was only a first impression.
    pub quick: bool,
}

/// The rows of the table: what to call it, the reading, decimals.
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
        "operator CPU a grant, 100 at once, ms",
        "cpu_ms_per_grant.burst100",
        2,
    ),
    (
        "operator CPU a grant, 1,000 at once, ms",
        "cpu_ms_per_grant.burst1000",
        2,
    ),
    (
        "API server CPU a grant, 100 at once, ms",
        "kube-apiserver_cpu_ms_per_grant.burst100",
        1,
    ),
    (
        "etcd CPU a grant, 100 at once, ms",
        "etcd_cpu_ms_per_grant.burst100",
        1,
    ),
    (
        "controllers' CPU a grant, 100 at once, ms",
        "kube-controller-manager_cpu_ms_per_grant.burst100",
        1,
    ),
    (
        "API server CPU a grant, 1,000 at once, ms",
        "kube-apiserver_cpu_ms_per_grant.burst1000",
        1,
    ),
    (
        "etcd CPU a grant, 1,000 at once, ms",
        "etcd_cpu_ms_per_grant.burst1000",
        1,
    ),
    (
        "controllers' CPU a grant, 1,000 at once, ms",
        "kube-controller-manager_cpu_ms_per_grant.burst1000",
        1,
    ),
    ("resident, idle, MiB", "resident_mib.idle", 1),
    ("resident, 100 live, MiB", "resident_mib.burst100", 1),
    ("resident, 1,000 live, MiB", "resident_mib.burst1000", 1),
    (
        "resident, 1,000 live, after a minute, MiB",
        "resident_mib.live1000",
        1,
    ),
    (
        "resident, 10,000 of which 9,000 ended, MiB",
        "resident_mib.total10000",
        1,
    ),
    (
        "start to ready, 10,000, median of 3, ms",
        "start_ms.total10000",
        0,
    ),
    (
        "idle with 100 live: writes in the window but heartbeats",
        "idle_writes.live100",
        0,
    ),
    (
        "idle with 1,000 live: writes in a minute but heartbeats",
        "idle_writes.live1000",
        0,
    ),
    (
        "idle with 1,000 live: heartbeats in a minute",
        "idle_heartbeats.live1000",
        0,
    ),
    (
        "idle with 1,000 live: requests per second",
        "idle_requests_per_second.live1000",
        2,
    ),
    (
        "idle with 1,000 live: CPU a second, ms",
        "idle_cpu_ms_per_second.live1000",
        2,
    ),
    ("writes a grant, role", "writes_per_grant.role", 2),
    ("writes a grant, rules", "writes_per_grant.rules", 2),
    ("passes a grant, 1,000 at once", "passes_per_grant.burst1000", 2),
    ("effects a grant, 1,000 at once", "effects_per_grant.burst1000", 2),
    (
        "effects not applied at once, 100 at once",
        "odd_effects_per_grant.burst100",
        2,
    ),
    (
        "effects not applied at once, 1,000 at once",
        "odd_effects_per_grant.burst1000",
        2,
    ),
];

impl Report<'_> {
    /// As text for people.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut out = String::new();
        let setting = &self.setting;
        writeln!(
            out,
            "Curfew against the bare client (16 workers, one create, one delete), {}\n\
             Kubernetes {}, etcd with fsync, {} processors for everything, 50 parallel creators, {} s\n\
             Percentiles are nearest-rank; bursts of 100 are pooled over their rounds.\n",
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
            writeln!(out, "\n{title:<48}{:>10}{:>10}", "a grant", "ms each")?;
            for (kind, requests) in &writes.for_grants {
                #[expect(clippy::cast_precision_loss, reason = "thousands")]
                let (number, grants) = (requests.number as f64, *grants as f64);
                let (a_grant, each) = (number / grants, requests.milliseconds / number);
                writeln!(out, "  {kind:<46}{a_grant:>10.2}{each:>10.1}")?;
            }
            let policy = "and of policy statuses, in all";
            writeln!(out, "  {policy:<46}{:>10}", writes.policy_status)?;
        }
        Ok(())
    }

    fn figures(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "\n{:<40}{:>16}{:>12}{:>12}  ",
            "Figures to reach", "limit", "seen", "× bare"
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

    /// As JSON, to a file.
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
                    let facts = json!({"number": requests.number, "milliseconds": requests.milliseconds});
                    (kind, facts)
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
