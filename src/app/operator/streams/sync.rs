//! Whether each watch has delivered its first list.

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::runtime::watcher::{self, Event};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::app::operator::server::Readiness;

/// State of the first lists of all watches. Clones share the state.
#[derive(Clone, Debug)]
pub struct Sync {
    missing: Arc<Mutex<BTreeSet<&'static str>>>,
    all: watch::Sender<bool>,
    readiness: Readiness,
}

impl Sync {
    /// No watch has delivered its first list yet.
    pub fn of(names: &[&'static str], readiness: Readiness) -> Self {
        let missing = Arc::new(Mutex::new(names.iter().copied().collect()));
        Self {
            missing,
            all: watch::Sender::new(false),
            readiness,
        }
    }

    /// True from when each watch has delivered its first list.
    pub fn all(&self) -> watch::Receiver<bool> {
        self.all.subscribe()
    }

    /// Notes an event or an error of a watch.
    pub fn note<K>(&self, name: &'static str, event: &Result<Event<K>, watcher::Error>) {
        match event {
            Ok(Event::InitDone) => {
                self.readiness.done(name);
                let mut missing = self.missing.lock();
                missing.remove(name);
                if missing.is_empty() {
                    self.all.send_replace(true);
                }
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(watch = name, %error, "watch failed, will retry in at most 2 s; if it is forbidden, apply manifests/rbac.yaml");
                if self.missing.lock().contains(name) {
                    self.readiness.undone(name, "cannot be listed yet; see the log");
                }
            }
        }
    }
}
