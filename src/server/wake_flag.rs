//! A flag that tells a task which of its wakers woke it.
//!
//! A connection waits for its caller, for its alarm and for the end of its listener. The caller wakes the task at every
//! request, the other two hardly ever. Polling those two each time would be expensive: the end of the listener is
//! shared by all connections of all threads and sits behind a lock. So those two wake the task through this flag, and
//! are polled only when the flag is set.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

/// The flag of one task. [`Self::waker`] sets the flag and wakes the task.
#[derive(Debug, Default)]
pub(super) struct WakeFlag(Option<Arc<FlagWaker>>);

#[derive(Debug)]
struct FlagWaker {
    set: AtomicBool,
    task: Waker,
}

impl Wake for FlagWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.set.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

impl WakeFlag {
    /// Clears the flag, and returns whether the flag was set. Also `true` at the first call and when the context has
    /// another waker than before: until then nobody holds a waker that sets the flag for this task.
    pub fn take(&mut self, context: &Context<'_>) -> bool {
        match &self.0 {
            Some(flag) if flag.task.will_wake(context.waker()) => {
                flag.set.load(Ordering::Acquire) && flag.set.swap(false, Ordering::AcqRel)
            }
            Some(_) | None => {
                self.0 = Some(Arc::new(FlagWaker { set: AtomicBool::new(false), task: context.waker().clone() }));
                true
            }
        }
    }

    pub fn waker(&self) -> Waker {
        self.0.as_ref().map_or_else(|| Waker::noop().clone(), |flag| Waker::from(Arc::clone(flag)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Count(AtomicBool);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn the_flag_is_taken_once_for_each_wake_and_the_task_is_woken() {
        let task = Arc::new(Count(AtomicBool::new(false)));
        let (waker, mut flag) = (Waker::from(Arc::clone(&task)), WakeFlag::default());
        let context = Context::from_waker(&waker);
        assert!(flag.take(&context), "nobody has the flag's waker yet");
        assert!(!flag.take(&context));
        let first = flag.waker();
        first.wake_by_ref();
        assert!(task.0.load(Ordering::SeqCst));
        assert!(flag.take(&context) && !flag.take(&context));

        let other = Waker::from(Arc::new(Count(AtomicBool::new(false))));
        let context = Context::from_waker(&other);
        assert!(flag.take(&context), "the first waker wakes another task");
        first.wake();
        assert!(!flag.take(&context));
        flag.waker().wake();
        assert!(flag.take(&context));
    }
}
