//! The writes under way. A caller that hangs up does not stop its write, and a drain waits for all of them.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::guard::poll_caught;
use crate::boxed::boxed_future;

/// The writes under way. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Writes {
    /// Counts them.
    tracker: TaskTracker,
    cut: Arc<CutFlag>,
}

/// Whether the writes under way were cut, as at the end of a drain, and who waits for that. Each write reads this several
/// times, and a `CancellationToken` takes a lock at each reading.
#[derive(Debug, Default)]
struct CutFlag {
    is_set: AtomicBool,
    waiting: Notify,
}

impl Writes {
    pub fn under_way(&self) -> usize {
        self.tracker.len()
    }

    /// Waits until every write has ended. No write may begin any more.
    pub async fn close_and_wait(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    pub(super) fn are_cut(&self) -> bool {
        self.cut.is_set.load(Ordering::SeqCst)
    }

    /// Waits for something, but not beyond the end of all writes. `Unpin` makes callers pin the future, because some are
    /// too large to be moved.
    pub(super) async fn unless_cut<F: Future + Unpin>(&self, mut future: F) -> Option<F::Output> {
        // Made before the flag is read: a cut that comes later wakes this wait.
        let mut cut = pin!(self.cut.waiting.notified());
        if self.are_cut() {
            return None;
        }
        poll_fn(|context| match Pin::new(&mut future).poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => cut.as_mut().poll(context).map(|()| None),
        })
        .await
    }

    /// A write that `make` gives, as its caller waits for it. `unclaimed` gets the result if the caller does not.
    #[inline]
    pub(super) fn begin<F>(&self, make: impl FnOnce() -> F, unclaimed: fn(F::Output)) -> UnderWay<F>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        UnderWay { write: Some(boxed_future(make)), unclaimed, counted: self.tracker.token() }
    }

    /// Ends the writes under way. The outcome of a write that may have been sent is unknown.
    pub async fn cut(&self) {
        // The flag comes first: a wait that begins now sees one of the two.
        self.cut.is_set.store(true, Ordering::SeqCst);
        self.cut.waiting.notify_waiters();
        self.close_and_wait().await;
    }
}

/// A write in the task of its caller: a task of its own would cost each write its making and two switches. If this is
/// dropped because the caller has gone, the rest of the write runs in a task. `None` after a panic.
///
/// Over HTTP/2 hyper drops the future of a stream that its caller resets. Over HTTP/1.1 hyper learns of a caller that
/// has gone only when it writes the answer, so the write ends before, unless the connection is cut.
pub(super) struct UnderWay<F>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    /// `None` once the write has ended.
    write: Option<Pin<Box<F>>>,
    unclaimed: fn(F::Output),
    counted: TaskTrackerToken,
}

impl<F> Future for UnderWay<F>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(write) = &mut self.write else { return Poll::Ready(None) };
        poll_caught(write.as_mut(), context).map(|ended| {
            self.write = None;
            ended.ok()
        })
    }
}

