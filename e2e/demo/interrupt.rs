//! Ctrl-C and its like.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals by which somebody ends the demo early.
pub struct Interrupt {
    signals: [Signal; 3],
    came: bool,
}

impl Interrupt {
    /// From now on these signals no longer end the process.
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

    /// Waits for the next of them.
    pub async fn came(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
        self.came = true;
    }

    /// Whether one came.
    pub fn has_come(&self) -> bool {
        self.came
    }
}
