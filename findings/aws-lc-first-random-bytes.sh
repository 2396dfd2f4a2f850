#!/usr/bin/env bash
# The first random bytes of a process that uses aws-lc cost tens of milliseconds of processor time.
#
# Of:       aws-lc-rs 1.19.0 with aws-lc-sys 0.47.0 (Rust), the default cryptography of rustls
# Input:    a process that asks for 16 random bytes twice, and measures the processor time of each call.
# Expected: the kernel's generator gives the seed, so each call takes some microseconds.
# Seen:     the first call takes more than 10 ms of processor time (75 ms on two virtual cores), because the library
#           also gathers entropy from the jitter of the processor. The second takes less than 0.1 ms. A server that
#           makes its first random bytes for a request lets that request wait.
# Needs:    cargo, cc
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2021"

[dependencies]
aws-lc-rs = { version = "=1.19.0", default-features = false, features = ["aws-lc-sys"] }
aws-lc-sys = "=0.47.0"
cpu-time = "=1.0.0"

[profile.dev]
opt-level = 3
TOML
cat >src/main.rs <<'RUST'
use cpu_time::ThreadTime;

fn main() {
    for call in ["first", "second"] {
        let start = ThreadTime::now();
        aws_lc_rs::rand::fill(&mut [0; 16]).expect("random bytes");
        let took = start.elapsed().as_secs_f64() * 1000.0;
        eprintln!("{call}: {took:.3} ms");
        let word = if took > 10.0 { "more than 10 ms" } else if took < 0.1 { "less than 0.1 ms" } else { "between" };
        println!("{call}: {word}");
    }
}
RUST
cat >seen <<'TEXT'
first: more than 10 ms
second: less than 0.1 ms
TEXT
cargo run --quiet >found
diff seen found && cat found
