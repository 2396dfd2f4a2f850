//! Memory: writers at other pods, a reader with its own memory and flights, and time.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use uuid::Uuid;

use super::*;
use crate::fleet::log::{Batch, Hold, HoldEnd, Ticket, Wait};
use crate::session::ending::Ending;
use crate::session::freshness::NotStored;
use crate::session::horizon::{Serve, Trust};
use crate::session::invalidation::open::OpenWrites;
use crate::session::invalidation::tag_id::TagIds;
use crate::session::invalidation::{Cause, FetchId, Invalidation, PurgeEpoch};

/// The bounds of one search.
#[derive(Clone, Copy, Debug)]
struct Local {
    writers: u8,
    /// The lease in ticks.
    lease: u8,
    /// The last tick.
    end: u8,
    /// Replies are read at once when the server has made them.
    is_quick: bool,
    fault: Fault,
    /// How many faults there may be.
    faults: u8,
    without: Without,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Nothing,
    FailOver,
    LogLost,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    tick: u8,
    redis: Rc<Redis>,
    /// Which writes Sezzle shows, one bit each.
    shown: u8,
    writers: Vec<Rc<Writer>>,
    reader: Rc<Reader>,
    faults: u8,
}

/// A pod that does one write.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Writer {
    log: Log,
    process: u8,
    write: Option<WriteId>,
    at_sezzle: AtSezzle,
    /// A batch that the server has executed, and its reply.
    reply: Option<(Batch, Vec<Option<Position>>, Vec<Item>)>,
    is_passed_on: bool,
    /// For rules taken away: when the beginning was acknowledged.
    begin_acked: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum AtSezzle {
    Sent,
    Shown,
    Answered,
}

/// A pod that only reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Reader {
    log: Log,
    process: u8,
    open: OpenWrites,
    /// A poll that the server has executed, and its reply.
    reply: Option<(Ticket, Vec<Item>)>,
    /// The stored entry: which writes it shows, and when it was fetched.
    memory: Option<(u8, Now)>,
    flight: Option<Fetched>,
}

/// An answer of Sezzle that is not stored yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Fetched {
    shows: u8,
    began: Now,
    /// Nothing was purged since.
    is_clean: bool,
    /// A caller who waits for the answer although it is not what that caller needs.
    waiter: Option<Waiter>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Waiter {
    /// The writes that the answer has to show.
    needed: u8,
    /// Nothing was purged between the beginning of the fetch and the caller's arrival.
    is_in_order: bool,
}

impl Local {
    fn trust(&self) -> Trust {
        Trust { lease: Duration::from_secs(self.lease.into()), alone_ttl: Duration::ZERO }
    }

    fn is(&self, without: Without) -> bool {
        self.without == without
    }

