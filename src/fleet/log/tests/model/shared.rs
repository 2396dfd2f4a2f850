//! Shared bodies: writers, a pod that fetches and shares, and a pod that takes what was shared. No time passes: nothing
//! here depends on a lease.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::*;
use crate::fleet::log::{Batch, Hold, HoldEnd, Ticket, Wait};
use crate::session::ending::Ending;
use crate::session::invalidation::open::OpenWrites;

/// The bounds of one search.
#[derive(Clone, Copy, Debug)]
struct Sharing {
    /// Other pods that do one write each.
    writers: u8,
    /// Whether the reader does a write too, of which its callers hear at once.
    reader_writes: bool,
    fetches: u8,
    lookups: u8,
    /// Replies are read at once, and bodies are not stuck on the way.
    is_quick: bool,
    fail_overs: u8,
    log_losses: u8,
    /// Entries of further pods about something else, after the log was lost.
    others: u8,
    without: Without,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    redis: Rc<Redis>,
    bodies: BTreeMap<Key, Body>,
    shown: u8,
    /// The filler, the reader, and the writers.
    pods: Vec<Rc<Pod>>,
    /// The answer that the filler has fetched, if nothing was purged since.
    fetched: Option<u8>,
    /// On the way to Redis.
    fills: Vec<Fill>,
    fetches: u8,
    lookup: Lookup,
    lookups: u8,
    fail_overs: u8,
    log_losses: u8,
    others: u8,
}

