#!/usr/bin/env bash
# A POST that was answered 503, or another status of that kind, is sent again.
#
# Of:       Apache HttpClient 5.2.1 as it comes (Debian 12); superagent 10.4.2 with `.retry(1)`; aiohttp-retry 2.9.1 with
#           its default statuses and two attempts
# Input:    POST, answered 503; for the latter two also 504, which says that nobody knows what became of the request.
# Expected: RFC 9110, 9.2.2 has a client repeat by itself only what is idempotent. urllib3's Retry and got leave POST out
#           of what they repeat.
# Seen:     HttpClient 5 sends a POST again after 503 though nobody turned that on (after a second; after 504 it does not).
#           superagent and aiohttp-retry, told to repeat, make no difference between methods, and repeat 503 and 504.
# Needs:    python3 with pip, npm, java with a compiler, apt-get of Debian 12
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

python3 -m pip install --quiet --target python aiohttp==3.14.5 aiohttp-retry==2.9.1 2>pip.log
npm install --silent --ignore-scripts --no-save superagent@10.4.2
apt-get download libhttpclient5-java=5.2.1-1 libhttpcore5-java=5.2.1-1 libslf4j-java=1.7.32-1 >apt.log 2>&1
for package in *.deb; do dpkg-deb --extract "$package" debian; done

cat >server.py <<'PYTHON'
"""Starts a client on a server that answers every request with one status, and prints how many arrive."""
import http.server, subprocess, sys, threading

status, arrived = int(sys.argv[1]), 0

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        global arrived
        arrived += 1
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(status)
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

changed=0
arrive() {
    local name=$1 status=$2 expected=$3 found
    shift 3
    found=$(python3 server.py "$status" "$@")
    echo "$name, POST answered $status: $found arrived"
    [ "$found" = "$expected" ] || changed=1
}
export PYTHONPATH=python
jars=debian/usr/share/java
classes=$jars/httpclient5.jar:$jars/httpcore5.jar:$jars/httpcore5-h2.jar:$jars/slf4j-api.jar
arrive "HttpClient 5" 503 2 java -cp "$classes" Apache.java
arrive "HttpClient 5" 504 1 java -cp "$classes" Apache.java
for status in 503 504; do
    arrive superagent "$status" 2 node superagent.cjs
    arrive aiohttp-retry "$status" 2 python3 with_aiohttp_retry.py
done
exit "$changed"
