//! Telling apart what woke a task.
//!
//! A connection waits for its caller, for its alarm and for the end of its listener. The first wakes it at every
//! request, the others hardly ever, and to ask them each time costs: the end is shared by all connections of all threads,
//! and behind a lock. So they wake the task by a bell, and are asked only when it rang.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

/// The bell of one task.
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
    /// Whether it rang since the task of this context last asked. The first time it did, and again when the task is
    /// woken by another waker than before: nobody has the right rope then.
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

    /// What is to ring it.
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