    fn writer_steps(&self, world: &World, index: usize, next: &mut dyn FnMut(&'static str, World)) {
        let (writer, now) = (&world.writers[index], at(world.tick));
        let mut step = |name, redis: Option<Redis>, shown, change: &dyn Fn(&mut Writer)| {
            let mut changed = world.clone();
            redis.into_iter().for_each(|redis| changed.redis = Rc::new(redis));
            changed.shown |= shown;
            change(Rc::make_mut(&mut changed.writers[index]));
            next(name, changed);
        };
        let Some(write) = writer.write else {
            return step("begin", None, 0, &|writer| {
                writer.write = Some(writer.log.begin(TAG, LONGEST, now.mono));
                if self.is(Without::AckAtAll) {
                    writer.begin_acked = Some(world.tick);
                }
            });
        };
        if writer.is_passed_on {
            return;
        }
        let is_connected = writer.process == world.redis.process;
        if writer.reply.is_none() && is_connected {
            let mut log = writer.log.clone();
            if let Some(batch) = log.publish(9, now) {
                let mut redis = Redis::clone(&world.redis);
                let positions: Vec<_> = batch.entries().map(|entry| Some(redis.append(*entry))).collect();
                let page = redis.range(batch.ticket.from());
                let reply = (batch, positions, page);
                step("publish", Some(redis), 0, &|writer| {
                    (writer.log, writer.reply) = (log.clone(), Some(reply.clone()));
                    if self.is_quick {
                        self.read_ack(writer, world, now);
                    }
                });
            }
        }
        if writer.reply.is_some() {
            step("read ack", None, 0, &|writer| self.read_ack(writer, world, now));
        }
        match writer.at_sezzle {
            AtSezzle::Sent => {
                step("effect", None, 1 << index, &|writer| writer.at_sezzle = AtSezzle::Shown);
            }
            AtSezzle::Shown => step("answer", None, 0, &|writer| {
                writer.at_sezzle = AtSezzle::Answered;
                writer.log.end(write, TAG, Ending::Answered, now.mono);
            }),
            AtSezzle::Answered if self.may_pass_on(writer, write, now) => {
                step("pass on", None, 0, &|writer| writer.is_passed_on = true);
            }
            AtSezzle::Answered => {}
        }
        let is_lost = is_connected && !world.redis.log.contains(&writer.log.place.as_ref().expect("joined").last);
        if !is_connected || is_lost && !self.is(Without::AckGoesOn) {
            step("rejoin", None, 0, &|writer| self.rejoin_writer(writer, &world.redis, now));
        }
    }

    fn read_ack(&self, writer: &mut Writer, world: &World, now: Now) {
        let Some((batch, positions, mut page)) = writer.reply.take() else { return };
        if self.is(Without::AckGoesOn) {
            page = without_gap(batch.ticket.from, &page);
        }
        if writer.log.published(&batch, &positions, &whole(&page), now.mono).is_err() {
            return self.rejoin_writer(writer, &world.redis, now);
        }
        if matches!(self.without, Without::EndAck | Without::SameLog) && writer.begin_acked.is_none() {
            writer.begin_acked = Some(world.tick);
        }
    }

    fn rejoin_writer(&self, writer: &mut Writer, redis: &Redis, now: Now) {
        if writer.process != redis.process {
            writer.log.lose_connection();
        }
        (writer.process, writer.reply) = (redis.process, None);
        join(&mut writer.log, redis, now);
        if self.is(Without::EndAck) {
            writer.begin_acked = None;
        }
    }

    fn may_pass_on(&self, writer: &Writer, write: WriteId, now: Now) -> bool {
        let hold = |now| writer.log.hold(Wait::Write(write), NEVER, now) == Hold::Go(HoldEnd::AllKnow);
        let waited = writer.begin_acked.is_some_and(|acked| now.mono >= at(acked + self.lease).mono);
        match self.without {
            Without::EndAck => waited,
            // Far in the future, only the acknowledgements count.
            Without::SameLog | Without::AckAtAll => waited && hold(at(u8::MAX).mono),
            _ => hold(now.mono),
        }
    }

    fn reader_steps(&self, world: &World, next: &mut dyn FnMut(&'static str, World)) {
        let (reader, redis, now) = (&world.reader, &*world.redis, at(world.tick));
        let mut step = |name, change: &dyn Fn(&mut Reader)| {
            let mut changed = world.clone();
            change(Rc::make_mut(&mut changed.reader));
            next(name, changed);
        };
        let is_connected = reader.process == redis.process || self.is(Without::GapCheck);
        let last = reader.log.place.as_ref().expect("joined").last;
        let has_news = redis.log.last() != Some(&last) || reader.log.horizon.synced != Some(now);
        if reader.reply.is_none() && is_connected && has_news {
            let ticket = reader.log.ask(now).expect("joined");
            let page = redis.range(ticket.from());
            step("poll", &|reader| {
                reader.reply = Some((ticket, page.clone()));
                if self.is_quick {
                    self.read_poll(reader, redis, now);
                }
            });
        }
        if reader.reply.is_some() {
            step("read poll", &|reader| self.read_poll(reader, redis, now));
        }
        if !is_connected {
            step("reader rejoins", &|reader| {
                reader.log.lose_connection();
                (reader.process, reader.reply) = (redis.process, None);
                let effects = join(&mut reader.log, redis, now);
                self.obey(reader, &effects, now.mono);
            });
        }
        match reader.flight {
            None => step("fetch", &|reader| {
                reader.flight = Some(Fetched { shows: world.shown, began: now, is_clean: true, waiter: None });
            }),
            Some(flight) => {
                let needed = world.passed_on();
                // Only a caller who would get the wrong answer is of interest.
                let is_stale = flight.shows & needed != needed && flight.waiter.is_none();
                if is_stale && reader.log.horizon().may_join(&self.trust(), now) {
                    let waiter = Some(Waiter { needed, is_in_order: flight.is_clean });
                    step("arrive", &|reader| reader.flight = Some(Fetched { waiter, ..flight }));
                }
                step("store", &|reader| {
                    reader.flight = None;
                    if self.may_store(reader, &flight) {
                        reader.memory = Some((flight.shows, flight.began));
                    }
                });
            }
        }
    }

    fn read_poll(&self, reader: &mut Reader, redis: &Redis, now: Now) {
        let Some((mut ticket, mut page)) = reader.reply.take() else { return };
        if self.is(Without::SentTime) {
            ticket.sent = now;
        }
        if self.is(Without::GapCheck) {
            page = without_gap(ticket.from, &page);
        }
        let effects = match reader.log.polled(&ticket, &whole(&page), now.mono) {
            Ok(effects) => effects,
            Err(_) => join(&mut reader.log, redis, now),
        };
        self.obey(reader, &effects, now.mono);
    }

    /// Does to memory what the session cache does.
    fn obey(&self, reader: &mut Reader, effects: &[Effect], now: Mono) {
        if effects.is_empty() {
            return;
        }
        let cache = cache(true);
        if reader.memory.is_some() {
            cache.insert_unless_purged(&[TAG], cache.epoch(), now, FETCH, Ok).expect("nothing was purged");
        }
        cache.set_open(reader.open.clone());
        let (began, is_removed) = (cache.epoch(), Cell::new(false));
        let remove = |_| is_removed.set(true);
        for effect in effects {
            match *effect {
                Effect::Begin { tag, .. } if self.is(Without::OpenWrites) => cache.changed_elsewhere(tag, now, remove),
                Effect::Begin { tag, write, .. } => cache.begin_elsewhere(tag, write.0, NEVER, now, remove),
                Effect::End { tag, write, cause } => {
                    if self.is(Without::OwnEnd) {
                        cache.set_open(OpenWrites::default());
                    }
                    cache.end_elsewhere(tag, write.0, cause, remove);
                }
                Effect::Changed(tag) => cache.changed_elsewhere(tag, now, remove),
                Effect::All { doubt } => {
                    cache.all_changed_elsewhere(Cause::Answered, doubt, now, || is_removed.set(true));
                }
                Effect::Rejoined { .. } if self.is(Without::FlightEnds) => {}
                Effect::Rejoined { cause, doubt } => cache.all_changed_elsewhere(cause, doubt, now, || ()),
            }
        }
        reader.open = cache.open();
        reader.memory = reader.memory.filter(|_| !is_removed.get());
        let refused = cache.insert_unless_purged(&[TAG], began, NEVER, FETCH, |_| Err::<(), _>(NotStored::Superseded));
        if refused == Err(NotStored::Purged) {
            reader.flight.iter_mut().for_each(|flight| flight.is_clean = false);
        }
    }

    fn may_store(&self, reader: &Reader, flight: &Fetched) -> bool {
        let is_clean = flight.is_clean || self.is(Without::StoreCheck);
        let (cache, began, _) = remembered(reader, true, [!is_clean, false]);
        cache.insert_unless_purged(&[TAG], began, flight.began.mono, FETCH, Ok).is_ok()
    }

    /// Whether a caller who waits for a flight may have its answer now.
    fn may_hand_on(&self, reader: &Reader, flight: &Fetched, waiter: Waiter, now: Now) -> bool {
        let purges = [!waiter.is_in_order, waiter.is_in_order && !flight.is_clean];
        let (cache, began, arrived) = remembered(reader, !self.is(Without::LateEnd), purges);
        cache.accepts(Some(&[TAG]), began, arrived, now.mono).is_ok()
    }
}

/// The product's own bookkeeping, in a fleet or not.
fn cache(in_fleet: bool) -> Invalidation {
    Invalidation::new(100, LONGEST, in_fleet.then(TagIds::alone))
}

/// The bookkeeping of a reader whose tag was purged after the fetch began: before the caller arrived, and since. Also
/// the two moments.
fn remembered(reader: &Reader, in_fleet: bool, purges: [bool; 2]) -> (Invalidation, PurgeEpoch, PurgeEpoch) {
    let cache = cache(in_fleet);
    cache.set_open(reader.open.clone());
    let [began, arrived] = purges.map(|is_purged| {
        let before = cache.epoch();
        if is_purged {
            cache.changed_elsewhere(TAG, Mono::default(), |_| ());
        }
        before
    });
    (cache, began, arrived)
}

const FETCH: FetchId = FetchId { key: Uuid::nil(), id: 0 };

impl World {
    /// The writes whose answers were passed on, one bit each.
    fn passed_on(&self) -> u8 {
        self.writers.iter().enumerate().map(|(index, writer)| u8::from(writer.is_passed_on) << index).sum()
    }
}

impl Model for Local {
    type State = World;

    fn start(&self) -> World {
        let redis = Redis { hides_history: self.is(Without::History), ..Redis::new(false) };
        let held = if self.is(Without::WholeHold) { self.lease - 1 } else { self.lease };
        let writer = |number| Writer {
            log: pod(number, held.into(), &redis),
            process: 0,
            write: None,
            at_sezzle: AtSezzle::Sent,
            reply: None,
            is_passed_on: false,
            begin_acked: None,
        };
        let writers = (1..=self.writers).map(|number| Rc::new(writer(number))).collect();
        let reader = Reader {
            log: pod(0, self.lease.into(), &redis),
            process: 0,
            open: OpenWrites::default(),
            reply: None,
            memory: None,
            flight: None,
        };
        World { tick: 1, redis: Rc::new(redis), shown: 0, writers, reader: Rc::new(reader), faults: 0 }
    }

    fn forget(&self, world: &mut World) {
        let (all, now) = ((1 << self.writers) - 1, at(world.tick));
        for writer in &mut world.writers {
            // A pod that is shared with the state before was looked at there.
            let Some(writer) = Rc::get_mut(writer) else { continue };
            if writer.is_passed_on {
                // Its part is played.
                (writer.log, writer.process) = (Log::new(writer.log.limits, WriteId(0)), 0);
                (writer.reply, writer.begin_acked) = (None, None);
            }
            // A writer has no memory.
            (writer.log.horizon, writer.log.purged) = Default::default();
            let lease = writer.log.limits.lease;
            for write in writer.log.outbox.writes.values_mut() {
                write.end.iter_mut().for_each(|end| end.at = Mono::default());
                write.acked.iter_mut().filter(|at| now.mono.since(**at) >= lease).for_each(|at| *at = Mono::default());
            }
            writer.begin_acked.iter_mut().filter(|at| world.tick - **at >= self.lease).for_each(|at| *at = 0);
            writer.reply.iter_mut().for_each(|(batch, ..)| batch.ticket.sent = at(0));
        }
        let Some(reader) = Rc::get_mut(&mut world.reader) else { return };
        reader.log.purged = Default::default();
        let horizon = &mut reader.log.horizon;
        horizon.before = None;
        // A lease that is over is over, whenever that was. Its very end is for the rule itself to judge.
        let is_over = |time: Now| now.since(time) > self.trust().lease;
        horizon.synced = horizon.synced.filter(|synced| !is_over(*synced));
        reader.reply.iter_mut().filter(|(ticket, _)| is_over(ticket.sent)).for_each(|(ticket, _)| ticket.sent = at(0));
        // An answer that shows everything is never wrong, nor is one that cannot be served or stored.
        let epoch = horizon.epoch;
        reader.memory =
            reader.memory.filter(|(shows, began)| *shows != all && (began.mono >= epoch || self.is(Without::Epoch)));
        let may_matter = |flight: &Fetched| flight.is_clean || flight.waiter.is_some() || self.is(Without::StoreCheck);
        reader.flight = reader.flight.filter(|flight| flight.shows != all && may_matter(flight));
        if !self.is(Without::NoCreditForYouth) {
            // Only whether it was after the epoch counts. A time at the epoch, or maybe at the next, stays as it is.
            let just_after = Now { mono: epoch.plus(Duration::from_nanos(1)), ..at(0) };
            let coarse = |began: &mut Now| {
                if began.mono > epoch && began.mono < now.mono {
                    *began = just_after;
                }
            };
            reader.memory.iter_mut().for_each(|(_, began)| coarse(began));
            reader.flight.iter_mut().for_each(|flight| coarse(&mut flight.began));
        }
    }

    fn follow(&self, world: &World, next: &mut dyn FnMut(&'static str, World)) {
        if world.tick < self.end {
            // Time changes every pod.
            let writers = world.writers.iter().map(|writer| Rc::new(Writer::clone(writer))).collect();
            let reader = Rc::new(Reader::clone(&world.reader));
            next("tick", World { tick: world.tick + 1, writers, reader, ..world.clone() });
        }
        for index in 0..world.writers.len() {
            self.writer_steps(world, index, next);
        }
        self.reader_steps(world, next);
        let mut fault = |name, change: &dyn Fn(&mut Redis)| {
            let mut redis = Redis::clone(&world.redis);
            change(&mut redis);
            next(name, World { redis: Rc::new(redis), faults: world.faults + 1, ..world.clone() });
        };
        match self.fault {
            Fault::FailOver if world.faults < self.faults => {
                (1..=world.redis.log.len()).for_each(|keep| fault("fail over", &|redis| redis.fail_over(keep)));
            }
            Fault::LogLost if world.faults < self.faults => fault("lose log", &Redis::lose_log),
            Fault::Nothing | Fault::FailOver | Fault::LogLost => {}
        }
    }

    fn wrong(&self, world: &World) -> Option<&'static str> {
        let needed = world.passed_on();
        let (reader, now) = (&world.reader, at(world.tick));
        let mut horizon = *reader.log.horizon();
        if let Some((shows, mut began)) = reader.memory {
            if self.is(Without::NoCreditForYouth) {
                horizon.sync(began);
            }
            if self.is(Without::Epoch) {
                began = at(u8::MAX);
            }
            if horizon.serve(began, &self.trust(), now) == Serve::Confirmed && shows & needed != needed {
                return Some(MEMORY);
            }
        }
        if let Some(flight) = reader.flight {
            let is_wrong = |waiter: Waiter| {
                flight.shows & waiter.needed != waiter.needed && self.may_hand_on(reader, &flight, waiter, now)
            };
            let at_once = Waiter { needed, is_in_order: flight.is_clean };
            if horizon.may_join(&self.trust(), now) && is_wrong(at_once) || flight.waiter.is_some_and(is_wrong) {
                return Some(FLIGHT);
            }
        }
        None
    }
}

const MEMORY: &str = "stale memory";
const FLIGHT: &str = "joined a stale flight";

const ONE: Local = Local {
    writers: 1,
    lease: 2,
    end: 4,
    is_quick: false,
    fault: Fault::Nothing,
    faults: 1,
    without: Without::Nothing,
};
const SHORT: Local = Local { lease: 1, end: 2, ..ONE };
const TWO: Local = Local { writers: 2, is_quick: true, ..SHORT };
const FAILING: Local = Local { fault: Fault::FailOver, is_quick: true, ..SHORT };
const BACK: Local = Local { faults: 2, ..FAILING };
const LOSING: Local = Local { fault: Fault::LogLost, is_quick: true, ..SHORT };

#[test]
fn no_lookup_is_older_than_a_write_of_one_other_pod() {
    expect("one writer", &ONE, Without::Nothing, None);
}

#[test]
fn nor_after_a_fail_over() {
    expect("fail over", &Local { end: 3, ..FAILING }, Without::Nothing, None);
}

#[test]
fn nor_after_the_log_was_lost() {
    expect("log lost", &Local { end: 3, ..LOSING }, Without::Nothing, None);
}

#[test]
#[ignore = "needs 10 s of a processor: tests/run"]
fn nor_with_more_writers_time_and_delays() {
    let slow = |model: Local| Local { is_quick: false, end: 3, ..model };
    let rows = [
        ("one writer", Local { end: 6, ..ONE }),
        ("two writers", TWO),
        ("fail over", slow(FAILING)),
        ("fail over and back", Local { end: 3, ..BACK }),
        ("log lost", slow(LOSING)),
    ];
    for (name, model) in rows {
        expect(name, &model, Without::Nothing, None);
    }
}

#[test]
fn every_rule_of_memory_is_needed() {
    let rows = [
        ("one writer", Without::WholeHold, SHORT, FLIGHT),
        ("one writer", Without::OpenWrites, SHORT, FLIGHT),
        ("one writer", Without::SentTime, SHORT, FLIGHT),
        ("one writer", Without::NoCreditForYouth, SHORT, MEMORY),
        ("one writer", Without::StoreCheck, SHORT, MEMORY),
        ("one writer", Without::AckAtAll, SHORT, FLIGHT),
        ("two writers", Without::OwnEnd, TWO, FLIGHT),
        ("fail over", Without::GapCheck, FAILING, FLIGHT),
        ("log lost", Without::GapCheck, LOSING, FLIGHT),
        ("fail over", Without::FlightEnds, FAILING, FLIGHT),
        ("one writer", Without::LateEnd, SHORT, FLIGHT),
        ("fail over", Without::Epoch, FAILING, MEMORY),
        ("fail over", Without::EndAck, FAILING, FLIGHT),
        ("fail over", Without::SameLog, FAILING, FLIGHT),
        ("log lost", Without::AckGoesOn, LOSING, FLIGHT),
        ("fail over and back", Without::History, BACK, FLIGHT),
    ];
    for (name, without, model, what) in rows {
        expect(name, &Local { without, ..model }, without, Some(what));
    }
}