impl<F> Drop for UnderWay<F>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn drop(&mut self) {
        let Some(write) = self.write.take() else { return };
        let unclaimed = self.unclaimed;
        // Without a runtime the process ends, and the write with it.
        if let Ok(runtime) = Handle::try_current() {
            self.counted.task_tracker().spawn_on(async move { unclaimed(write.await) }, &runtime);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use tokio::runtime::Builder;
    use tokio::sync::oneshot;
    use tokio::sync::oneshot::error::TryRecvError;
    use tokio::time::timeout;

    use super::*;

    fn polled_once<F: Future + Unpin>(future: &mut F) -> impl Future<Output = Poll<F::Output>> {
        poll_fn(|context| Poll::Ready(Pin::new(&mut *future).poll(context)))
    }

    #[tokio::test]
    async fn a_write_runs_in_the_task_of_its_caller() {
        let (writes, (end, ended)) = (Writes::default(), oneshot::channel());
        let mut write = writes.begin(|| async { ended.await.ok() }, |_| panic!("the caller got it"));
        assert_eq!((polled_once(&mut write).await, writes.under_way()), (Poll::Pending, 1));
        end.send(7).expect("a write that waits");
        assert_eq!(polled_once(&mut write).await, Poll::Ready(Some(Some(7))));
        drop(write);
        assert_eq!(writes.under_way(), 0);
    }

    #[tokio::test]
    async fn a_write_whose_caller_hangs_up_goes_on_and_a_drain_waits_for_it() {
        static UNCLAIMED: AtomicUsize = AtomicUsize::new(0);
        for polls in [0, 1, 2] {
            let (writes, (end, ended)) = (Writes::default(), oneshot::channel());
            let write = || async { ended.await.unwrap_or_default() };
            let mut write = writes.begin(write, |result| UNCLAIMED.store(result, Ordering::SeqCst));
            for _ in 0..polls {
                assert_eq!(polled_once(&mut write).await, Poll::Pending);
            }
            drop(write);
            let mut drained = pin!(writes.close_and_wait());
            let early = timeout(Duration::from_millis(20), &mut drained).await;
            assert_eq!((early.is_err(), writes.under_way()), (true, 1), "{polls} polls");
            end.send(7 + polls).expect("a write that goes on");
            drained.await;
            assert_eq!(UNCLAIMED.load(Ordering::SeqCst), 7 + polls);
        }
    }

    #[tokio::test]
    async fn a_cut_ends_each_wait_and_lets_none_begin() {
        let writes: &Writes = Box::leak(Box::default());
        let mut waiting = Box::pin(writes.unless_cut(pending::<()>()));
        assert_eq!(polled_once(&mut waiting).await, Poll::Pending);
        assert_eq!((writes.unless_cut(ready(7)).await, writes.are_cut()), (Some(7), false));
        // The rest of a write goes on in another task, and has another waker there.
        let waiting = tokio::spawn(waiting);
        tokio::task::yield_now().await;
        writes.cut().await;
        let ended = timeout(Duration::from_secs(9), waiting).await.expect("the cut wakes the task");
        assert_eq!(ended.expect("no panic"), None);
        assert_eq!((writes.unless_cut(ready(7)).await, writes.are_cut()), (None, true));
    }

    #[tokio::test]
    async fn a_cut_between_the_look_at_the_flag_and_the_wait_is_seen() {
        let writes = Writes::default();
        let cutting = poll_fn(|context| {
            let cut = pin!(writes.cut()).poll(context);
            assert_eq!(cut, Poll::Ready(()), "no write is under way");
            Poll::<()>::Pending
        });
        let mut wait = pin!(writes.unless_cut(cutting));
        assert_eq!(polled_once(&mut wait).await, Poll::Ready(None));
    }

    #[tokio::test]
    async fn a_write_that_panics_ends_once() {
        let writes = Writes::default();
        let mut write = writes.begin(|| async { panic!("as a bug would") }, |()| panic!("no result"));
        assert_eq!(polled_once(&mut write).await, Poll::Ready(None));
        drop(write);
        assert_eq!(writes.under_way(), 0, "the rest of a write that panicked does not run");
    }

    #[test]
    fn a_write_ends_with_the_runtime_of_its_caller() {
        let writes = Writes::default();
        drop(writes.begin(pending, |()| panic!("no result")));
        assert_eq!(writes.under_way(), 0, "without a runtime");

        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (sender, mut ended) = oneshot::channel::<()>();
        let write = writes.begin(|| async { (sender, pending::<()>().await) }, |_| panic!("no result"));
        runtime.spawn(write);
        runtime.block_on(tokio::task::yield_now());
        assert_eq!((writes.under_way(), ended.try_recv()), (1, Err(TryRecvError::Empty)));
        runtime.shutdown_background();
        assert_eq!((writes.under_way(), ended.try_recv()), (0, Err(TryRecvError::Closed)));
    }
}
