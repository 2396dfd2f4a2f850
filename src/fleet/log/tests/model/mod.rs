//! An exhaustive search through everything that a few pods and one Redis can do, in any order, with a fault at any
//! moment. The pods run the product's own functions; only Redis, Sezzle and time are imitated. So the model and the
//! code cannot drift apart.
//!
//! Each rule can be taken away: a [`Without`] stands between the functions and the world and bends what passes. Then
//! the search has to find a lookup that shows a state from before a write whose answer was passed on. If it finds none,
//! the rule is not needed, or the model cannot see why.

mod local;
mod shared;

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::time::Duration;

use crate::clock::{Mono, Now, Wall};
use crate::fleet::entry::{Entry, Item, LogId, Position, WriteId};
use crate::fleet::log::{Effect, Greeting, Limits, Log, Page, Rejoin, Step};
use crate::fleet::names::{Run, Server};
use crate::session::invalidation::tag_id::TagId;

/// A rule that is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Without {
    /// None: the protocol as it is.
    Nothing,
    /// An answer is held for the lease, counted from the acknowledgement of its beginning.
    WholeHold,
    /// A write is open until its end.
    OpenWrites,
    /// An end closes its own write only.
    OwnEnd,
    /// A pod is synced as of when it sent the poll.
    SentTime,
    /// That an entry was fetched a moment ago confirms nothing.
    NoCreditForYouth,
    /// An answer is not stored if it was purged since its fetch began.
    StoreCheck,
    /// A reply has to begin with the last known entry.
    GapCheck,
    /// A flight does not outlive a rejoin.
    FlightEnds,
    /// An answer is not handed on if it was purged since its fetch began, even after the caller came.
    LateEnd,
    /// Memory does not outlive a rejoin as confirmed.
    Epoch,
    /// The answer waits for the acknowledgement of the end.
    EndAck,
    /// The hold counts from an acknowledgement in the log that is read now.
    SameLog,
    /// A server that has followed another is not the one that it was.
    History,
    /// An entry is acknowledged only in a log that goes on.
    AckGoesOn,
    /// An entry is acknowledged when it is known to be in the log, not when it is queued.
    AckAtAll,
    /// A body is shared only if nothing was purged since its fetch began.
    ShareCheck,
    /// A body is shared with the position that was read before it was checked.
    PositionBefore,
    /// The log is read with every body.
    LogWithBody,
    /// The key of a body names the server's process.
    RunInKey,
    /// The key of a body names the history of the server's data.
    HistoryInKey,
    /// The key of a body names the log, and bodies from before what was read of the log are not used.
    LogInKey,
    /// A pod with an unpublished write takes no body that it concerns.
    OwnWrites,
}

/// A world that can be searched.
trait Model {
    type State: Clone + Hash;

    fn start(&self) -> Self::State;

    /// Forgets what can have no influence any more, so that fewer states differ.
    fn forget(&self, state: &mut Self::State);

