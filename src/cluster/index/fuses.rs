//! Whether fuses are lit, and whether the sweep lives.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Notify;

use super::Index;
use crate::core::{ArtifactKey, Content, Flame};

impl Index {
    /// How it stands with these fuses; one that no watch has delivered is left out.
    pub fn flames<'a>(
        &self,
        keys: impl IntoIterator<Item = &'a ArtifactKey>,
    ) -> BTreeMap<ArtifactKey, Flame> {
        let state = self.read();
        let flame = |key: &ArtifactKey| match state.fuses.get(key)?.found.content {
            Content::Fuse(flame) => Some((key.clone(), flame)),
            Content::Role(_) | Content::Binding { .. } => None,
        };
        keys.into_iter().filter_map(flame).collect()
    }

    /// Until a fuse is started; at once if it is not there.
    pub async fn until_started(&self, key: &ArtifactKey) {
        while self.is_unstarted(key) {
            let news = self.news_of(key);
            let notified = news.notified();
            // It may have been started before anybody listened.
            if self.is_unstarted(key) {
                notified.await;
            }
        }
    }

    fn is_unstarted(&self, key: &ArtifactKey) -> bool {
        self.flames([key]).get(key) == Some(&Flame::NotStarted)
    }

    /// Tells of the next change of that fuse.
    fn news_of(&self, key: &ArtifactKey) -> Arc<Notify> {
        Arc::clone(self.write().awaited_fuses.entry(key.clone()).or_default())
    }

    /// Notes whether the sweep's heartbeat is heard.
    pub fn note_sweep(&self, lives: bool) {
        self.write().sweep_lives = lives;
    }

    /// Whether the sweep's heartbeat is heard, as far as this process knows.
    pub fn sweep_lives(&self) -> bool {
        self.read().sweep_lives
    }
}
