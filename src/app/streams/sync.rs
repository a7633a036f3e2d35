//! Whether each watch has delivered its first list.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use kube::runtime::watcher::{self, Event};
use tokio::sync::watch;

use crate::app::server::Readiness;

/// Keeps account of which watches have delivered their first list.
#[derive(Clone, Debug)]
pub struct Sync {
    missing: Arc<Mutex<BTreeSet<&'static str>>>,
    all: watch::Sender<bool>,
    readiness: Readiness,
}

impl Sync {
    /// Waits for these watches.
    pub fn of(names: &[&'static str], readiness: Readiness) -> Self {
        let missing = Arc::new(Mutex::new(names.iter().copied().collect()));
        Self {
            missing,
            all: watch::Sender::new(false),
            readiness,
        }
    }

    /// Turns true when all have delivered, and stays so.
    pub fn all(&self) -> watch::Receiver<bool> {
        self.all.subscribe()
    }

    /// Takes note of an event.
    pub fn note<K>(&self, name: &'static str, event: &Result<Event<K>, watcher::Error>) {
        match event {
            Ok(Event::InitDone) => {
                self.readiness.done(name);
                let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
                missing.remove(name);
                if missing.is_empty() {
                    self.all.send_replace(true);
                }
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(watch = name, %error, "a watch broke; it is tried again");
                if self
                    .missing
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .contains(name)
                {
                    self.readiness
                        .undone(name, "cannot be listed yet; the log says why");
                }
            }
        }
    }
}