/// The run and the log in the key of a body.
type Key = (Option<u8>, Option<u8>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Body {
    shows: u8,
    position: Position,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Fill {
    process: u8,
    key: Key,
    body: Body,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Pod {
    log: Log,
    process: u8,
    made: u8,
    open: OpenWrites,
    write: Option<WriteId>,
    at_sezzle: AtSezzle,
    reply: Option<(Batch, Vec<Option<Position>>, Vec<Item>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum AtSezzle {
    Sent,
    Shown,
    Answered,
    PassedOn,
}

/// A lookup. One step sends it and lets the server read the body: a lookup that was sent earlier would have to show
/// less. The pod decides as soon as the server has read the log: later the pod would only know more.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Lookup {
    None,
    /// The server has read the body, and not yet the log. With the writes whose answers were passed on before.
    Got(u8, Ticket, Body),
    /// Taken, and older than a write.
    Stale,
}

const FILLER: usize = 0;
const READER: usize = 1;
const NOW: u8 = 1;

impl Sharing {
    fn is(&self, without: Without) -> bool {
        self.without == without
    }

    fn key(&self, pod: &Pod) -> Key {
        let of = |number, without| (!self.is(without)).then_some(number);
        // The third process to be primary is the first again, and only its history tells.
        let process = if self.is(Without::HistoryInKey) { pod.process % 2 } else { pod.process };
        (of(process, Without::RunInKey), of(pod.made, Without::LogInKey))
    }

    fn write_steps(&self, world: &World, index: usize, next: &mut dyn FnMut(&'static str, World)) {
        let (pod, now) = (&world.pods[index], at(NOW));
        let step = |name, change: &dyn Fn(&mut World, &mut Pod)| {
            let (mut changed, mut pod) = (world.clone(), Pod::clone(pod));
            change(&mut changed, &mut pod);
            changed.pods[index] = Rc::new(pod);
            (name, changed)
        };
        let Some(write) = pod.write else {
            let (name, world) = step("begin", &|_, pod| pod.write = Some(pod.log.begin(TAG, LONGEST, now.mono)));
            return next(name, world);
        };
        if pod.reply.is_none() && pod.process == world.redis.process {
            let mut log = pod.log.clone();
            if let Some(batch) = log.publish(9, now) {
                let (name, world) = step("publish", &|world, pod| {
                    let redis = Rc::make_mut(&mut world.redis);
                    let positions = batch.entries().map(|entry| Some(redis.append(*entry))).collect();
                    let page = redis.range(batch.ticket.from());
                    (pod.log, pod.reply) = (log.clone(), Some((batch.clone(), positions, page)));
                    if self.is_quick {
                        self.read_ack(world, pod, index);
                    }
                });
                next(name, world);
            }
        }
        if pod.reply.is_some() {
            let (name, world) = step("read ack", &|world, pod| self.read_ack(world, pod, index));
            next(name, world);
        }
        let held = pod.log.hold(Wait::Write(write), NEVER, now.mono);
        let is_free = held == Hold::Go(HoldEnd::AllKnow) || index == READER;
        let (name, world) = match pod.at_sezzle {
            AtSezzle::Sent => step("effect", &|world, pod| {
                pod.at_sezzle = AtSezzle::Shown;
                world.shown |= 1 << index;
            }),
            AtSezzle::Shown => step("answer", &|_, pod| {
                pod.at_sezzle = AtSezzle::Answered;
                pod.log.end(write, TAG, Ending::Answered, now.mono);
            }),
            AtSezzle::Answered if is_free => step("pass on", &|_, pod| pod.at_sezzle = AtSezzle::PassedOn),
            AtSezzle::Answered | AtSezzle::PassedOn => return,
        };
        next(name, world);
    }

    fn read_ack(&self, world: &mut World, pod: &mut Pod, index: usize) {
        let Some((batch, positions, page)) = pod.reply.take() else { return };
        match pod.log.published(&batch, &positions, &whole(&page), at(NOW).mono) {
            Ok(effects) => self.obey(world, pod, index, &effects),
            Err(_) => self.rejoin(world, pod, index),
        }
    }

    /// A pod reads the log, or joins anew.
    fn read_steps(&self, world: &World, index: usize, next: &mut dyn FnMut(&'static str, World)) {
        let pod = &world.pods[index];
        let mut change = |name, change: &dyn Fn(&mut World, &mut Pod)| {
            let (mut changed, mut pod) = (world.clone(), Pod::clone(pod));
            change(&mut changed, &mut pod);
            changed.pods[index] = Rc::new(pod);
            next(name, changed);
        };
        if pod.process != world.redis.process {
            return change("rejoin", &|world, pod| {
                pod.log.lose_connection();
                self.rejoin(world, pod, index);
            });
        }
        let last = pod.log.place.as_ref().expect("joined").last;
        // A writer does not heed the entries of others, but a lost log.
        let has_news =
            if index > READER { !world.redis.log.contains(&last) } else { world.redis.log.last() != Some(&last) };
        if has_news {
            change("poll", &|world, pod| {
                let ticket = pod.log.ask(at(NOW)).expect("joined");
                let page = world.redis.range(ticket.from());
                match pod.log.polled(&ticket, &whole(&page), at(NOW).mono) {
                    Ok(effects) => self.obey(world, pod, index, &effects),
                    Err(_) => self.rejoin(world, pod, index),
                }
            });
        }
    }

    fn rejoin(&self, world: &mut World, pod: &mut Pod, index: usize) {
        (pod.process, pod.made, pod.reply) = (world.redis.process, world.redis.made, None);
        let effects = join(&mut pod.log, &world.redis, at(NOW));
        self.obey(world, pod, index, &effects);
    }

    fn obey(&self, world: &mut World, pod: &mut Pod, index: usize, effects: &[Effect]) {
        for effect in effects {
            match *effect {
                Effect::Begin { tag, write, .. } if !self.is(Without::OpenWrites) => {
                    pod.open.open(tag, write.0, NEVER, 100);
                }
                Effect::End { tag, write, .. } => pod.open.close(tag, write.0),
                Effect::Rejoined { .. } if self.is(Without::FlightEnds) => continue,
                Effect::Begin { .. } | Effect::Changed(_) | Effect::All { .. } | Effect::Rejoined { .. } => {}
            }
            if index == FILLER && !self.is(Without::ShareCheck) {
                world.fetched = None;
            }
        }
    }

    fn fill_steps(&self, world: &World, next: &mut dyn FnMut(&'static str, World)) {
        let pod = &world.pods[FILLER];
        match world.fetched {
            None if world.fetches < self.fetches => {
                next("fetch", World { fetched: Some(world.shown), fetches: world.fetches + 1, ..world.clone() });
            }
            None => {}
            Some(shows) => {
                let is_open = pod.open.overdue(&[TAG]).is_some();
                let may = pod.log.may_share(&[TAG]) && !is_open || self.is(Without::ShareCheck);
                if let (true, Some((position, ..))) = (may, pod.log.position()) {
                    let fill = Fill { process: pod.process, key: self.key(pod), body: Body { shows, position } };
                    let mut changed = World { fetched: None, ..world.clone() };
                    if !self.is_quick {
                        changed.fills.push(fill);
                        changed.fills.sort_unstable();
                    } else if pod.process == world.redis.process {
                        changed.bodies.insert(fill.key, fill.body);
                    }
                    next("share", changed);
                }
                if world.fetches < self.fetches {
                    next("do not share", World { fetched: None, ..world.clone() });
                }
            }
        }
        for (index, fill) in world.fills.iter().enumerate() {
            let (mut bodies, mut fills) = (world.bodies.clone(), world.fills.clone());
            fills.remove(index);
            let mut body = fill.body;
            if let (true, Some((position, ..))) = (self.is(Without::PositionBefore), pod.log.position()) {
                body.position = position;
            }
            if fill.process == world.redis.process {
                bodies.insert(fill.key, body);
            }
            next("fill", World { bodies, fills, ..world.clone() });
        }
    }

    fn lookup_steps(&self, world: &World, next: &mut dyn FnMut(&'static str, World)) {
        let pod = &world.pods[READER];
        if pod.process != world.redis.process {
            if world.lookup != Lookup::None {
                next("miss", World { lookup: Lookup::None, ..world.clone() });
            }
            return;
        }
        match &world.lookup {
            Lookup::None if world.lookups < self.lookups => {
                let Some(body) = world.bodies.get(&self.key(pod)) else { return };
                let ticket = pod.log.ask(at(NOW)).expect("joined");
                let lookup = Lookup::Got(self.passed_on(world), ticket, *body);
                next("get", World { lookup, lookups: world.lookups + 1, ..world.clone() });
            }
            Lookup::Got(needed, ticket, body) => next("read log", self.decide(world, *needed, ticket, *body)),
            Lookup::None | Lookup::Stale => {}
        }
    }

    fn decide(&self, world: &World, needed: u8, ticket: &Ticket, body: Body) -> World {
        let (mut changed, mut pod) = (world.clone(), Pod::clone(&world.pods[READER]));
        let with_body = !self.is(Without::LogWithBody);
        let page = if with_body { world.redis.range(ticket.from()) } else { vec![ticket.from] };
        let is_taken = match pod.log.advance(ticket, &whole(&page), at(NOW).mono) {
            Ok(effects) => {
                self.obey(&mut changed, &mut pod, READER, &effects);
                let may = pod.log.may_take(ticket, &whole(&page), &[TAG], body.position);
                let bent = self.is(Without::OwnWrites) && pod.log.purged.is_clean(&[TAG], body.position);
                (may || bent) && pod.open.overdue(&[TAG]).is_none()
            }
            Err(_) => {
                self.rejoin(&mut changed, &mut pod, READER);
                false
            }
        };
        let is_stale = is_taken && body.shows & needed != needed;
        changed.lookup = if is_stale { Lookup::Stale } else { Lookup::None };
        changed.pods[READER] = Rc::new(pod);
        changed
    }

    fn passed_on(&self, world: &World) -> u8 {
        let bit = |(index, pod): (usize, &Rc<Pod>)| u8::from(pod.at_sezzle == AtSezzle::PassedOn) << index;
        world.pods.iter().enumerate().map(bit).sum()
    }
}

impl Model for Sharing {
    type State = World;

    fn start(&self) -> World {
        let redis = Redis::new(true);
        let pod = |number| Pod {
            log: pod(number, 0, &redis),
            process: 0,
            made: 0,
            open: OpenWrites::default(),
            write: None,
            at_sezzle: AtSezzle::Sent,
            reply: None,
        };
        let pods = (0..self.writers + 2).map(|number| Rc::new(pod(number))).collect();
        World {
            redis: Rc::new(redis),
            bodies: BTreeMap::new(),
            shown: 0,
            pods,
            fetched: None,
            fills: Vec::new(),
            fetches: 0,
            lookup: Lookup::None,
            lookups: 0,
            fail_overs: 0,
            log_losses: 0,
            others: 0,
        }
    }

    fn forget(&self, world: &mut World) {
        // A body that shows everything is never stale.
        let all = (0..self.writers).fold(u8::from(self.reader_writes) << READER, |bits, writer| bits | 4 << writer);
        world.fetched = world.fetched.filter(|shows| *shows != all);
        // A command to a process that is gone is never executed.
        let process = world.redis.process;
        world.fills.retain(|fill| fill.body.shows != all && fill.process == process);
        let reader = &world.pods[READER];
        let current = Pod { process, made: world.redis.made, ..Pod::clone(reader) };
        let keys = [self.key(reader), self.key(&current)];
        world.bodies.retain(|key, body| body.shows != all && keys.contains(key));
        for (index, pod) in world.pods.iter_mut().enumerate() {
            // A pod that is shared with the state before was looked at there.
            let Some(pod) = Rc::get_mut(pod) else { continue };
            pod.log.horizon = Default::default();
            if index != READER {
                pod.log.purged = Default::default();
            }
            if index > READER && pod.at_sezzle == AtSezzle::PassedOn {
                // Its part is played.
                pod.log = Log::new(pod.log.limits, WriteId(0));
                (pod.reply, pod.open, pod.process, pod.made) = (None, OpenWrites::default(), 0, 0);
            }
        }
    }

    fn follow(&self, world: &World, next: &mut dyn FnMut(&'static str, World)) {
        let is_over = world.lookup == Lookup::None && world.lookups == self.lookups;
        let has_none = world.fetches == self.fetches && world.fetched.is_none() && world.fills.is_empty();
        if is_over || has_none && world.bodies.is_empty() && world.lookup == Lookup::None {
            // No lookup can take anything any more.
            return;
        }
        for index in 0..world.pods.len() {
            let is_writer = index > READER || index == READER && self.reader_writes;
            let is_done = world.pods[index].at_sezzle == AtSezzle::PassedOn;
            if is_writer && (!is_done || index == READER) {
                self.write_steps(world, index, next);
            }
            if index <= READER || !is_done {
                self.read_steps(world, index, next);
            }
        }
        self.fill_steps(world, next);
        self.lookup_steps(world, next);
        if world.fail_overs < self.fail_overs {
            for keep in 1..=world.redis.log.len() {
                let mut redis = Redis::clone(&world.redis);
                redis.fail_over(keep);
                next("fail over", World { redis: Rc::new(redis), fail_overs: world.fail_overs + 1, ..world.clone() });
            }
        }
        if world.others < self.others && world.log_losses == self.log_losses {
            let mut redis = Redis::clone(&world.redis);
            redis.append(Entry::Changed { tag: TagId([2; 16]), write: WriteId(9_999) });
            next("other", World { redis: Rc::new(redis), others: world.others + 1, ..world.clone() });
        }
        if world.log_losses < self.log_losses {
            let mut redis = Redis::clone(&world.redis);
            redis.lose_log();
            next("lose log", World { redis: Rc::new(redis), log_losses: world.log_losses + 1, ..world.clone() });
        }
    }

    fn wrong(&self, world: &World) -> Option<&'static str> {
        (world.lookup == Lookup::Stale).then_some(STALE)
    }
}

const STALE: &str = "a stale body was taken";

const ONE: Sharing = Sharing {
    writers: 1,
    reader_writes: false,
    fetches: 2,
    lookups: 2,
    is_quick: false,
    fail_overs: 0,
    log_losses: 0,
    others: 0,
    without: Without::Nothing,
};
const TWO: Sharing = Sharing { writers: 2, lookups: 1, fetches: 1, is_quick: true, ..ONE };
const OWN: Sharing = Sharing { writers: 0, reader_writes: true, ..ONE };
const FAILING: Sharing = Sharing { fail_overs: 1, lookups: 1, fetches: 1, ..ONE };
const BACK: Sharing = Sharing { fail_overs: 2, is_quick: true, ..FAILING };
const LOSING: Sharing = Sharing { log_losses: 1, others: 1, is_quick: true, lookups: 1, fetches: 1, ..ONE };

#[test]
fn no_shared_body_is_older_than_a_write_of_one_other_pod() {
    expect("one writer", &ONE, Without::Nothing, None);
}

#[test]
fn nor_than_a_write_of_the_pod_itself() {
    expect("own write", &OWN, Without::Nothing, None);
}

#[test]
fn nor_after_a_fail_over() {
    expect("fail over", &FAILING, Without::Nothing, None);
}

#[test]
#[ignore = "needs 10 s of a processor: tests/run"]
fn nor_with_two_writers_or_after_worse_faults() {
    for (name, model) in [("two writers", TWO), ("fail over and back", BACK), ("log lost", LOSING)] {
        expect(name, &model, Without::Nothing, None);
    }
}

#[test]
fn every_rule_of_sharing_is_needed() {
    let quick = Sharing { is_quick: true, ..FAILING };
    let rows = [
        ("one writer", Without::ShareCheck, ONE),
        ("one writer", Without::PositionBefore, ONE),
        ("one writer", Without::LogWithBody, ONE),
        ("own write", Without::OwnWrites, OWN),
        ("fail over", Without::RunInKey, quick),
        ("fail over", Without::FlightEnds, quick),
        ("fail over and back", Without::HistoryInKey, BACK),
        ("log lost", Without::LogInKey, LOSING),
    ];
    for (name, without, model) in rows {
        expect(name, &Sharing { without, ..model }, without, Some(STALE));
    }
}
