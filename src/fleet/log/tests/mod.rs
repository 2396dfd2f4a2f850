//! Tables and property tests of one pod's link, and what they share. [`model`] searches through what several pods do.

mod bounds;
mod joining;
mod model;
mod reading;
mod telling;
mod whatever;

use super::*;
use crate::clock::Wall;
use crate::fleet::names::Run;
use crate::session::ending::Ending;

const A: TagId = TagId([1; 16]);
const B: TagId = TagId([2; 16]);
const LONGEST: Duration = Duration::from_secs(30);
const LIMITS: Limits =
    Limits { lease: Duration::from_millis(300), max_ttl: Duration::from_secs(60), window: Duration::from_secs(105) };
const ID: LogId = LogId([9; 16]);
/// Redis's clock when the tests begin.
const TIME: u64 = 1_764_000_000_000;

/// `ms` after the beginning, on a machine that has been up for an hour.
fn at(ms: u64) -> Now {
    let wall = i64::try_from(TIME + ms).expect("a date");
    Now { mono: Mono(Duration::from_secs(3600) + Duration::from_millis(ms)), wall: Wall(wall) }
}

fn position(ms: u64) -> Position {
    Position { ms: TIME + ms, seq: 0 }
}

fn item(ms: u64, entry: Entry) -> Item {
    Item { at: position(ms), entry: Ok(entry) }
}

fn begin(tag: TagId, write: u64) -> Entry {
    Entry::Begin { tag, write: WriteId(write), longest: LONGEST }
}

fn answered(tag: TagId, write: u64) -> Entry {
    Entry::Answered { tag, write: WriteId(write) }
}

fn page(items: &[Item], ms: u64) -> Page<'_> {
    Page { items, is_whole: true, time: TIME + ms }
}

fn server(run: &str, history: &str) -> Option<Server> {
    Some(Server { run: Run::new(run).expect("a name"), history: Run::new(history).expect("a name") })
}

fn greeting(oldest: Item, newest: Item, ms: u64) -> Greeting {
    Greeting { sent: at(ms), server: server("r", "h"), id: Some(ID), ends: Some((oldest, newest)), time: TIME + ms }
}

const FIRST: u64 = 1 << 40;
const NEVER: Mono = Mono(Duration::MAX);

/// A pod that joined at 0 a log that was made then, and what that log has.
fn joined() -> (Log, Vec<Item>) {
    let mut log = Log::new(LIMITS, WriteId(FIRST));
    let items = vec![item(0, Entry::Id(ID))];
    let greeting = greeting(items[0], items[0], 0);
    assert!(matches!(log.greet(&greeting), Step::Scan(_, Rejoin::Connect)));
    let first = Effect::Rejoined { cause: Cause::Changed, doubt: None };
    assert_eq!(log.rejoin(&greeting, &page(&items, 0), at(0).mono), Ok(vec![first]));
    assert_eq!(log.state(), State::Synced);
    (log, items)
}

fn poll(log: &mut Log, items: &[Item], ms: u64) -> Result<Vec<Effect>, Rejoin> {
    let ticket = log.ask(at(ms)).expect("joined");
    let from = items.iter().position(|item| item.at >= ticket.from()).unwrap_or(items.len());
    log.polled(&ticket, &page(&items[from..], ms), at(ms).mono)
}

/// Publishes what is queued, and returns the entries.
fn publish(log: &mut Log, items: &mut Vec<Item>, ms: u64) -> Vec<Entry> {
    let Some(batch) = log.publish(100, at(ms)) else { return Vec::new() };
    let entries: Vec<_> = batch.entries().copied().collect();
    let mut positions = Vec::new();
    for entry in &entries {
        let seq = items.iter().filter(|item| item.at.ms == TIME + ms).count() as u64;
        let next = Item { at: Position { ms: TIME + ms, seq }, entry: Ok(*entry) };
        items.push(next);
        positions.push(Some(next.at));
    }
    let from = items.iter().position(|item| item.at == batch.ticket.from()).expect("there");
    assert_eq!(log.published(&batch, &positions, &page(&items[from..], ms), at(ms).mono), Ok(Vec::new()));
    entries
}
