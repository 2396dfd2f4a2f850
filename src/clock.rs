//! Time as a value. Decisions take a [`Now`] as an argument; only this file reads the machine's clocks.
//!
//! Two clocks are read together because each one alone can lie: the monotonic clock stops while a machine is suspended,
//! the wall clock can be stepped. A value with a limited life ends by whichever clock reaches the limit first.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, Timespec, clock_gettime};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

/// The source of [`Now`]. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    shift: Option<Arc<ClockShift>>,
}

impl Clock {
    pub fn system() -> Self {
        Self::default()
    }

    /// The machine's clocks with an offset that a test sets through the returned [`ClockShift`].
    pub fn shifted() -> (Self, Arc<ClockShift>) {
        let shift = Arc::new(ClockShift::default());
        (Self { shift: Some(Arc::clone(&shift)) }, shift)
    }

    pub fn now(&self) -> Now {
        let shift = self.shift.as_ref().map_or(0, |shift| shift.wall.load(Ordering::SeqCst));
        Now { mono: self.mono(), wall: Wall(read_wall().0.saturating_add(shift)) }
    }

    pub fn mono(&self) -> Mono {
        let shift = self.shift.as_ref().map_or(0, |shift| shift.mono.load(Ordering::SeqCst));
        Mono(read_mono().saturating_add(Duration::from_millis(u64::try_from(shift).unwrap_or(0))))
    }

    /// Waits until the monotonic clock has advanced by `length`.
    pub async fn sleep(&self, length: Duration) {
        let Some(shift) = &self.shift else { return sleep(length).await };
        let end = self.mono().plus(length);
        loop {
            let moved = shift.moved.notified();
            let left = end.since(self.mono());
            if left.is_zero() {
                return;
            }
            let _ = timeout(left, moved).await;
        }
    }
}

/// The machine's monotonic clock in microseconds, without a test offset: comparable between processes of this machine.
pub fn monotonic_micros() -> u64 {
    u64::try_from(read_mono().as_micros()).unwrap_or(u64::MAX)
}

/// Every request reads the clocks five times. The standard library takes twice as long, mostly to compute a difference.
fn read_mono() -> Duration {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Monotonic);
    Duration::new(u64::try_from(tv_sec).unwrap_or(0), u32::try_from(tv_nsec).unwrap_or(0))
}

fn read_wall() -> Wall {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Realtime);
    Wall(tv_sec.saturating_mul(1000).saturating_add(tv_nsec / 1_000_000))
}

/// Moves a [`Clock::shifted`] clock while it is in use.
#[derive(Debug, Default)]
pub struct ClockShift {
    mono: AtomicI64,
    wall: AtomicI64,
    /// Wakes the tasks that sleep by the monotonic clock.
    moved: Notify,
}

impl ClockShift {
    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        let millis = millis(by);
        self.mono.fetch_add(millis, Ordering::SeqCst);
        self.wall.fetch_add(millis, Ordering::SeqCst);
        self.moved.notify_waiters();
    }

    /// Moves only the wall clock: a step by an operator or NTP, or (forward) a machine that was suspended.
    pub fn step_wall(&self, by_millis: i64) {
        self.wall.fetch_add(by_millis, Ordering::SeqCst);
    }
}

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Now {
    pub mono: Mono,
    pub wall: Wall,
}

/// Monotonic time since an arbitrary moment before this process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub Duration);

impl Now {
    /// Time since `earlier`, by the clock that has gone further: a suspended machine stops the monotonic one.
    pub fn since(self, earlier: Self) -> Duration {
        self.mono.since(earlier.mono).max(self.wall.since(earlier.wall))
    }
}

impl Mono {
    /// The time `by` later; saturates.
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by))
    }

    /// The time `by` earlier; saturates.
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(by))
    }

    /// Time since `earlier`; zero if it is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Wall time in milliseconds since the Unix epoch; negative before it (Go's zero date is the year 1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wall(pub i64);

impl Wall {
    /// The time `by` later; saturates.
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(millis(by)))
    }

    /// The time `by` earlier; saturates.
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(millis(by)))
    }

    /// Time since `earlier`; zero if it is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Milliseconds since `other`; negative if `other` is later.
    pub fn millis_since(self, other: Self) -> i64 {
        self.0.saturating_sub(other.0)
    }
}

