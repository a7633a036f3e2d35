//! The request to stop: SIGTERM or SIGINT.

use std::time::Duration;

/// How long passes under way may take to finish when the process is told to stop. One alone takes about 13 ms; what is
/// left unfinished is taken up by whoever leads next, who has to wait for this: within a second of a leader being told
/// to stop, another one grants.
const LAST_PASSES: Duration = Duration::from_millis(500);

/// Told once that the process is to stop.
#[derive(Clone, Debug)]
pub struct Stop(tokio::sync::watch::Receiver<bool>);

impl Stop {
    /// On SIGTERM or SIGINT.
    pub(super) fn on_signals() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let (told, stop) = tokio::sync::watch::channel(false);
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            told.send_replace(true);
            // Keeps the sender, so that nobody takes its end for the word.
            std::future::pending::<()>().await;
        });
        Ok(Self(stop))
    }

    /// Until then.
    pub async fn wait(mut self) {
        if self.0.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Stop {
    /// Until then, and as long after as passes may take to finish. Before the watches have delivered, nothing is
    /// under way.
    pub(super) async fn patience(self, synced: tokio::sync::watch::Receiver<bool>) {
        self.wait().await;
        if *synced.borrow() {
            tokio::time::sleep(LAST_PASSES).await;
        }
    }
}
