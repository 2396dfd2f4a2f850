//! Whether the sidecar grows or forgets over time: hours of a payment path in miniature.
//!
//! `cargo bench --bench soak` runs the release binary as a process of its own in front of a simulated gateway in this
//! process. A run takes 30 minutes, or the time of its argument: `cargo bench --bench soak -- 5m`. Callers look up,
//! read, fetch reports and write, with and without keys; some hang up. Faults come and go, tokens live 40 s and are
//! revoked now and then, keys are rotated every two minutes (`SOAK_ROTATE=off` turns rotation off), and webhooks
//! arrive.
//!
//! The run prints a line per minute and a verdict. Its exit code is 1 if memory or descriptors grew after the warm-up,
//! or if the gateway's ledger differs from what callers were told.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a measurement that fails may panic; it measures real time and prints what it found"
)]

mod faults;
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
use tokio::time::{Instant, interval, sleep, sleep_until};

use self::process::Sidecar;
use self::service::Service;
use self::traffic::{Counts, Traffic};
use self::verdict::{Sample, Verdict};

const CALLERS: u64 = 16;
const SAMPLED: Duration = Duration::from_secs(2);
const TOKEN_LIFE: Duration = Duration::from_secs(40);

fn main() -> ExitCode {
    let asked = env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let lasts = asked.map_or(Duration::from_secs(30 * 60), |text| units::duration(&text).expect("a duration"));
    let seed = env::var("SOAK_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().expect("a number"));
    let rotate = env::var("SOAK_ROTATE").is_ok_and(|word| word == "off");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(run(lasts, seed, !rotate))
}

async fn run(lasts: Duration, seed: u64, rotate: bool) -> ExitCode {
    println!("SOAK_SEED={seed}, for {lasts:?}, keys {}", if rotate { "rotated" } else { "left alone" });
    let options =
        Options { token_life: TOKEN_LIFE, webhook_retries: vec![Duration::from_secs(1); 20], ..Options::default() };
    let keys = (options.public_key.clone(), options.private_key.clone());
    let gateway = Simulator::start(options).await.expect("a gateway");
    let service = Service::start().await;
    let mut sidecar = Sidecar::start(&gateway, &service, keys).await;
    let before = sidecar.sample();
    println!("before any call: {} KiB resident, {} descriptors", before.resident, before.descriptors);

    let until = Instant::now() + lasts;
    let traffic = Arc::new(Traffic::new(gateway.clone(), sidecar.proxy, until));
    traffic.subscribe(sidecar.webhooks).await;
    let mut tasks = JoinSet::new();
    for caller in 1..=CALLERS {
        tasks.spawn(Arc::clone(&traffic).caller(seed.wrapping_add(caller)));
    }
    tasks.spawn(faults::come_and_go(gateway.clone(), until, seed));
    tasks.spawn(faults::revoke(gateway.clone(), until));
    let samples = watch(&mut sidecar, &traffic, &service, rotate, until).await;
    while let Some(task) = tasks.join_next().await {
        task.expect("no panic");
    }

    let mut verdict = Verdict::new(lasts);
    verdict.grown(&samples);
    verdict.left(before.descriptors, settled(&sidecar, before.descriptors).await);
    verdict.ledger(traffic.wrong());
    let (told, hung_up) = traffic.unknown();
    verdict.unknown(sidecar.metric("money_outcome_unknown_total").await, told, hung_up);
    verdict.received(service.received());
    verdict.ended(sidecar.stop().await);
    gateway.stop().await;
    verdict.print()
}

/// Samples the sidecar and rotates its keys until `until`, and prints a line per minute.
async fn watch(
    sidecar: &mut Sidecar,
    traffic: &Traffic,
    service: &Service,
    rotate: bool,
    until: Instant,
) -> Vec<Sample> {
    const ROTATED: usize = 60;
    println!("{}", Counts::TITLES);
    let (mut samples, mut counted, mut ticks) = (Vec::new(), Counts::default(), interval(SAMPLED));
    let mut minute = Vec::new();
    while Instant::now() < until {
        ticks.tick().await;
        let sample = sidecar.sample();
        samples.push(sample);
        minute.push(sample);
        if rotate && samples.len() % ROTATED == ROTATED / 2 {
            sidecar.rotate(traffic.gateway());
        }
        if minute.len() == 30 {
            let now = traffic.counts(service.received());
            now.since(&counted).print(samples.len() / 30, &minute);
            counted = now;
            minute.clear();
        }
    }
    sleep_until(until).await;
    samples
}

/// The number of open descriptors once all idle ones have been closed.
async fn settled(sidecar: &Sidecar, before: usize) -> usize {
    let limit = Instant::now() + Duration::from_secs(60);
    loop {
        let open = sidecar.sample().descriptors;
        if open <= before || Instant::now() > limit {
            return open;
        }
        sleep(Duration::from_millis(500)).await;
    }
}
