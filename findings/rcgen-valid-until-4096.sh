#!/usr/bin/env bash
# A certificate that rcgen makes without further settings is valid for two thousand years.
#
# Of:       rcgen 0.14.10 (Rust)
# Input:    CertificateParams::new with one name, signed with a new key.
# Expected: a validity of some months or years from today, as openssl, mkcert and the like choose.
# Seen:     valid from 1975-01-01 to 4096-01-01. Verifiers accept such a certificate, so nobody notices. Alerts that
#           wait for the end of certificates never fire, and Apple's systems refuse more than 825 days.
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
rcgen = { version = "=0.14.10", default-features = false, features = ["ring"] }
TOML
cat >src/main.rs <<'RUST'
use rcgen::{CertificateParams, KeyPair};

fn main() {
    let params = CertificateParams::new(vec!["shop.example".to_owned()]).expect("a name");
    let key = KeyPair::generate().expect("a key");
    params.self_signed(&key).expect("a certificate");
    println!("from {} to {}", params.not_before.date(), params.not_after.date());
}
RUST
cat >seen <<'TEXT'
from 1975-01-01 to 4096-01-01
TEXT
cargo run --quiet >found
diff seen found && cat found
