//! Request to stop: SIGTERM or SIGINT.

use std::time::Duration;

use tokio::sync::watch;

/// How long running reconciles may take after the request to stop. One alone takes about 13 ms. The next leader
/// continues the others, and has to wait for this time: within a second of a request to stop, another replica grants.
const LAST_RECONCILES: Duration = Duration::from_millis(500);

/// The request to stop this process, given once. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Given by SIGTERM or SIGINT.
    pub(super) fn on_signals() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let (sender, stop) = watch::channel(false);
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            sender.send_replace(true);
            // Keeps the sender: a closed channel is no request.
            std::future::pending::<()>().await;
        });
        Ok(Self(stop))
    }

    /// Never given.
    #[cfg(test)]
    pub(super) fn never() -> Self {
        Self(watch::channel(false).1)
    }

    /// Waits for the request.
    pub async fn wait(mut self) {
        if self.0.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits for the request, and then as long as running reconciles may take. Before the watches have delivered their
    /// first lists, no reconcile runs.
    pub(super) async fn patience(self, synced: watch::Receiver<bool>) {
        self.wait().await;
        if *synced.borrow() {
            tokio::time::sleep(LAST_RECONCILES).await;
        }
    }
}
