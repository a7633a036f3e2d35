//! States of fuses, and whether the sweep is alive.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Notify;

use crate::cluster::index::Index;
use crate::core::artifact::found::Content;
use crate::core::artifact::fuse::FuseState;
use crate::core::artifact::key::ArtifactKey;

impl Index {
    /// States of these fuses. Fuses that no watch has delivered are left out.
    pub fn fuse_states<'a>(
        &self,
        keys: impl IntoIterator<Item = &'a ArtifactKey>,
    ) -> BTreeMap<ArtifactKey, FuseState> {
        let state = self.read();
        let fuse_state = |key: &ArtifactKey| match state.fuses.get(key)?.found.content {
            Content::Fuse(fuse_state) => Some((key.clone(), fuse_state)),
            Content::Role(_) | Content::Binding { .. } => None,
        };
        keys.into_iter().filter_map(fuse_state).collect()
    }

    /// Waits until a fuse has started. Returns at once if there is no such fuse.
    pub async fn until_started(&self, key: &ArtifactKey) {
        while self.is_unstarted(key) {
            let news = self.news_of(key);
            let notified = news.notified();
            // The fuse may have started before `notified` was registered.
            if self.is_unstarted(key) {
                notified.await;
            }
        }
    }

    fn is_unstarted(&self, key: &ArtifactKey) -> bool {
        self.fuse_states([key]).get(key) == Some(&FuseState::NotStarted)
    }

    /// Notification of the next change of a fuse.
    fn news_of(&self, key: &ArtifactKey) -> Arc<Notify> {
        Arc::clone(self.write().awaited_fuses.entry(key.clone()).or_default())
    }

    /// Stores whether the sweep's heartbeat Lease is renewed.
    pub fn note_sweep(&self, lives: bool) {
        self.write().sweep_lives = lives;
    }

    /// Whether the sweep's heartbeat Lease is renewed, as far as this process knows.
    pub fn sweep_lives(&self) -> bool {
        self.read().sweep_lives
    }
}
