//! A flag that tells a task which of its wakers woke it.
//!
//! A connection waits for its caller, for its alarm and for the end of its listener. The caller wakes the task at every
//! request, the other two hardly ever. Polling those two each time would be expensive: the end of the listener is
//! shared by all connections of all threads and sits behind a lock. So they wake the task through a bell, and are
//! polled only after the bell rang.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

/// The bell of one task. Each clone of its waker is a rope that rings the bell.
#[derive(Debug, Default)]
pub(super) struct Bell(Option<Arc<Rope>>);

#[derive(Debug)]
struct Rope {
    rang: AtomicBool,
    task: Waker,
}

impl Wake for Rope {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rang.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

impl Bell {
    /// Whether the bell rang since the last call. Also true at the first call and when the context has another waker
    /// than before: until then nobody holds a waker that rings for this task.
    pub fn rang(&mut self, context: &Context<'_>) -> bool {
        match &self.0 {
            Some(rope) if rope.task.will_wake(context.waker()) => {
                rope.rang.load(Ordering::Acquire) && rope.rang.swap(false, Ordering::AcqRel)
            }
            Some(_) | None => {
                self.0 = Some(Arc::new(Rope { rang: AtomicBool::new(false), task: context.waker().clone() }));
                true
            }
        }
    }

    /// The waker that rings the bell.
    pub fn waker(&self) -> Waker {
        self.0.as_ref().map_or_else(|| Waker::noop().clone(), |rope| Waker::from(Arc::clone(rope)))
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
    fn it_rings_once_for_each_pull_and_wakes_the_task() {
        let task = Arc::new(Count(AtomicBool::new(false)));
        let (waker, mut bell) = (Waker::from(Arc::clone(&task)), Bell::default());
        let context = Context::from_waker(&waker);
        assert!(bell.rang(&context), "nobody has a rope yet");
        assert!(!bell.rang(&context));
        let rope = bell.waker();
        rope.wake_by_ref();
        assert!(task.0.load(Ordering::SeqCst));
        assert!(bell.rang(&context) && !bell.rang(&context));

        let other = Waker::from(Arc::new(Count(AtomicBool::new(false))));
        let context = Context::from_waker(&other);
        assert!(bell.rang(&context), "the rope wakes somebody else");
        rope.wake();
        assert!(!bell.rang(&context));
        bell.waker().wake();
        assert!(bell.rang(&context));
    }
}
