//! The demo is a test, so that it cannot rot.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::process::Command;
use tokio::time::timeout;

use crate::support::Suite;
use crate::tests;

tests![the_demo_holds_what_it_claims];

/// It runs for about 35 s, beside other tests for longer.
const DEADLINE: Duration = Duration::from_mins(4);

async fn the_demo_holds_what_it_claims(suite: &Suite) -> anyhow::Result<()> {
    let folder = suite.binary.parent().context("the folder of executables")?;
    let demo: PathBuf = folder.join("examples").join("demo");
    ensure!(
        demo.exists(),
        "{} is not built: cargo build --examples",
        demo.display()
    );
    let running = Command::new(&demo)
        .args(["--cluster", "embedded"])
        .kill_on_drop(true)
        .output();
    let output = timeout(DEADLINE, running).await.context("the demo hangs")??;
    let told = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && told.contains("All claims are true."),
        "the demo ended with {}:\n{told}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
