//! Which of the threads that serve connections this is, and values that each of them has one of its own.
//!
//! What is written at every request and shared between threads costs more than the request's own work: its cache line
//! travels from core to core. So workers share what they must, and have the rest each for itself.

use std::cell::Cell;

thread_local! {
    static NUMBER: Cell<usize> = const { Cell::new(0) };
}

/// Makes the calling thread the worker of this number; they count from 1.
pub fn enlist(number: usize) {
    NUMBER.set(number);
}

/// One value for each worker, and one for all other threads together.
#[derive(Clone, Debug)]
pub struct PerWorker<T> {
    others: T,
    workers: Box<[T]>,
}

impl<T> PerWorker<T> {
    /// Makes a value for each of so many workers, and one more.
    pub fn new(workers: usize, mut make: impl FnMut() -> T) -> Self {
        Self { others: make(), workers: (0..workers).map(|_| make()).collect() }
    }

    /// The values of all.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        std::iter::once(&self.others).chain(&self.workers)
    }

    /// The value of the worker that asks.
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
                    enlist(number);
                    *values.own()
                });
                asked.join().expect("no panic")
            })
        };
        assert_eq!([0, 1, 2, 3].map(seen), [Some(0), Some(1), Some(2), Some(0)]);
        assert_eq!(*values.own(), Some(0));
    }
}
