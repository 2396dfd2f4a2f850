//! Whether memory may be trusted: how long ago a pod last knew everything that the log says. Pure.
//!
//! A pod that reads the log in time knows of every write before the answer to that write is passed on. A pod that does
//! not may serve its memory for a configured time, as if it were in no fleet.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};

use crate::clock::{Mono, Now};

/// How far a pod's knowledge of the log reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Horizon {
    /// When the pod last joined the log. No session fetched until then is ever confirmed again, because log entries
    /// about it may have been lost.
    pub epoch: Mono,
    /// The pod knows everything that stood in the log at this time, when the last complete poll was *sent*.
    pub synced: Option<Now>,
    /// The epoch before this one, and the last time it was synced.
    pub before: Option<(Mono, Now)>,
}

/// The configured part of the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Trust {
    /// How long after a poll memory counts as confirmed.
    pub lease: Duration,
    /// How long memory may be served that is not confirmed.
    pub alone_ttl: Duration,
}

/// Whether an entry may be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serve {
    /// Every write whose answer was passed on is known.
    Confirmed,
    /// A write through another pod may be unknown, for not longer than configured.
    Unconfirmed,
    /// The entry may not be served.
    No,
}

impl Horizon {
    /// Begins a new epoch at `now`.
    pub fn rejoin(&mut self, now: Mono) {
        self.before = self.synced.map(|synced| (self.epoch, synced));
        self.epoch = now;
        self.synced = None;
    }

    /// Notes that the pod knows everything that stood in the log at `sent`.
    pub fn sync(&mut self, sent: Now) {
        // Replies may be read in another order than their polls were sent.
        if self.synced.is_none_or(|synced| sent.mono > synced.mono) {
            self.synced = Some(sent);
        }
    }

    /// Whether the pod knows enough of the log that no session in its memory is older than a write whose answer was
    /// passed on.
    pub fn is_confirmed(&self, trust: &Trust, now: Now) -> bool {
        // By both clocks: a suspended machine stops the monotonic one. Not at the end of the lease itself: a writer may
        // pass its answer on at that very moment.
        self.synced.is_some_and(|synced| now.since(synced) < trust.lease)
    }

    /// Whether an entry may be served whose fetch was sent at `began`.
    ///
    /// A recent fetch alone confirms nothing: since then there may have been a write of which this pod has not heard.
    pub fn serve(&self, began: Now, trust: &Trust, now: Now) -> Serve {
        // Not at the epoch itself: with a coarse clock the fetch may have come first.
        if began.mono > self.epoch && self.is_confirmed(trust, now) {
            return Serve::Confirmed;
        }
        let unconfirmed = self.last_confirmed(began).map_or(Duration::MAX, |synced| now.since(synced));
        if unconfirmed.min(now.since(began)) < trust.alone_ttl { Serve::Unconfirmed } else { Serve::No }
    }

    /// Whether a caller who arrives now may wait for a fetch that others began. `Invalidation` also forbids the wait,
    /// after a purge or a new epoch since the fetch began.
    pub fn may_join(&self, trust: &Trust, now: Now) -> bool {
        // A pod that may serve unconfirmed memory treats flights as a sidecar without a fleet does.
        !trust.alone_ttl.is_zero() || self.is_confirmed(trust, now)
    }

    /// The last time at which an entry was confirmed, if its fetch was sent at `began`. `None` for an entry of an epoch
    /// before the last two, which are forgotten.
    fn last_confirmed(&self, began: Now) -> Option<Now> {
        if began.mono > self.epoch {
            return self.synced;
        }
        self.before.filter(|(epoch, _)| began.mono > *epoch).map(|(_, synced)| synced)
    }
}

/// The horizon and the rules in force: one task publishes them, every lookup reads them without a lock.
#[derive(Debug)]
pub struct SharedHorizon(ArcSwap<Outlook>);

/// The facts that decide whether memory may be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlook {
    pub horizon: Horizon,
    pub trust: Trust,
}

impl SharedHorizon {
    /// The horizon of a pod that has read nothing.
    pub fn new(trust: Trust) -> Self {
        Self(ArcSwap::from_pointee(Outlook { horizon: Horizon::default(), trust }))
    }

    /// Replaces the horizon. The purges that it includes were done before.
    pub fn publish(&self, horizon: Horizon) {
        self.0.rcu(|outlook| Outlook { horizon, ..**outlook });
    }

    /// Replaces the rules.
    pub fn change(&self, trust: Trust) {
        self.0.rcu(|outlook| Outlook { trust, ..**outlook });
    }

    /// The horizon and the rules. Load them before you read memory: then every purge that the horizon includes is done.
    /// After a read of memory, the horizon may include purges that came too late for that read.
    pub fn load(&self) -> Guard<Arc<Outlook>> {
        self.0.load()
    }
}

impl Outlook {
    /// [`Horizon::serve`] by these rules.
    pub fn serve(&self, began: Now, now: Now) -> Serve {
        self.horizon.serve(began, &self.trust, now)
    }

