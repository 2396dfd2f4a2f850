#!/usr/bin/env bash
# A size that is too large, or not a whole number of bytes, silently becomes another size; "1m" is a million bytes.
#
# Of:       bytesize 2.7.0 (Rust), with which many programs read the sizes in their configuration
# Expected: a size that does not fit 64 bits, or has a part of a byte, is an error. "m" is refused: for nginx it is MiB,
#           for Kubernetes a thousandth.
# Seen:     a size that is too large becomes the largest number, although such a number without a unit is refused;
#           "0.1b" becomes 0; "1m" is 1 000 000, "1k" 1000 and "1K" as well, while sizes are printed in KiB and MiB.
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
bytesize = "=2.7.0"
TOML
cat >src/main.rs <<'RUST'
use bytesize::ByteSize;

fn main() {
    for text in ["20EiB", "18446744073709551616", "0.1b", "1m", "1k", "1K"] {
        match text.parse::<ByteSize>() {
            Ok(read) => println!("{text:?}: {}", read.as_u64()),
            Err(_) => println!("{text:?}: refused"),
        }
    }
    println!("1 000 000 bytes: {}", ByteSize(1_000_000));
}
RUST
cat >seen <<'TEXT'
"20EiB": 18446744073709551615
"18446744073709551616": refused
"0.1b": 0
"1m": 1000000
"1k": 1000
"1K": 1000
1 000 000 bytes: 976.6 KiB
TEXT
cargo run --quiet >found
diff seen found && cat found