impl From<SystemTime> for Wall {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self(millis(after)),
            Err(before) => Self(millis(before.duration()).saturating_neg()),
        }
    }
}

impl From<Wall> for SystemTime {
    fn from(wall: Wall) -> Self {
        let distance = Duration::from_millis(wall.0.unsigned_abs());
        let time = if wall.0 >= 0 { UNIX_EPOCH.checked_add(distance) } else { UNIX_EPOCH.checked_sub(distance) };
        time.unwrap_or(UNIX_EPOCH)
    }
}

/// The wall clock in microseconds since the Unix epoch, for log lines only: no decision depends on this reading.
pub fn wall_micros() -> i64 {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Realtime);
    tv_sec.saturating_mul(1_000_000).saturating_add(tv_nsec / 1000)
}

/// The end of a limited life, kept on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    mono: Mono,
    wall: Wall,
}

impl Deadline {
    /// `life` after `now`, on both clocks.
    pub fn after(now: Now, life: Duration) -> Self {
        Self { mono: now.mono.plus(life), wall: now.wall.plus(life) }
    }

    /// The life left; zero once either clock has reached the deadline.
    pub fn remaining(&self, now: Now) -> Duration {
        self.mono.since(now.mono).min(self.wall.since(now.wall))
    }

    /// How long ago the deadline passed, by the clock that is further past it; zero before the deadline.
    pub fn overdue(&self, now: Now) -> Duration {
        now.mono.since(self.mono).max(now.wall.since(self.wall))
    }

    /// Whether either clock has reached the deadline.
    pub fn passed(&self, now: Now) -> bool {
        now.mono >= self.mono || now.wall >= self.wall
    }

    pub fn wall(&self) -> Wall {
        self.wall
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(60);

    #[test]
    fn a_deadline_passes_by_whichever_clock_is_first() {
        let (clock, shift) = Clock::shifted();
        let deadline = Deadline::after(clock.now(), LIFE);
        assert!(!deadline.passed(clock.now()));

        shift.step_wall(61_000);
        assert!(deadline.passed(clock.now()), "the wall clock alone went past it");
        shift.step_wall(-3_600_000);
        assert!(!deadline.passed(clock.now()));

        let before = clock.now();
        shift.advance(LIFE);
        assert!(deadline.passed(clock.now()), "the wall clock is an hour behind, the monotonic one is not");
        assert_eq!(deadline.remaining(clock.now()), Duration::ZERO);
        assert!(deadline.overdue(clock.now()) < LIFE);
        shift.step_wall(7_200_000);
        assert!(deadline.overdue(clock.now()) > 59 * LIFE, "an hour by the wall clock");
        assert!(clock.now().since(before) >= 121 * LIFE, "two hours more than the monotonic clock saw");
        assert_eq!(before.since(clock.now()), Duration::ZERO);
    }

    #[tokio::test]
    async fn whoever_sleeps_wakes_when_the_clock_is_moved() {
        let (clock, shift) = Clock::shifted();
        let sleeper = tokio::spawn(async move { clock.sleep(60 * LIFE).await });
        tokio::task::yield_now().await;
        shift.advance(59 * LIFE);
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        shift.advance(LIFE);
        timeout(LIFE, sleeper).await.expect("awake").expect("no panic");
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Mono(Duration::MAX).plus(LIFE), Mono(Duration::MAX));
        assert_eq!(Wall(i64::MAX).plus(LIFE), Wall(i64::MAX));
        assert_eq!(Mono(LIFE / 2).minus(LIFE), Mono::default());
        assert_eq!(Wall(i64::MIN).minus(Duration::MAX), Wall(i64::MIN));
        assert_eq!(Wall(i64::MIN).since(Wall(i64::MAX)), Duration::ZERO);
        assert_eq!(Wall(5).since(Wall(9)), Duration::ZERO);
        assert_eq!(Wall::from(SystemTime::from(Wall(-1_500))), Wall(-1_500));
        let _ = SystemTime::from(Wall(i64::MIN));
    }
}
