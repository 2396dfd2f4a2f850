#!/usr/bin/env bash
# "1 5s" is fifteen seconds, "1M" a month and "1m" a minute.
#
# Of:       humantime 2.4.0 (Rust), with which many programs read the durations in their configuration
# Expected: "1 5s", a unit forgotten, is a mistake, or six seconds as with systemd. No unit differs from another only by
#           its case: "D", "H" and "S" are refused, so "M" should be.
# Seen:     humantime drops white space between digits, so that "1 5s" is 15 s and "1 2 3 4s" is 1234 s. "1M" is 30.44
#           days.
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
humantime = "=2.4.0"
TOML
cat >src/main.rs <<'RUST'
fn main() {
    for text in ["1 5s", "1 2 3 4s", "1m", "1M", "1H"] {
        match humantime::parse_duration(text) {
            Ok(read) => println!("{text:?}: {} s", read.as_secs()),
            Err(_) => println!("{text:?}: refused"),
        }
    }
}
RUST
cat >seen <<'TEXT'
"1 5s": 15 s
"1 2 3 4s": 1234 s
"1m": 60 s
"1M": 2630016 s
"1H": refused
TEXT
cargo run --quiet >found
diff seen found && cat found
