#!/usr/bin/env bash
# A moka cache with room for a hundred times the entries in use answers one lookup in six, and an LRU four in five.
#
# Of:       moka 0.12.16 (Rust), `sync::Cache` with its default policy, TinyLFU
# Input:    the load of a checkout: sessions come one after the other. Each is looked up five times, 20 sessions apart,
#           and never again, so 80 sessions are in use at any time. A miss inserts the session. The cache has room for
#           1000 or 8000 sessions. The lookups of 20000 sessions are counted, when the cache has been full for long.
# Expected: only the first lookup of each session misses, so 80 of 100 are answered. moka calls its default suitable for
#           most loads, with a near optimal hit ratio. At worst TinyLFU is some points behind an LRU, and with that much
#           room no policy has to give up a session in use.
# Seen:     16 to 20 of 100 with either room, and 80 with `EvictionPolicy::lru()`. A full cache compares a new session
#           with one that ended, keeps the one that was looked up five times, and drops the new one at once. `insert`
#           does not tell. So a session misses until it has been looked up about as often as those that ended.
# Needs:    cargo
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
moka = { version = "=0.12.16", default-features = false, features = ["sync"] }

[profile.dev]
debug = false
opt-level = 1
TOML
cat >src/main.rs <<'RUST'
use moka::{policy::EvictionPolicy, sync::Cache};

const LOOKUPS: usize = 5;
const APART: usize = 20;
const WARM: usize = 40_000;
const COUNTED: usize = 20_000;

/// How many of 100 lookups the cache answers.
fn answered(policy: EvictionPolicy, room: u64) -> usize {
    let cache = Cache::builder().max_capacity(room).eviction_policy(policy).build();
    let (mut lookups, mut answers) = (0, 0);
    for newest in 0..WARM + COUNTED {
        if newest == WARM {
            (lookups, answers) = (0, 0);
        }
        for session in (0..LOOKUPS).filter_map(|lookup| newest.checked_sub(lookup * APART)) {
            lookups += 1;
            if cache.get(&session).is_some() {
                answers += 1;
            } else {
                cache.insert(session, ());
            }
        }
        cache.run_pending_tasks();
    }
    100 * answers / lookups
}

fn main() {
    for room in [1000, 8000] {
        for (name, policy) in [("LRU", EvictionPolicy::lru()), ("default", EvictionPolicy::default())] {
            let share = match answered(policy, room) {
                0..=25 => "at most 25",
                26..=78 => "26 to 78",
                _ => "79 or more",
            };
            println!("room for {room}, {name}: {share} of 100 lookups answered");
        }
    }
}
RUST
cat >seen <<'TEXT'
room for 1000, LRU: 79 or more of 100 lookups answered
room for 1000, default: at most 25 of 100 lookups answered
room for 8000, LRU: 79 or more of 100 lookups answered
room for 8000, default: at most 25 of 100 lookups answered
TEXT
cargo run --quiet >found
diff seen found && cat found
