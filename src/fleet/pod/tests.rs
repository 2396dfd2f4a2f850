use futures_util::future::poll_immediate;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::*;
use crate::clock::ClockShift;
use crate::fleet::entry::{Entry, Item, LogId, Position};
use crate::fleet::log::{Greeting, Step};
use crate::session::freshness::Policy;
use crate::session::horizon::Serve;
use crate::session::{Options, Rules};
use crate::telemetry::metrics::Metrics;

const TAG: TagId = TagId([7; 16]);
const LEASE: Duration = Duration::from_millis(300);
const WRITE_WAIT: Duration = Duration::from_millis(500);

/// A pod that has joined a log.
struct Joined {
    pod: Arc<Pod>,
    sessions: Arc<SessionCache<()>>,
    shift: Arc<ClockShift>,
    metrics: Arc<Metrics>,
    /// All entries of the log.
    entries: Vec<Item>,
}

impl Joined {
    fn new() -> Self {
        let (clock, shift) = Clock::shifted();
        let metrics = Arc::new(Metrics::new().expect("valid metrics"));
        let second = Duration::from_secs(1);
        let times = Times {
            poll: Duration::from_millis(100),
            lease: LEASE,
            alone_ttl: Duration::ZERO,
            timeout: Duration::from_millis(25),
            flight_wait: Duration::ZERO,
            write_wait: WRITE_WAIT,
            max_ttl: 60 * second,
            longest_write: 30 * second,
        };
        let policy = Policy {
            max_ttl: times.max_ttl,
            untokenized_ttl: 30 * second,
            expiration_margin: 5 * second,
            honor_origin: true,
            stale_if_error: Duration::ZERO,
        };
        let rules = Rules { policy, lookup_timeout: 10 * second };
        let options = Options { max_bytes: 1024, max_flights: 1, rules, fleet: None };
        let sessions = SessionCache::new(options, TaskTracker::new(), clock.clone(), Arc::clone(&metrics));
        let pod = Arc::new(Pod::new(times, clock.clone(), FleetSeries::new(&metrics)));
        let first = Item { at: Position { ms: 1, seq: 0 }, entry: Ok(Entry::Id(LogId([1; 16]))) };
        let greeting =
            Greeting { sent: clock.now(), server: None, id: Some(LogId([1; 16])), ends: Some((first, first)), time: 1 };
        assert!(matches!(pod.lock().greet(&greeting), Step::Scan(..)));
        let this = Self { pod, sessions, shift, metrics, entries: vec![first] };
        let page = this.page(&this.entries);
        this.pod.obey(&this.sessions, &page, |log, now| log.rejoin(&greeting, &page, now)).expect("joined");
        this
    }

    fn page<'p>(&self, items: &'p [Item]) -> Page<'p> {
        Page { items, is_whole: true, time: 1 }
    }

    /// Publishes what is queued, and reads it in the log.
    fn publish(&mut self) {
        let batch = self.pod.lock().publish(10, self.pod.clock.now()).expect("something is queued");
        let last = *self.entries.last().expect("an entry");
        let mut appended = vec![last];
        for entry in batch.entries() {
            let at = Position { ms: 1, seq: u64::try_from(self.entries.len()).expect("few") };
            appended.push(Item { at, entry: Ok(*entry) });
            self.entries.extend(appended.last());
        }
        let positions: Vec<_> = appended.iter().skip(1).map(|item| Some(item.at)).collect();
        let page = self.page(&appended);
        let published = |log: &mut Log, now| log.published(&batch, &positions, &page, now);
        self.pod.obey(&self.sessions, &page, published).expect("the log goes on");
    }

    fn write(&self) -> u64 {
        let write = self.pod.begin(TAG);
        self.pod.end(write, TAG, Ending::Answered);
        write
    }

    /// An answer that waits until other pods know.
    async fn held(&self, what: Announced) -> JoinHandle<()> {
        let pod = Arc::clone(&self.pod);
        let held = tokio::spawn(async move { pod.known(&[what]).await });
        tokio::task::yield_now().await;
        held
    }

    fn holds(&self) -> [u64; 4] {
        HoldResult::WORDS.map(|word| self.metrics.fleet_holds.with_label_values(&[word]).get())
    }
}

async fn ended(held: JoinHandle<()>) {
    timeout(Duration::from_secs(10), held).await.expect("in time").expect("no panic");
}

#[tokio::test]
async fn an_answer_is_held_until_every_lease_from_before_it_is_over() {
    let mut joined = Joined::new();
    let write = joined.write();
    let held = joined.held(Announced::Write(write)).await;
    joined.publish();
    joined.shift.advance(LEASE - Duration::from_millis(1));
    assert!(poll_immediate(joined.pod.known(&[Announced::Write(write)])).await.is_none(), "the lease is not over");
    joined.shift.advance(Duration::from_millis(1));
    ended(held).await;
    joined.pod.known(&[Announced::Write(write)]).await;
    assert_eq!(joined.holds(), [1, 1, 0, 0], "held, and known at once");
    assert_eq!(joined.metrics.fleet_entries.with_label_values(&["published", "answered"]).get(), 1);
}

#[tokio::test]
async fn no_answer_is_held_for_longer_than_configured_or_by_a_lost_connection() {
    let joined = Joined::new();
    let write = joined.write();
    let held = joined.held(Announced::Write(write)).await;
    joined.shift.advance(WRITE_WAIT);
    ended(held).await;
    assert_eq!(joined.holds(), [0, 0, 1, 0]);

    joined.pod.purge(TAG);
    let (purge, all) = (joined.held(Announced::Purge(TAG)).await, joined.held(Announced::All).await);
    joined.pod.lose_connection(FleetState::Down);
    ended(purge).await;
    ended(all).await;
    joined.pod.known(&[Announced::Write(write), Announced::Purge(TAG)]).await;
    assert_eq!(joined.holds(), [0, 0, 1, 3], "and those who come later do not wait");
}

#[tokio::test]
async fn a_purge_is_held_for_longer_than_a_lease() {
    let mut joined = Joined::new();
    joined.pod.purge_all();
    let held = joined.held(Announced::All).await;
    joined.shift.advance(Duration::from_millis(50));
    joined.publish();
    joined.shift.advance(LEASE);
    ended(held).await;
    assert_eq!(joined.holds(), [0, 1, 0, 0]);
}

#[tokio::test]
async fn something_queued_wakes_the_link_and_a_reload_changes_what_is_trusted() {
    let joined = Joined::new();
    assert!(poll_immediate(joined.pod.queued()).await.is_none());
    let write = joined.pod.begin(TAG);
    timeout(Duration::from_secs(10), joined.pod.queued()).await.expect("woken");
    assert!(poll_immediate(joined.pod.queued()).await.is_none());
    joined.pod.end(write, TAG, Ending::NotSent);
    assert!(!joined.pod.lock().has_queued(), "a write that was not sent and not told is no write");

    joined.shift.advance(Duration::from_millis(1));
    let began = joined.pod.clock.now();
    joined.shift.advance(LEASE);
    let serve = |joined: &Joined| joined.pod.horizon().load().serve(began, joined.pod.clock.now());
    assert_eq!(serve(&joined), Serve::No);
    joined.pod.change(Times { alone_ttl: Duration::from_secs(60), ..joined.pod.times() });
    assert_eq!(serve(&joined), Serve::Unconfirmed);
    joined.pod.change(Times { lease: 4 * LEASE, ..joined.pod.times() });
    assert_eq!(serve(&joined), Serve::Confirmed);
}
