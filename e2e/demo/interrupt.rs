//! Signals that end the demo early, such as Ctrl-C.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Receiver of SIGINT, SIGTERM and SIGHUP.
pub struct Interrupt {
    signals: [Signal; 3],
    came: bool,
}

impl Interrupt {
    /// Starts to receive. From now on these signals do not end the process.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            signals: [
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
                signal(SignalKind::hangup())?,
            ],
            came: false,
        })
    }

    /// Waits for the next signal.
    pub async fn came(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
        self.came = true;
    }

    /// Whether [`came`](Self::came) has received a signal.
    pub fn has_come(&self) -> bool {
        self.came
    }
}
