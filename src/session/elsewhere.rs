//! Changes through other sidecars, as the fleet's log tells of them.
//!
//! The link calls these functions in the order of the log, and publishes the horizon after them.

use super::SessionCache;
use super::invalidation::Cause;
use super::invalidation::tag_id::TagId;
use crate::clock::Mono;

impl<E: Clone + Send + Sync + 'static> SessionCache<E> {
    /// A write through another sidecar begins: purges the tag. Nothing is stored under it until the write ends. If no
    /// end comes, storing resumes `max_ttl` after `overdue`.
    pub fn begin_elsewhere(&self, tag: TagId, write: u64, overdue: Mono) {
        let now = self.clock.mono();
        self.store.run_purge(|remove| self.invalidation.begin_elsewhere(tag, write, overdue, now, remove));
    }

    /// A write through another sidecar has ended. Purges the tag if there is a cause, as of that time.
    pub fn end_elsewhere(&self, tag: TagId, write: u64, cause: Option<(Cause, Mono)>) {
        self.store.run_purge(|remove| self.invalidation.end_elsewhere(tag, write, cause, remove));
    }

    /// A webhook or an operator told another sidecar of a change: purges the tag.
    pub fn changed_elsewhere(&self, tag: TagId) {
        let now = self.clock.mono();
        self.store.run_purge(|remove| self.invalidation.changed_elsewhere(tag, now, remove));
    }

    /// Everything may have changed: purges all sessions, as after a write that was answered. No answer to a request
    /// that is sent before `doubt` is stored.
    pub fn all_changed_elsewhere(&self, doubt: Option<Mono>) {
        let (cause, now) = (Cause::Answered, self.clock.mono());
        self.invalidation.all_changed_elsewhere(cause, doubt, now, || self.store.hide_all());
        self.remove_hidden_later();
    }

    /// The pod has joined the log, for the first time or anew. Stored sessions stay, but the horizon no longer confirms
    /// them. Fetches in progress are not stored, and later ones are stored as after a change of everything for `cause`.
    /// No answer to a request that is sent before `doubt` is stored.
    pub fn rejoined(&self, cause: Cause, doubt: Option<Mono>) {
        self.invalidation.all_changed_elsewhere(cause, doubt, self.clock.mono(), || ());
    }

    /// Forgets writes whose end never came, once they are overdue for so long that they cannot matter any more. Called
    /// about once a second.
    pub fn forget_overdue(&self) {
        self.invalidation.forget_overdue(self.clock.mono());
    }
}