    /// Every state that may follow, with the name of the step.
    fn follow(&self, state: &Self::State, next: &mut dyn FnMut(&'static str, Self::State));

    /// The name of something that must never be, if it is so.
    fn wrong(&self, state: &Self::State) -> Option<&'static str>;
}

/// The result of a search.
enum Verdict {
    /// Nothing wrong in any state.
    Holds { states: usize },
    /// The shortest way to something wrong.
    Broken { what: &'static str, steps: Vec<&'static str> },
}

/// Looks at every state that can be reached, the nearest first.
fn search<M: Model>(model: &M) -> Verdict {
    // States are told apart by 64 bits of a hash. With a million states, two of them share one in 10^-7 of all
    // searches.
    let mut seen: HashSet<u64, BuildHasherDefault<Given>> = HashSet::default();
    let mut ways: Vec<(usize, &'static str)> = vec![(0, "start")];
    let mut frontier = vec![(0, model.start())];
    let mut found = None;
    while !frontier.is_empty() && found.is_none() {
        let mut beyond = Vec::new();
        for (index, state) in &frontier {
            if let Some(what) = model.wrong(state) {
                found = Some((what, *index));
                break;
            }
            model.follow(state, &mut |step, mut next| {
                model.forget(&mut next);
                if seen.insert(fingerprint(&next)) {
                    ways.push((*index, step));
                    beyond.push((ways.len() - 1, next));
                }
            });
        }
        frontier = beyond;
    }
    let states = ways.len();
    let Some((what, mut index)) = found else { return Verdict::Holds { states } };
    let mut steps = Vec::new();
    while index != 0 {
        let (from, step) = ways[index];
        steps.push(step);
        index = from;
    }
    steps.reverse();
    Verdict::Broken { what, steps }
}

fn fingerprint(state: &impl Hash) -> u64 {
    let mut hasher = Quick::default();
    state.hash(&mut hasher);
    hasher.finish()
}

/// A hasher for the search: most of its time is spent here.
#[derive(Default)]
struct Quick(u64);

impl Hasher for Quick {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(value.into());
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(value.into());
    }

    fn write_u64(&mut self, value: u64) {
        let product = u128::from(self.0.rotate_left(23) ^ value ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93;
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Takes a fingerprint for its own hash.
#[derive(Default)]
struct Given(u64);

impl Hasher for Given {
    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The imitation of Redis.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Redis {
    /// Counts the processes that were primary. The third is the first again.
    pub(super) process: u8,
    /// How often the log was made.
    made: u8,
    /// Whether its clock is set back whenever the log gets lost.
    is_set_back: bool,
    /// Whether a process cannot be told apart from itself before it followed another.
    hides_history: bool,
    pub(super) log: Vec<Item>,
}

impl Redis {
    pub(super) fn new(is_set_back: bool) -> Self {
        let mut redis = Self { process: 0, made: 0, is_set_back, hides_history: false, log: Vec::new() };
        redis.append(Entry::Id(LogId([0; 16])));
        redis
    }

    pub(super) fn append(&mut self, entry: Entry) -> Position {
        let made = u64::from(self.made);
        let start = if self.is_set_back { 100 - 3 * made } else { 100 * made };
        // No two logs have an entry at the same position.
        let at = Position { ms: start + self.log.len() as u64, seq: made };
        self.log.push(Item { at, entry: Ok(entry) });
        at
    }

    /// The entries from a position on.
    pub(super) fn range(&self, from: Position) -> Vec<Item> {
        self.log.iter().copied().filter(|item| item.at >= from).collect()
    }

    /// The replica takes over, with only this many entries. The other entries get lost, and their positions may be
    /// given to others.
    pub(super) fn fail_over(&mut self, keep: usize) {
        self.process += 1;
        self.log.truncate(keep);
    }

    /// The log is evicted or flushed, and made anew by whoever sees it first.
    pub(super) fn lose_log(&mut self) {
        self.made += 1;
        self.log.clear();
        self.append(Entry::Id(LogId([self.made; 16])));
    }

    pub(super) fn greeting(&self, sent: Now) -> Greeting {
        let name = |number: u8| Run::new(&number.to_string()).expect("a name");
        let history = name(if self.hides_history { 0 } else { self.process });
        let server = Some(Server { run: name(self.process % 2), history });
        let ends = Some((self.log[0], self.log[self.log.len() - 1]));
        Greeting { sent, server, id: Some(LogId([self.made; 16])), ends, time: 0 }
    }
}

pub(super) fn whole(items: &[Item]) -> Page<'_> {
    Page { items, is_whole: true, time: 0 }
}

/// A reply that hides a gap: it begins with the entry that was asked from, whether the log has it or not.
fn without_gap(from: Item, items: &[Item]) -> Vec<Item> {
    std::iter::once(from).chain(items.iter().copied().filter(|item| item.at > from.at)).collect()
}

/// Greets and scans, as the link does after a gap or on a new connection.
pub(super) fn join(log: &mut Log, redis: &Redis, now: Now) -> Vec<Effect> {
    let greeting = redis.greeting(now);
    match log.greet(&greeting) {
        Step::Create => panic!("there is a log"),
        Step::GoOn(ticket) => {
            let page = redis.range(ticket.from());
            match log.polled(&ticket, &whole(&page), now.mono) {
                Ok(effects) => return effects,
                Err(why) => assert_eq!(why, Rejoin::Gap),
            }
        }
        Step::Scan(..) => {}
    }
    let page = redis.range(log.scan_from(&greeting, &redis.log[redis.log.len() - 1]));
    log.rejoin(&greeting, &whole(&page), now.mono).expect("nothing happens between the greeting and the scan")
}

/// A pod that has joined before the beginning, at time 0.
fn pod(number: u8, lease: u64, redis: &Redis) -> Log {
    let limits = Limits {
        lease: Duration::from_secs(lease),
        max_ttl: Duration::from_secs(600),
        window: Duration::from_secs(1200),
    };
    let mut log = Log::new(limits, WriteId(1000 * u64::from(number)));
    join(&mut log, redis, at(0));
    log
}

/// A time in ticks.
fn at(tick: u8) -> Now {
    Now { mono: Mono(Duration::from_secs(tick.into())), wall: Wall(0) }
}

const TAG: TagId = TagId([1; 16]);
/// So long that no write becomes overdue by itself.
const LONGEST: Duration = Duration::from_secs(600);
const NEVER: Mono = Mono(Duration::MAX);

/// Searches, and compares what was found.
fn expect<M: Model>(name: &str, model: &M, without: Without, expected: Option<&str>) {
    match search(model) {
        Verdict::Holds { states } => {
            assert_eq!(None, expected, "{name}, without {without:?}: nothing wrong in {states} states");
        }
        Verdict::Broken { what, steps } => {
            assert_eq!(Some(what), expected, "{name}, without {without:?}: {}", steps.join(" > "));
        }
    }
}
