//! Whether the sidecar grows or forgets over time: hours of a payment path in miniature.
//!
//! `cargo bench --bench soak` runs the release binary as a process of its own in front of a simulated gateway in this
//! process. A run takes 30 minutes, or the time of its argument: `cargo bench --bench soak -- 5m`. Callers look up,
//! read, fetch reports and write, with and without keys; some hang up. Faults come and go, tokens live 40 s and are
//! revoked now and then, keys are rotated every two minutes (`SOAK_ROTATE=off` turns rotation off), and webhooks
//! arrive.
//!
//! With the word `fleet`, as in `cargo bench --bench soak -- 30m fleet`, the calls go through three sidecars that are one
//! fleet over a Redis, and faults of that Redis and of the ways to it come and go too. That takes `redis-server` in PATH,
//! or in target/engines, where `tests/run` unpacks it.
//!
//! The run prints a line per minute and a verdict. Its exit code is 1 if memory or descriptors grew after the warm-up,
//! or if the gateway's ledger differs from what callers were told, or if a call failed that no fault of the gateway can
//! have touched. For a fleet `fleet/mod.rs` says what else is held.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a measurement that fails may panic; it measures real time and prints what it found"
)]

mod call;
mod counts;
mod faults;
mod fleet;
mod process;
mod service;
mod traffic;
mod verdict;

use std::env;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use sezzle_sidecar::simulator::{Options, Simulator};
use sezzle_sidecar::units;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep_until};

use self::counts::Counts;
use self::faults::Health;
use self::fleet::Fleet;
use self::process::{Keys, Sidecar, soon};
use self::service::Service;
use self::traffic::Traffic;
use self::verdict::{Sample, Verdict};

const CALLERS: u64 = 16;
/// Three sidecars, their Redis and the callers of the history need the processor too.
const CALLERS_OF_A_FLEET: u64 = 6;
const SAMPLED: Duration = Duration::from_secs(2);
const TOKEN_LIFE: Duration = Duration::from_secs(40);

/// The wishes of arguments and variables.
#[derive(Clone, Copy, Debug)]
struct Plan {
    lasts: Duration,
    seed: u64,
    rotate: bool,
    in_fleet: bool,
}

fn main() -> ExitCode {
    let words = env::args().skip(1).filter(|word| !word.starts_with('-'));
    let (fleet, times): (Vec<_>, Vec<_>) = words.partition(|word| word == "fleet");
    let lasts = times.first().map_or(Duration::from_secs(30 * 60), |text| units::duration(text).expect("a duration"));
    let seed = env::var("SOAK_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().expect("a number"));
    let rotate = env::var("SOAK_ROTATE").is_ok_and(|word| word == "off");
    let plan = Plan { lasts, seed, rotate: !rotate, in_fleet: !fleet.is_empty() };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(run(plan))
}

async fn run(plan: Plan) -> ExitCode {
    let Plan { lasts, seed, rotate, in_fleet } = plan;
    println!("SOAK_SEED={seed}, for {lasts:?}, keys {}", if rotate { "rotated" } else { "left alone" });
    let options =
        Options { token_life: TOKEN_LIFE, webhook_retries: vec![Duration::from_secs(1); 20], ..Options::default() };
    let mut keys = Keys::new(&options.public_key, &options.private_key);
    let gateway = Simulator::start(options).await.expect("a gateway");
    let service = Service::start().await;
    let fleet = if in_fleet { Some(Fleet::start().await) } else { None };
    let mut sidecars = Vec::new();
    for settings in fleet.as_ref().map_or_else(|| vec![Vec::new()], Fleet::settings) {
        sidecars.push(Sidecar::start(&gateway, &service, &keys, &settings).await);
    }
    if in_fleet {
        assert!(fleet::synced(&sidecars).await, "not synced in time");
    }
    let before: Vec<Sample> = sidecars.iter().map(Sidecar::sample).collect();
    println!("before any call: {before:?}");

    let until = Instant::now() + lasts;
    let health = Arc::<Health>::default();
    let proxies = sidecars.iter().map(|sidecar| sidecar.proxy).collect();
    let traffic = Arc::new(Traffic::new(gateway.clone(), Arc::clone(&health), proxies, until));
    traffic.subscribe(sidecars[0].webhooks).await;
    let mut tasks = JoinSet::new();
    for caller in 1..=if in_fleet { CALLERS_OF_A_FLEET } else { CALLERS } {
        tasks.spawn(Arc::clone(&traffic).caller(seed.wrapping_add(caller)));
    }
    tasks.spawn(faults::come_and_go(gateway.clone(), health, until, seed));
    tasks.spawn(faults::revoke(gateway.clone(), until));
    let rest = fleet.map(|fleet| tokio::spawn(fleet.soak(&sidecars, &traffic, until, seed)));
    let samples = watch(&sidecars, rotate.then_some(&mut keys), &traffic, &service, until).await;
    while let Some(task) = tasks.join_next().await {
        task.expect("no panic");
    }

    let mut verdict = Verdict::new(lasts);
    if let Some(rest) = rest {
        rest.await.expect("no panic").judge(&sidecars, &mut verdict).await;
    }
    let mut unknown = 0;
    for (number, sidecar) in sidecars.iter().enumerate() {
        println!("\nsidecar {}", number + 1);
        verdict.grown(&samples.iter().map(|all| all[number]).collect::<Vec<_>>());
        let before = before[number].descriptors;
        verdict.left(before, settled(sidecar, before).await);
        unknown += sidecar.ops.metric("money_outcome_unknown_total").await;
    }
    verdict.ledger(traffic.wrong());
    let (told, hung_up) = traffic.unknown();
    verdict.unknown(unknown, told, hung_up);
    verdict.received(service.received());
    for sidecar in sidecars {
        verdict.ended(sidecar.stop().await);
    }
    gateway.stop().await;
    verdict.print()
}

/// Samples the sidecars and rotates their keys until `until`, and prints a line per minute.
async fn watch(
    sidecars: &[Sidecar],
    mut keys: Option<&mut Keys>,
    traffic: &Traffic,
    service: &Service,
    until: Instant,
) -> Vec<Vec<Sample>> {
    const ROTATED: usize = 60;
    const MINUTE: usize = 30;
    println!("{}", Counts::TITLES);
    let (mut samples, mut counted, mut ticks) = (Vec::<Vec<Sample>>::new(), Counts::default(), interval(SAMPLED));
    while Instant::now() < until {
        ticks.tick().await;
        samples.push(sidecars.iter().map(Sidecar::sample).collect());
        if samples.len() % ROTATED == ROTATED / 2
            && let Some(keys) = &mut keys
        {
            keys.rotate(traffic.gateway());
        }
        if samples.len() % MINUTE == 0 {
            let now = traffic.counts(service.received());
            let minute: Vec<Sample> = samples.iter().rev().take(MINUTE).flatten().copied().collect();
            now.since(&counted).print(samples.len() / MINUTE, &minute);
            counted = now;
        }
    }
    sleep_until(until).await;
    samples
}

/// The number of open descriptors once all idle ones have been closed.
async fn settled(sidecar: &Sidecar, before: usize) -> usize {
    soon(Duration::from_secs(60), async || sidecar.sample().descriptors <= before).await;
    sidecar.sample().descriptors
}
