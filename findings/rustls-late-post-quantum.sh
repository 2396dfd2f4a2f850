#!/usr/bin/env bash
# rustls without its default features offers a post-quantum group, and sends no key for it.
#
# Of:       rustls 0.23.46 (Rust) with `default-features = false` and the features aws_lc_rs, std and tls12, the choice
#           of programs that want fewer dependencies
# Expected: a client sends a key for each group that it would like to use, as with the default features; leaving out
#           `prefer-post-quantum` takes the group away.
# Seen:     X25519MLKEM768 is offered as the last group, with a key for X25519 alone. A server that prefers it (OpenSSL
#           from 3.5 on does) asks for another hello, so that each new connection takes one round trip more.
# Needs:    cargo, a C compiler
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

[features]
default = []
with-defaults = ["rustls/default"]

[dependencies]
rustls = { version = "=0.23.46", default-features = false, features = ["aws_lc_rs", "std", "tls12"] }
TOML
cat >src/main.rs <<'RUST'
use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection, RootCertStore};

fn main() {
    let config = ClientConfig::builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let mut client = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let mut hello = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut hello).unwrap();
    }
    let two = |at: usize| usize::from(hello[at]) << 8 | usize::from(hello[at + 1]);
    // Record, handshake and version headers and the random, then the session id, suites and compressions.
    let mut at = 5 + 4 + 2 + 32;
    at += 1 + usize::from(hello[at]);
    at += 2 + two(at);
    at += 1 + usize::from(hello[at]);
    at += 2;
    let name = |group: usize| match group {
        0x001d => "X25519".to_owned(),
        0x0017 => "secp256r1".to_owned(),
        0x0018 => "secp384r1".to_owned(),
        0x11ec => "X25519MLKEM768".to_owned(),
        other => format!("{other:04x}"),
    };
    let (mut offered, mut keys) = (Vec::new(), Vec::new());
    while at < hello.len() {
        let (kind, start, end) = (two(at), at + 6, at + 4 + two(at + 2));
        if kind == 10 {
            offered = (start..end).step_by(2).map(|at| name(two(at))).collect();
        }
        if kind == 51 {
            let mut at = start;
            while at < end {
                keys.push(name(two(at)));
                at += 4 + two(at + 2);
            }
        }
        at = end;
    }
    println!("offered: {}; keys: {}", offered.join(", "), keys.join(", "));
}
RUST
cat >seen <<'TEXT'
offered: X25519, secp256r1, secp384r1, X25519MLKEM768; keys: X25519
offered: X25519MLKEM768, X25519, secp256r1, secp384r1; keys: X25519MLKEM768, X25519
TEXT
cargo run --quiet >found
cargo run --quiet --features with-defaults >>found
diff seen found && cat found
