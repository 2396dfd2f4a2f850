//! Changes that a webhook or an operator reports to this sidecar.

use super::SessionCache;
use super::announce::Announced;
use super::invalidation::{Cause, Tag};

impl<E: Clone + Send + Sync + 'static> SessionCache<E> {
    /// Purges the sessions that relate to these tags, and prevents fetches in progress from being stored. Returns how
    /// many sessions were stored under the tags, once the other sidecars of a fleet know.
    pub async fn purge<'t>(&self, tags: impl IntoIterator<Item = &'t Tag>) -> usize {
        let now = self.clock.mono();
        let (mut removed, mut announced) = (0_usize, Vec::new());
        for tag in tags {
            removed = removed.saturating_add(self.store.purge(tag, Cause::Changed, now));
            // Nothing is stored anywhere under a tag that is too long.
            if let Some(fleet) = self.fleet.as_ref().filter(|_| tag.is_storable()) {
                let id = fleet.ids.id(tag);
                fleet.announce.purge(id);
                announced.push(Announced::Purge(id));
            }
        }
        if let Some(fleet) = self.fleet.as_ref().filter(|_| !announced.is_empty()) {
            fleet.announce.known(&announced).await;
        }
        removed
    }

    /// Purges every session, and prevents fetches in progress from being stored. Returns how many sessions this call
    /// removed, once the other sidecars of a fleet know.
    pub async fn purge_all(&self) -> usize {
        self.invalidation.purge_all(|| self.store.hide_all());
        if let Some(fleet) = &self.fleet {
            fleet.announce.purge_all();
        }
        let removed = self.store.remove_all_hidden().await;
        if let Some(fleet) = &self.fleet {
            fleet.announce.known(&[Announced::All]).await;
        }
        removed
    }
}
