#!/usr/bin/env bash
# An answer of 3 KB is refused because its head has more than a hundred lines.
#
# Of:       hyper 1.12.0 (Rust), client; http.client of Python 3, and so requests 2.34.2
# Input:    200 with 101 lines of 20 bytes, as a gateway behind several proxies may send.
# Expected: limits are in bytes. RFC 9110, 5.4, speaks of the length of lines and of the whole; curl, Node and Go take
#           it.
# Seen:     hyper says "message head is too large"; http.client says "got more than 100 headers", even of 100, since it
#           counts the empty line. So a POST that was done and answered looks like one without an answer.
# Needs:    cargo, python3 with pip, curl
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

python3 -m pip install --quiet --target python requests==2.34.2 2>pip.log
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
        Ok(answer) => println!("{}", answer.status().as_u16()),
        Err(error) => println!("{error}"),
    }
}
RUST
cat >server.py <<'PYTHON'
"""Answers every connection with so many lines, besides the status line."""
import socket, sys
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
lines = ["Content-Length: 0"] + [f"X-{number:03}: {'x' * 11}" for number in range(int(sys.argv[1]) - 1)]
while True:
    connection, _ = server.accept()
    connection.recv(65536)
    connection.sendall("\r\n".join(["HTTP/1.1 200 OK", *lines, "", ""]).encode())
    connection.close()
PYTHON
cat >client.py <<'PYTHON'
import requests, sys
try:
    session = requests.Session()
    session.trust_env = False
    print(session.get(f"http://{sys.argv[1]}/", timeout=10).status_code)
except requests.RequestException as error:
    print("got more than 100 headers" if "got more than 100 headers" in str(error) else repr(error))
PYTHON

cargo build --quiet
for lines in 99 100 101; do
    coproc SERVER { exec python3 server.py "$lines"; }
    read -r port <&"${SERVER[0]}"
    echo "hyper, $lines lines: $(target/debug/finding "127.0.0.1:$port")"
    echo "http.client, $lines lines: $(PYTHONPATH=python python3 client.py "127.0.0.1:$port")"
    echo "curl, $lines lines: $(curl -sS --noproxy '*' -o /dev/null -w '%{http_code}' "http://127.0.0.1:$port/")"
    kill "$SERVER_PID"
    wait "$SERVER_PID" 2>/dev/null || true
done >found
cat >seen <<'TEXT'
hyper, 99 lines: 200
http.client, 99 lines: 200
curl, 99 lines: 200
hyper, 100 lines: 200
http.client, 100 lines: got more than 100 headers
curl, 100 lines: 200
hyper, 101 lines: message head is too large
http.client, 101 lines: got more than 100 headers
curl, 101 lines: 200
TEXT
diff seen found && cat found
