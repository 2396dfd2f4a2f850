//! The number of the calling worker thread, and values of which each worker has its own.
//!
//! Writing to shared memory at every request would cost more than the request's own work, because the cache line
//! travels from core to core. So each worker has its own copy of everything that need not be shared.

use std::cell::Cell;

thread_local! {
    static NUMBER: Cell<usize> = const { Cell::new(0) };
}

/// Makes the calling thread the worker with this number. Workers count from 1.
pub fn set_current_worker(number: usize) {
    NUMBER.set(number);
}

/// A value for each worker, and one more for all other threads together.
#[derive(Clone, Debug)]
pub struct PerWorker<T> {
    others: T,
    workers: Box<[T]>,
}

impl<T> PerWorker<T> {
    pub fn new(workers: usize, mut make: impl FnMut() -> T) -> Self {
        Self { others: make(), workers: (0..workers).map(|_| make()).collect() }
    }

    pub fn all(&self) -> impl Iterator<Item = &T> {
        std::iter::once(&self.others).chain(&self.workers)
    }

    /// The value of the calling worker.
    pub fn own(&self) -> &T {
        NUMBER.get().checked_sub(1).and_then(|index| self.workers.get(index)).unwrap_or(&self.others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_worker_finds_its_own() {
        let mut next = 0..;
        let values = PerWorker::new(2, || next.next());
        let seen = |number| {
            std::thread::scope(|scope| {
                let asked = scope.spawn(|| {
                    set_current_worker(number);
                    *values.own()
                });
                asked.join().expect("no panic")
            })
        };
        assert_eq!([0, 1, 2, 3].map(seen), [Some(0), Some(1), Some(2), Some(0)]);
        assert_eq!(*values.own(), Some(0));
    }
}
