//! What a child process uses, as the kernel counts it.

use std::fs;

use anyhow::{Context, bail};

use super::process::Guarded;

impl Guarded {
    /// The memory that it holds now, in KiB.
    pub fn resident_kib(&self) -> anyhow::Result<u64> {
        self.memory("VmRSS:")
    }

    /// The most memory that it has held, in KiB.
    pub fn peak_kib(&self) -> anyhow::Result<u64> {
        self.memory("VmHWM:")
    }

    /// The processor time that it has used.
    pub fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        // The second field is the name, in parentheses, with any character.
        let (_, fields) = stat.rsplit_once(')').context("an odd /proc/…/stat")?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let [user, system] = [11, 12].map(|at| fields.get(at).and_then(|f| f.parse::<u32>().ok()));
        let (Some(user), Some(system)) = (user, system) else {
            bail!("an odd /proc/…/stat: {stat}");
        };
        let ticks = u32::try_from(rustix::param::clock_ticks_per_second())?;
        Ok(f64::from(user + system) / f64::from(ticks))
    }

    fn memory(&self, field: &str) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let mut lines = status.lines();
        let value = lines.find_map(|line| line.strip_prefix(field));
        let kib = value.and_then(|value| value.split_whitespace().next());
        Ok(kib.context("an odd /proc/…/status")?.parse()?)
    }
}
