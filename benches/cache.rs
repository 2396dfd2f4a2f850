//! The session cache's resident memory for one session, beside moka alone, and when far more is stored than fits; and
//! its hit ratio beside that of a plain LRU of the same size.
//!
//! `cargo bench --bench cache`

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a measurement that fails may panic; it prints what it found"
)]

use std::collections::{BTreeMap, HashMap};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use std::{env, fs};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, ETAG};
use http::{HeaderMap, HeaderValue, StatusCode};
use mimalloc::MiMalloc;
use sezzle_sidecar::clock::Clock;
use sezzle_sidecar::session::freshness::{Policy, RequestDirectives};
use sezzle_sidecar::session::invalidation::Tag;
use sezzle_sidecar::session::response::SessionResponse;
use sezzle_sidecar::session::{Fetched, Found, Options, Rules, SessionCache};
use sezzle_sidecar::telemetry::metrics::Metrics;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

// The allocator of the sidecar.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const MIB: u64 = 1 << 20;

type Cache = Arc<SessionCache<String>>;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    // In a process of its own each, because the allocator keeps what a part has freed.
    let parts = ["each", "memory", "hit-ratio"];
    match env::args().nth(1).as_deref() {
        Some("each") => each().await,
        Some("memory") => memory().await,
        Some("hit-ratio") => hit_ratio().await,
        _ => {
            let program = env::current_exe().expect("this program");
            let runs = |part: &&str| Command::new(&program).arg(part).status().expect("it starts").success();
            assert!(parts.iter().all(runs), "a part failed");
        }
    }
}

/// Stores many sessions, each of an order of its own. moka alone holds their bodies under their keys, for a limited time
/// and within a limit of bytes, and nothing else.
async fn each() {
    const SESSIONS: usize = 100_000;
    const BODY: usize = 1300;
    let (cache, before) = (new(8 << 30), resident());
    for number in 0..SESSIONS {
        store(&cache, number, BODY).await;
    }
    cache.observe();
    let own = resident() - before;
    let moka = moka::sync::Cache::builder()
        .max_capacity(8 << 30)
        .weigher(|_, body: &Bytes| u32::try_from(body.len()).unwrap_or(u32::MAX))
        .time_to_live(Duration::from_secs(3600))
        .build();
    let before = resident();
    for number in 0..SESSIONS {
        moka.insert(key(number), Bytes::copy_from_slice(&answer(number, BODY).body));
    }
    moka.run_pending_tasks();
    let alone = resident() - before;
    let beyond = |bytes: u64| bytes / SESSIONS as u64 - BODY as u64;
    println!("a session of {BODY} bytes: the body and {} bytes", beyond(own));
    println!("moka alone:              the body and {} bytes\n", beyond(alone));
}

/// Stores ten times more sessions than fit, of mixed size, and purges as many orders that no session has.
async fn memory() {
    println!(
        "{:<12}{:>10}{:>12}{:>12}{:>12}{:>12}{:>12}",
        "max_bytes", "offered", "kept", "idle", "full", "grown", "ratio"
    );
    // The empty cache and its metrics are part of an idle process. The next cache uses again the memory that a dropped
    // cache leaves resident.
    let _empty = new(MIB);
    let idle = resident();
    for max_bytes in [MIB, 32 * MIB, 128 * MIB] {
        let cache = new(max_bytes);
        let (mut offered, mut number) = (0, 0);
        while offered < 10 * max_bytes {
            let size = [900, 1300, 1300, 2000, 5000, 30_000][number % 6];
            store(&cache, number, size).await;
            let _ = cache.purge(&[Tag::order(&format!("nobodys-order-{number}"))]).await;
            offered += size as u64;
            number += 1;
        }
        cache.observe();
        let kept = (0..number).filter(|number| is_stored(&cache, *number)).count();
        let grown = resident().saturating_sub(idle);
        println!(
            "{:<12}{:>10}{:>12}{:>8} KiB{:>8} KiB{:>8} KiB{:>12.2}",
            format!("{} MiB", max_bytes / MIB),
            number,
            kept,
            idle / 1024,
            resident() / 1024,
            grown / 1024,
            grown as f64 / max_bytes as f64
        );
    }
}

