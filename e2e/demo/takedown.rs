//! Cleanup: removes everything that the demo created.

use std::time::Duration;

use anyhow::{bail, ensure};

use crate::people::Who;
use crate::screen::Screen;
use crate::stage::{Cluster, Installed, Stage};

/// Time in which the operator must exit after SIGTERM.
const STOP: Duration = Duration::from_secs(20);

/// Removes everything that the demo installed, stops every process that it started, and checks that nothing is left.
/// Returns the result in one sentence.
pub async fn take_down(mut stage: Stage, screen: &mut Screen) -> anyhow::Result<String> {
    screen.step("The demo cleans up");
    if matches!(stage.cluster, Cluster::Current { .. }) {
        uninstall(&mut stage, screen).await?;
    } else {
        stop_operator(&mut stage, screen).await?;
    }
    let Stage { cluster, folder, .. } = stage;
    folder.close()?;
    match cluster {
        Cluster::Current { context } => Ok(format!("nothing is left in context {context}")),
        Cluster::Embedded(plane) => {
            let folder = plane.folder().to_owned();
            let address = plane.url().trim_start_matches("https://").to_owned();
            screen.during("stopping the control plane", plane.stop()).await?;
            ensure!(!folder.exists(), "the folder {} still exists", folder.display());
            if std::net::TcpStream::connect(&address).is_ok() {
                bail!("a process still listens on {address}");
            }
            Ok("processes and temporary folders are gone".to_owned())
        }
    }
}

/// Removes the files in the opposite order. The operator runs until the grants are gone, so that it ends their access.
async fn uninstall(stage: &mut Stage, screen: &mut Screen) -> anyhow::Result<()> {
    let mut failures = Vec::new();
    while let Some(installed) = stage.installed.pop() {
        if installed == Installed::Curfew {
            stop_operator(stage, screen).await?;
        }
        let delete = [&["delete", "--ignore-not-found"], installed.files()].concat();
        screen.command(Who::Admin.name(), &stage.shown(Who::Admin, &delete)?);
        let removed = screen.during("removing", stage.ask(Who::Admin, &delete)).await?;
        screen.answer(&removed.text);
        if !removed.ok {
            failures.push(removed.text);
        }
    }
    let left = stage.what_is_there().await?;
    ensure!(
        failures.is_empty() && left.is_empty(),
        "cannot remove everything; {}\n{}\n{left}",
        stage.removal_by_hand(),
        failures.join("\n")
    );
    Ok(())
}

async fn stop_operator(stage: &mut Stage, screen: &mut Screen) -> anyhow::Result<()> {
    if let Some(operator) = stage.operator.take() {
        screen
            .during("stopping the operator", operator.terminate(STOP))
            .await?;
    }
    Ok(())
}
