#!/usr/bin/env bash
# A POST that nobody asked to repeat is sent twice.
#
# Of:       pycurl 7.49.0 with its libcurl, httplib2 0.32.1, Deno 2.9.6 (`fetch`), OkHttp 3.13.1, each with its defaults
# Input:    GET, answered with keep-alive; then POST on the same connection, which the server reads whole and then
#           closes without a byte of an answer.
# Expected: an error. RFC 9110, 9.2.2: a client should not automatically retry a request with a method that is not
#           idempotent, unless it can tell that the request was never applied.
# Seen:     all four send the POST again on a new connection, once, and report an error, if any, only when that
#           connection ends in silence, too. A server that does the work before it dies does the work twice.
# Needs:    python3 with pip, npm, java with a compiler, apt-get of Debian 12, Linux on x86-64
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

python3 -m pip install --quiet --no-deps --target python pycurl==7.49.0 httplib2==0.32.1 pyparsing==3.3.3 2>pip.log
npm install --silent --ignore-scripts --no-save @deno/linux-x64-glibc@2.9.6
apt-get download libokhttp-java=3.13.1-3 libokio-java=1.16.0-2 >apt.log 2>&1
for package in *.deb; do dpkg-deb --extract "$package" debian; done

cat >server.py <<'PYTHON'
"""Starts a client on a server of its own, and prints how many POSTs arrive."""
import socket, subprocess, sys, threading

posts = 0

def serve(connection):
    global posts
    lines = connection.makefile("rb")
    while request := lines.readline():
        length = 0
        while (line := lines.readline()) not in (b"\r\n", b""):
            name, value = line.split(b":", 1)
            if name.lower() == b"content-length":
                length = int(value)
        lines.read(length)
        if not request.startswith(b"GET"):
            posts += 1
            connection.shutdown(socket.SHUT_RDWR)
            return
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

def accept(server):
    while True:
        threading.Thread(target=serve, args=server.accept()[:1], daemon=True).start()

server = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=accept, args=(server,), daemon=True).start()
url = f"http://127.0.0.1:{server.getsockname()[1]}/"
subprocess.run([*sys.argv[1:], url], timeout=60, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(posts)
PYTHON

cat >libcurl.py <<'PYTHON'
import pycurl, sys
client = pycurl.Curl()
client.setopt(pycurl.URL, sys.argv[1])
client.setopt(pycurl.NOPROXY, "*")
client.perform()
client.setopt(pycurl.POSTFIELDS, "{}")
client.perform()
PYTHON
cat >with_httplib2.py <<'PYTHON'
import httplib2, sys
client = httplib2.Http(proxy_info=None)
client.request(sys.argv[1])
client.request(sys.argv[1], "POST", body="{}")
PYTHON
cat >deno.js <<'JS'
const url = Deno.args[0];
await (await fetch(url)).text();
await fetch(url, { method: "POST", body: "{}" });
JS
cat >OkHttp.java <<'JAVA'
import okhttp3.*;
class OkHttp {
    public static void main(String[] arguments) throws Exception {
        OkHttpClient client = new OkHttpClient();
        client.newCall(new Request.Builder().url(arguments[0]).build()).execute().body().string();
        RequestBody body = RequestBody.create(MediaType.parse("application/json"), "{}");
        client.newCall(new Request.Builder().url(arguments[0]).post(body).build()).execute();
    }
}
JAVA

changed=0
posts() {
    local name=$1 found
    shift
    found=$(python3 server.py "$@")
    echo "$name: $found POSTs arrived, 1 was asked for"
    [ "$found" = 2 ] || changed=1
}
export PYTHONPATH=python DENO_DIR=deno DENO_NO_UPDATE_CHECK=1
posts libcurl python3 libcurl.py
posts httplib2 python3 with_httplib2.py
posts "Deno's fetch" node_modules/@deno/linux-x64-glibc/deno run -q --no-config --allow-net deno.js
posts OkHttp java -cp debian/usr/share/java/okhttp.jar:debian/usr/share/java/okio.jar OkHttp.java
exit "$changed"