    /// [`Horizon::may_join`] by these rules.
    pub fn may_join(&self, now: Now) -> bool {
        self.horizon.may_join(&self.trust, now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::Wall;

    const START: u64 = 1_000_000;

    /// `ms` by both clocks.
    fn at(ms: u64) -> Now {
        Now {
            mono: Mono(Duration::from_millis(START + ms)),
            wall: Wall(1_764_000_000_000 + i64::try_from(ms).unwrap()),
        }
    }

    const TRUST: Trust = Trust { lease: Duration::from_millis(300), alone_ttl: Duration::from_secs(60) };
    const STRICT: Trust = Trust { alone_ttl: Duration::ZERO, ..TRUST };

    fn joined(epoch: u64, synced: u64) -> Horizon {
        let mut horizon = Horizon::default();
        horizon.rejoin(at(epoch).mono);
        horizon.sync(at(synced));
        horizon
    }

    #[test]
    fn memory_is_confirmed_within_the_lease_of_the_last_poll() {
        use Serve::{Confirmed, No, Unconfirmed};
        // Fetched at, now, expected by default, expected in the strict profile. Joined at 0, synced at 1000.
        let rows = [
            (500, 1000, Confirmed, Confirmed),
            (500, 1299, Confirmed, Confirmed),
            (500, 1300, Unconfirmed, No),
            (1299, 1300, Unconfirmed, No),
            (500, 60_999, Unconfirmed, No),
            (500, 61_000, No, No),
            (30_000, 61_000, Unconfirmed, No),
            (30_000, 89_999, Unconfirmed, No),
            (30_000, 90_000, No, No),
            (0, 1000, Unconfirmed, No),
            (1, 1000, Confirmed, Confirmed),
        ];
        let horizon = joined(0, 1000);
        for (began, now, default, strict) in rows {
            assert_eq!(horizon.serve(at(began), &TRUST, at(now)), default, "fetched {began}, now {now}");
            assert_eq!(horizon.serve(at(began), &STRICT, at(now)), strict, "fetched {began}, now {now}, strict");
        }
    }

    #[test]
    fn without_redis_memory_is_as_good_as_without_a_fleet() {
        let horizon = Horizon::default();
        assert_eq!(horizon.serve(at(0), &TRUST, at(59_999)), Serve::Unconfirmed);
        assert_eq!(horizon.serve(at(0), &TRUST, at(60_000)), Serve::No);
        assert!(horizon.may_join(&TRUST, at(0)) && !horizon.may_join(&STRICT, at(0)));
    }

    #[test]
    fn a_new_epoch_confirms_nothing_from_before_it() {
        let mut horizon = joined(0, 1000);
        horizon.rejoin(at(1100).mono);
        assert_eq!(horizon.serve(at(1150), &STRICT, at(1200)), Serve::No, "the log is not read to its end yet");
        let mut horizon = joined(0, 1000);
        horizon.rejoin(at(2000).mono);
        horizon.sync(at(2100));
        assert_eq!(horizon.serve(at(2000), &STRICT, at(2100)), Serve::No, "fetched at the epoch");
        assert_eq!(horizon.serve(at(2001), &STRICT, at(2100)), Serve::Confirmed);
        // An entry that the earlier epoch confirmed until 1000 has from then on the time of a pod that is alone.
        assert_eq!(horizon.serve(at(10), &TRUST, at(60_999)), Serve::Unconfirmed);
        assert_eq!(horizon.serve(at(10), &TRUST, at(61_000)), Serve::No);
        horizon.rejoin(at(3000).mono);
        horizon.sync(at(3000));
        assert_eq!(horizon.serve(at(10), &TRUST, at(60_010)), Serve::No, "two epochs ago: only its own fetch counts");
        assert_eq!(horizon.serve(at(10), &TRUST, at(60_009)), Serve::Unconfirmed);
    }

    #[test]
    fn a_suspended_machine_wakes_without_a_lease() {
        let horizon = joined(0, 1000);
        let woken = Now { mono: at(1001).mono, wall: at(500_000).wall };
        assert_eq!(horizon.serve(at(900), &TRUST, woken), Serve::No);
        assert!(!horizon.is_confirmed(&TRUST, woken));
        let stepped_back = Now { mono: at(1300).mono, wall: at(0).wall };
        assert!(!horizon.is_confirmed(&TRUST, stepped_back));
    }

    #[test]
    fn a_reply_that_is_read_late_takes_nothing_back() {
        let mut horizon = joined(0, 1000);
        horizon.sync(at(900));
        assert_eq!(horizon.synced, Some(at(1000)));
    }

    proptest! {
        #[test]
        fn nothing_is_served_longer_than_the_rules_allow(
            epochs in proptest::collection::vec((0_u64..500, proptest::collection::vec(0_u64..500, 0..4)), 0..4),
            began in 0_u64..3000, later in 0_u64..3000, lease in 0_u64..400, alone in 0_u64..400,
        ) {
            let trust = Trust { lease: Duration::from_millis(lease), alone_ttl: Duration::from_millis(alone) };
            let (mut horizon, mut time, mut syncs) = (Horizon::default(), 0, Vec::new());
            for (gap, polls) in epochs {
                time += gap;
                horizon.rejoin(at(time).mono);
                let epoch = time;
                for poll in polls {
                    time += poll;
                    horizon.sync(at(time));
                    syncs.push((epoch, time));
                }
            }
            let (epoch, now) = (horizon.epoch, time.max(began) + later);
            let confirmed = syncs.last().is_some_and(|(of, sync)| at(*of).mono == epoch && now - sync < lease);
            // Whatever the pod forgets, no entry is served for longer than after its last confirmation.
            let lived = syncs.iter().filter(|(of, _)| began > *of).map(|(_, sync)| *sync).max().unwrap_or(0).max(began);
            match horizon.serve(at(began), &trust, at(now)) {
                Serve::Confirmed => prop_assert!(confirmed && at(began).mono > epoch),
                Serve::Unconfirmed => prop_assert!(now - lived < alone),
                Serve::No => prop_assert!(!(confirmed && at(began).mono > epoch) && now - began >= alone),
            }
        }
    }
}
