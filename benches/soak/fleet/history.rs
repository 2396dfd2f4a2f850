//! Whether a lookup through one sidecar shows what was written through any of them.
//!
//! Only writes with a known outcome count: after any other answer the order is given up. A lookup has to show at least
//! the writes that were answered before it began.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use fastrand::Rng;
use http::Method;
use sezzle_sidecar::simulator::{SessionKind, Simulator};
use tokio::time::{Instant, sleep};

use crate::call::{Told, client};
use crate::process::Ops;
use crate::traffic::Traffic;

const ORDERS: usize = 6;
/// An order with more writes gives way to a new one.
const WRITES: usize = 50;
const UPDATE: &str = r#"{"reference_id":"r"}"#;
/// More are not kept, because so many are wrong by all means.
const STALE: usize = 10_000;

#[derive(Clone, Copy)]
pub struct Pod {
    pub proxy: SocketAddr,
    pub ops: Ops,
}

pub struct History {
    traffic: Arc<Traffic>,
    pods: Vec<Pod>,
    until: Instant,
    orders: [Mutex<Arc<Order>>; ORDERS],
    stale: Mutex<Vec<Stale>>,
    lookups: AtomicU64,
    known: AtomicU64,
    others: AtomicU64,
}

struct Order {
    path: String,
    session_path: String,
    /// One write at a time, so that each has the next revision.
    writing: tokio::sync::Mutex<()>,
    /// Writes with their answers, of which the first made revision 2.
    writes: Mutex<Vec<Answered>>,
}

struct Answered {
    at: Instant,
    through: usize,
    /// Whether the sidecar says that it held the answer until all others knew.
    known: bool,
}

/// A lookup that showed the state from before a write.
struct Stale {
    order: Arc<Order>,
    /// The write's place in the order's list.
    write: usize,
    begun: Instant,
    what: String,
}

/// The outcome of the history.
pub struct Summary {
    pub lookups: u64,
    /// Writes that all sidecars are said to have known of, and others.
    pub writes: [u64; 2],
    /// For how long after the answers to those writes lookups were stale, and the worst lookup.
    pub stale: [Option<(Duration, String)>; 2],
}

impl History {
    pub fn new(traffic: Arc<Traffic>, pods: Vec<Pod>, until: Instant) -> Self {
        let orders = std::array::from_fn(|_| Mutex::new(Order::new(traffic.gateway())));
        let (stale, [lookups, known, others]) = (Mutex::default(), std::array::from_fn(|_| AtomicU64::new(0)));
        Self { traffic, pods, until, orders, stale, lookups, known, others }
    }

    pub async fn look(self: Arc<Self>, mut rng: Rng) {
        let client = client();
        while Instant::now() < self.until {
            sleep(Duration::from_millis(rng.u64(1..25))).await;
            let order = Arc::clone(&lock(&self.orders[rng.usize(..ORDERS)]));
            let through = rng.usize(..self.pods.len());
            let answered = lock(&order.writes).len();
            let (path, begun) = (&order.session_path, Instant::now());
            let answer = self.traffic.send(&client, self.pods[through].proxy, Method::GET, path, None, "").await;
            let Some(answer) = answer.filter(|answer| answer.told() == Told::Done) else { continue };
            self.lookups.fetch_add(1, Ordering::Relaxed);
            let revision = answer.json()["order"]["revision"].as_u64().expect("a session has its order's revision");
            let shown = usize::try_from(revision).expect("few writes") - 1;
            let cache = answer.headers.get("cache-status");
            let mut stale = lock(&self.stale);
            for write in shown..answered {
                if stale.len() < STALE {
                    let what = format!("sidecar {} showed revision {revision} of {path}: {cache:?}", through + 1);
                    stale.push(Stale { order: Arc::clone(&order), write, begun, what });
                }
            }
        }
    }

    /// Makes one write after another through one sidecar.
    pub async fn write(self: Arc<Self>, through: usize, mut rng: Rng) {
        let (client, Pod { proxy, ops }) = (client(), self.pods[through]);
        while Instant::now() < self.until {
            sleep(Duration::from_millis(rng.u64(20..400))).await;
            let place = &self.orders[rng.usize(..ORDERS)];
            let order = Arc::clone(&lock(place));
            let Ok(_turn) = order.writing.try_lock() else { continue };
            let before = not_held(ops).await;
            let answer = self.traffic.send(&client, proxy, Method::PATCH, &order.path, None, UPDATE).await;
            let at = Instant::now();
            let write = match answer.as_ref().map_or(Told::Open, |answer| answer.told()) {
                Told::Done => {
                    let mut writes = lock(&order.writes);
                    writes.push(Answered { at, through, known: false });
                    writes.len() - 1
                }
                Told::Unsent | Told::Refused => continue,
                Told::Open | Told::Else => {
                    *lock(place) = Order::new(self.traffic.gateway());
                    continue;
                }
            };
            // Other writes through this sidecar count here too. Then this one may have been known all the same.
            let known = not_held(ops).await == before;
            lock(&order.writes)[write].known = known;
            (if known { &self.known } else { &self.others }).fetch_add(1, Ordering::Relaxed);
            if write + 1 == WRITES {
                *lock(place) = Order::new(self.traffic.gateway());
            }
        }
    }

    pub fn summary(&self) -> Summary {
        let mut worst: [Option<(Duration, String)>; 2] = [None, None];
        for Stale { order, write, begun, what } in lock(&self.stale).iter() {
            let Answered { at, through, known } = lock(&order.writes)[*write];
            let after = begun.saturating_duration_since(at);
            let worst = &mut worst[usize::from(!known)];
            if worst.as_ref().is_none_or(|(longest, _)| after > *longest) {
                let what = format!(
                    "{after:?} after the answer to write {} through sidecar {}, {what}",
                    write + 1,
                    through + 1
                );
                *worst = Some((after, what));
            }
        }
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Summary { lookups: count(&self.lookups), writes: [count(&self.known), count(&self.others)], stale: worst }
    }
}

impl Order {
    fn new(gateway: &Simulator) -> Arc<Self> {
        let ids = gateway.create_session(SessionKind::OrderAndTokenize);
        let path = format!("/v2/order/{}", ids.order.expect("an order"));
        let session_path = format!("/v2/session/{}", ids.session);
        Arc::new(Self { path, session_path, writing: tokio::sync::Mutex::default(), writes: Mutex::default() })
    }
}

/// How many answers a sidecar passed on before all others are sure to know.
async fn not_held(ops: Ops) -> u64 {
    let results = ["waited", "gave_up"].map(|result| format!("fleet_holds_total{{result=\"{result}\"}}"));
    ops.metrics(results.each_ref().map(String::as_str)).await.iter().sum()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no panic")
}
