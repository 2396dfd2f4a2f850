//! Tasks that must live as long as the process. A panic in one is logged and counted, and the task begins anew after a
//! pause that grows. The probe for liveness and the service manager's watchdog learn when a task is gone or hangs.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::IntCounterVec;
use tokio::task::JoinError;
use tokio::time::sleep;
use tokio_util::task::TaskTracker;

use crate::clock::monotonic_micros;
use crate::telemetry::log::millis;

/// Keeps tasks alive, and knows which of them are not. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Supervisor {
    tasks: TaskTracker,
    restarts: IntCounterVec,
    watched: Arc<Mutex<Vec<Heartbeat>>>,
}

/// A sign of life of one task. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Heartbeat(Arc<TaskState>);

#[derive(Debug)]
struct TaskState {
    task: &'static str,
    /// A task without a beat for this long hangs. `None` for tasks that may wait for ever.
    limit: Option<Duration>,
    /// The time of the last beat, in microseconds of the monotonic clock.
    last: AtomicU64,
    gone: AtomicBool,
}

impl Supervisor {
    /// Runs tasks on `tasks`, and counts in `restarts`, by the task's name, how often they began anew.
    pub fn new(tasks: TaskTracker, restarts: IntCounterVec) -> Self {
        Self { tasks, restarts, watched: Arc::default() }
    }

    /// Runs a task until it returns, and begins it anew whenever it panics. [`Self::failed_task`] names the task while
    /// it is gone, and when it has not beaten for `limit`.
    pub fn keep<F>(
        &self,
        task: &'static str,
        limit: Option<Duration>,
        mut make: impl FnMut(Heartbeat) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let heartbeat = Heartbeat::new(task, limit);
        self.watched().push(heartbeat.clone());
        let supervisor = self.clone();
        self.tasks.spawn(async move {
            let mut panics = 0_u32;
            loop {
                heartbeat.begin();
                let began = monotonic_micros();
                let Err(ended) = tokio::spawn(make(heartbeat.clone())).await else { break };
                let lived = Duration::from_micros(monotonic_micros().saturating_sub(began));
                panics = if lived > STABLE_AFTER { 0 } else { panics };
                if !supervisor.wait_to_restart(&heartbeat, &ended, &mut panics).await {
                    return;
                }
            }
            // Tasks return when they are told to stop.
            supervisor.watched().retain(|other| !Arc::ptr_eq(&other.0, &heartbeat.0));
        });
    }

    /// Waits until a task that has ended may begin anew; `false` if the runtime ends, too.
    async fn wait_to_restart(&self, heartbeat: &Heartbeat, ended: &JoinError, panics: &mut u32) -> bool {
        if !ended.is_panic() {
            return false;
        }
        heartbeat.0.gone.store(true, Ordering::Relaxed);
        let task = heartbeat.0.task;
        self.restarts.with_label_values(&[task]).inc();
        let pause = back_off(*panics);
        *panics = panics.saturating_add(1);
        tracing::error!(task, panics, retry_ms = millis(pause), "a task panicked; the sidecar starts it again");
        sleep(pause).await;
        true
    }

    /// The task that is gone or hangs, if there is one.
    pub fn failed_task(&self) -> Option<&'static str> {
        let now = monotonic_micros();
        self.watched().iter().find(|heartbeat| !heartbeat.is_alive(now)).map(|heartbeat| heartbeat.0.task)
    }

    /// Waits until every task lives.
    pub async fn all_alive(&self) {
        while self.failed_task().is_some() {
            sleep(POLL_INTERVAL).await;
        }
    }

    // No code under the lock can leave the list half changed.
    fn watched(&self) -> MutexGuard<'_, Vec<Heartbeat>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heartbeat {
    fn new(task: &'static str, limit: Option<Duration>) -> Self {
        Self(Arc::new(TaskState {
            task,
            limit,
            last: AtomicU64::new(monotonic_micros()),
            gone: AtomicBool::new(false),
        }))
    }

    /// The task must call this function more often than its limit.
    pub fn beat(&self) {
        self.0.last.store(monotonic_micros(), Ordering::Relaxed);
    }

    fn begin(&self) {
        self.beat();
        self.0.gone.store(false, Ordering::Relaxed);
    }

    fn is_alive(&self, now: u64) -> bool {
        let silent = Duration::from_micros(now.saturating_sub(self.0.last.load(Ordering::Relaxed)));
        !self.0.gone.load(Ordering::Relaxed) && self.0.limit.is_none_or(|limit| silent <= limit)
    }
}

/// The pause before a task begins anew: 1 s after the first panic in a row, then twice as long each time, up to 30 s.
fn back_off(panics: u32) -> Duration {
    Duration::from_secs(1 << panics.min(5)).min(LONGEST_PAUSE)
}

const LONGEST_PAUSE: Duration = Duration::from_secs(30);
// After a life this long, the next panic counts as the first in a row.
const STABLE_AFTER: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::atomic::AtomicUsize;

    use prometheus::Opts;

    use super::*;

    fn supervisor() -> Supervisor {
        let restarts = IntCounterVec::new(Opts::new("restarts", "Restarts."), &["task"]).expect("a metric");
        Supervisor::new(TaskTracker::new(), restarts)
    }

    fn restarts(supervisor: &Supervisor, task: &str) -> u64 {
        supervisor.restarts.with_label_values(&[task]).get()
    }

    async fn until(what: &str, mut holds: impl FnMut() -> bool) {
        for _ in 0..1000 {
            if holds() {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("not in time: {what}");
    }

    #[tokio::test]
    async fn a_task_that_panics_begins_anew_and_is_missed_meanwhile() {
        let (supervisor, runs) = (supervisor(), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&runs);
        supervisor.keep("frail", None, move |_| {
            let run = counted.fetch_add(1, Ordering::SeqCst);
            async move {
                if run == 0 {
                    panic!("on purpose");
                }
                pending().await
            }
        });
        until("it is gone", || supervisor.failed_task() == Some("frail")).await;
        supervisor.all_alive().await;
        assert_eq!((runs.load(Ordering::SeqCst), restarts(&supervisor, "frail")), (2, 1));
    }

    #[tokio::test]
    async fn a_task_that_does_not_beat_hangs_and_one_that_has_returned_is_not_missed() {
        let supervisor = supervisor();
        let limit = Some(Duration::from_millis(100));
        supervisor.keep("done", limit, |_| async {});
        supervisor.keep("hangs", limit, |_| pending());
        let well = Arc::new(tokio::sync::Notify::new());
        let stop = Arc::clone(&well);
        supervisor.keep("well", limit, move |heartbeat| {
            let stop = Arc::clone(&stop);
            async move {
                let beat = async {
                    loop {
                        heartbeat.beat();
                        sleep(Duration::from_millis(10)).await;
                    }
                };
                tokio::select! {
                    () = beat => {}
                    () = stop.notified() => {}
                }
            }
        });
        until("one hangs", || supervisor.failed_task() == Some("hangs")).await;
        assert_eq!(supervisor.watched().len(), 2, "what has returned is not watched");
        assert_eq!(restarts(&supervisor, "hangs"), 0);
    }

    #[test]
    fn pauses_grow_up_to_a_bound() {
        let pauses = [0, 1, 2, 3, 4, 5, 6, u32::MAX].map(|panics| back_off(panics).as_secs());
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30]);
    }
}