/// Looks up sessions of 1.3 KB: 100 000 by Zipf's law with room for a tenth of them; and sessions that are looked up
/// six times and never again, as those of a checkout are, with room for a fifth of those that are still looked up.
async fn hit_ratio() {
    const SESSIONS: usize = 100_000;
    const ASKED: usize = 1_000_000;
    const EACH: usize = 6;
    let one = weight_of_one().await;
    let room = SESSIONS / 10;
    let mut random = fastrand::Rng::with_seed(7);
    let zipf = Zipf::new(SESSIONS);
    let by_zipf: Vec<usize> = (0..ASKED).map(|_| zipf.draw(&mut random)).collect();
    let begun = (0..ASKED / EACH).flat_map(|session| [session; EACH]);
    // A session is looked up at lags that are spread exponentially, while 8000 others begin on average.
    let lag = |random: &mut fastrand::Rng| -8000.0 * random.f64().max(f64::MIN_POSITIVE).ln();
    let mut passing: Vec<(f64, usize)> = begun.map(|session| (session as f64 + lag(&mut random), session)).collect();
    passing.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    let passing: Vec<usize> = passing.into_iter().map(|(_, session)| session).collect();
    println!("\nhit ratio, room for {room} sessions ({one} bytes each)");
    println!("{:<32}{:>16}{:>16}", "", "session cache", "plain LRU");
    for (name, asked) in [("Zipf s = 1.0, 100 000 sessions", by_zipf), ("six lookups each, then none", passing)] {
        let cache = new(room as u64 * one);
        let mut lru = Lru::new(room);
        let (mut own, mut plain) = (0_u32, 0_u32);
        for number in &asked {
            if is_stored(&cache, *number) {
                own += 1;
            } else {
                store(&cache, *number, 1300).await;
            }
            plain += u32::from(lru.ask(*number));
        }
        let percent = |hits: u32| 100.0 * f64::from(hits) / asked.len() as f64;
        println!("{name:<32}{:>14.2} %{:>14.2} %", percent(own), percent(plain));
    }
}

fn new(max_bytes: u64) -> Cache {
    let policy = Policy {
        max_ttl: Duration::from_secs(3600),
        untokenized_ttl: Duration::from_secs(3600),
        expiration_margin: Duration::from_secs(5),
        honor_origin: true,
        stale_if_error: Duration::ZERO,
    };
    let rules = Rules { policy, lookup_timeout: Duration::from_secs(10) };
    let options = Options { max_bytes, max_flights: 512, rules, fleet: None };
    let metrics = Arc::new(Metrics::new().expect("valid metrics"));
    SessionCache::new(options, TaskTracker::new(), Clock::system(), metrics)
}

fn key(number: usize) -> Uuid {
    Uuid::from_u128(number as u128 | 0x4000_8000_0000_0000_0000)
}

fn is_stored(cache: &Cache, number: usize) -> bool {
    matches!(cache.find(key(number), &RequestDirectives::default(), Clock::system().now()), Found::Fresh(_))
}

async fn store(cache: &Cache, number: usize, size: usize) {
    let fetch = |_| async move { Fetched::<(), String>::Whole(answer(number, size)) };
    let _ = cache.fetch(key(number), &RequestDirectives::default(), fetch).await;
}

/// An answer like Sezzle's, with a body of about `size` bytes.
fn answer(number: usize, size: usize) -> SessionResponse {
    let mut body = format!(r#"{{"uuid":"{}","order":{{"uuid":"order-of-{number:020}"}},"filler":""#, key(number));
    body.push_str(&"x".repeat(size.saturating_sub(body.len() + 2)));
    body.push_str("\"}");
    // As received headers are: slices of the buffer that the head was read into.
    let mut buffer = Vec::with_capacity(8192);
    buffer.extend_from_slice(b"application/json\"0123456789abcdef0123456789abcdef\"");
    let buffer = Bytes::from(buffer);
    let slice = |range| HeaderValue::from_maybe_shared(buffer.slice(range)).expect("valid");
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, slice(0..16));
    headers.insert(ETAG, slice(16..50));
    let (status, body) = (StatusCode::OK, Bytes::from(body.into_bytes()));
    SessionResponse { status, fwd_status: status, headers, etag: None, body }
}

/// Bytes that the cache counts for one session of 1.3 KB.
async fn weight_of_one() -> u64 {
    let cache = new(MIB);
    store(&cache, 1, 1300).await;
    match cache.find(key(1), &RequestDirectives::default(), Clock::system().now()) {
        Found::Fresh(hit) => u64::from(hit.entry.weight()),
        _ => unreachable_entry(),
    }
}

#[expect(clippy::panic, reason = "there is nothing to measure then")]
fn unreachable_entry() -> u64 {
    panic!("one session does not fit into 1 MiB")
}

/// Resident bytes of this process.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

/// A cache that evicts the least recently asked for session first.
struct Lru {
    room: usize,
    turn: u64,
    turns: HashMap<usize, u64>,
    order: BTreeMap<u64, usize>,
}

impl Lru {
    fn new(room: usize) -> Self {
        Self { room, turn: 0, turns: HashMap::new(), order: BTreeMap::new() }
    }

    fn ask(&mut self, number: usize) -> bool {
        self.turn += 1;
        let before = self.turns.insert(number, self.turn);
        if let Some(before) = before {
            self.order.remove(&before);
        } else if self.turns.len() > self.room
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.turns.remove(&oldest);
        }
        self.order.insert(self.turn, number);
        before.is_some()
    }
}

/// Zipf's law with s = 1.0: the frequency of the k-th item is proportional to 1/k.
struct Zipf(Vec<f64>);

impl Zipf {
    fn new(number: usize) -> Self {
        let mut sum = 0.0;
        let sums = (1..=number).map(|rank| {
            sum += 1.0 / rank as f64;
            sum
        });
        Self(sums.collect())
    }

    fn draw(&self, random: &mut fastrand::Rng) -> usize {
        let at = random.f64() * self.0.last().copied().unwrap_or_default();
        self.0.partition_point(|sum| *sum < at)
    }
}
