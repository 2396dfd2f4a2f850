//! A write in progress, and its effect on the stored sessions.

use std::sync::Arc;

use super::SessionCache;
use super::announce::Announced;
use super::ending::Ending;
use super::invalidation::tag_id::TagId;
use super::invalidation::{Cause, Tag};

/// A write in progress. The sessions that a write changes are purged when it begins, and again when it ends, unless the
/// write was not done. The outcome of a write that is dropped before [`Self::end`] is unknown.
#[derive(Debug)]
pub struct Writing<E: Clone + Send + Sync + 'static> {
    sessions: Arc<SessionCache<E>>,
    tag: Option<Tag>,
    /// The id of the tag and the number of the write, if other sidecars were told.
    announced: Option<(TagId, u64)>,
    has_ended: bool,
}

impl<E: Clone + Send + Sync + 'static> SessionCache<E> {
    /// Begins a write to `tag`; `None` if the changed resource is unknown.
    pub fn begin_write(self: &Arc<Self>, tag: Option<Tag>) -> Writing<E> {
        let mut begun = Writing { sessions: Arc::clone(self), tag, announced: None, has_ended: false };
        begun.purge(Cause::Changed);
        if let Some(fleet) = &self.fleet {
            // Nothing is stored anywhere under a tag that is too long.
            let id = begun.tag.as_ref().filter(|tag| tag.is_storable()).map(|tag| fleet.ids.id(tag));
            begun.announced = id.map(|id| (id, fleet.announce.begin(id)));
        }
        begun
    }
}

impl<E: Clone + Send + Sync + 'static> Writing<E> {
    /// Ends the write. When this returns, no session from before the write is found any more, here or at another
    /// sidecar of the fleet, unless the configured longest wait was over first.
    pub async fn end(mut self, ending: Ending) {
        self.conclude(ending);
        if let (Some(fleet), Some((_, write))) = (&self.sessions.fleet, self.announced) {
            fleet.announce.known(&[Announced::Write(write)]).await;
        }
    }

    /// Purges, and tells the other sidecars how the write ended.
    fn conclude(&mut self, ending: Ending) {
        self.has_ended = true;
        match ending {
            Ending::NotSent => {}
            Ending::Answered => self.purge(Cause::Answered),
            Ending::Unknown => self.purge(Cause::Unknown),
        }
        if let (Some(fleet), Some((tag, write))) = (&self.sessions.fleet, self.announced) {
            fleet.announce.end(write, tag, ending);
        }
    }

    fn purge(&self, cause: Cause) {
        if let Some(tag) = &self.tag {
            self.sessions.store.purge(tag, cause, self.sessions.clock.mono());
            self.sessions.purges_by_writes.inc();
        }
    }
}

impl<E: Clone + Send + Sync + 'static> Drop for Writing<E> {
    fn drop(&mut self) {
        if !self.has_ended {
            // The write panicked or was cut. Its caller learns that the outcome is unknown, and waits for no other sidecar.
            self.conclude(Ending::Unknown);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::session::freshness::{Freshness, NotStored};
    use crate::session::tests::{fetch, sessions};

    fn order() -> Option<Tag> {
        Some(Tag::order("o"))
    }

    fn ttl(stored: Result<Freshness, NotStored>) -> u64 {
        stored.expect("stored").ttl.as_secs()
    }

    #[tokio::test]
    async fn a_write_whose_task_dies_is_one_with_an_unknown_outcome() {
        let (sessions, shift) = sessions();
        let writing = sessions.begin_write(order());
        let died = tokio::spawn(async move {
            let _writing = writing;
            panic!("somewhere in the middle");
        });
        assert!(died.await.is_err());
        assert_eq!(fetch(&sessions).await, Err(NotStored::Unsettled));
        shift.advance(Duration::from_secs(59));
        assert_eq!(fetch(&sessions).await, Err(NotStored::Unsettled));
        shift.advance(Duration::from_secs(1));
        assert_eq!(ttl(fetch(&sessions).await), 30);
    }

    #[tokio::test]
    async fn a_write_that_was_never_sent_leaves_nothing_behind() {
        let (sessions, _) = sessions();
        let writing = sessions.begin_write(order());
        assert_eq!(ttl(fetch(&sessions).await), 30);
        writing.end(Ending::NotSent).await;
        assert_eq!(sessions.purge(&[Tag::order("o")]).await, 1, "what was fetched meanwhile is still there");
        assert_eq!(ttl(fetch(&sessions).await), 30);
    }

    #[tokio::test]
    async fn of_two_writes_that_overlap_the_worse_ending_counts() {
        let (sessions, shift) = sessions();
        let (first, second, unsent) =
            (sessions.begin_write(order()), sessions.begin_write(order()), sessions.begin_write(order()));
        first.end(Ending::Unknown).await;
        shift.advance(Duration::from_secs(55));
        second.end(Ending::Answered).await;
        unsent.end(Ending::NotSent).await;
        assert_eq!(fetch(&sessions).await, Err(NotStored::Unsettled));
        shift.advance(Duration::from_secs(6));
        assert_eq!(ttl(fetch(&sessions).await), 2, "the first is settled, the second is not");
        shift.advance(Duration::from_secs(4));
        assert_eq!(ttl(fetch(&sessions).await), 30);
    }

    #[tokio::test]
    async fn only_real_time_settles_a_write() {
        let (sessions, shift) = sessions();
        sessions.begin_write(order()).end(Ending::Answered).await;
        shift.step_wall(3_600_000);
        assert_eq!(ttl(fetch(&sessions).await), 2, "a wall clock stepped forward is not time that has passed");
        shift.step_wall(-7_200_000);
        shift.advance(Duration::from_secs(10));
        assert_eq!(ttl(fetch(&sessions).await), 30, "nor one stepped back time that has not");
    }
}
