#!/usr/bin/env bash
# A POST is answered with 103 and then with 200, and clients hand over the 103 as the answer.
#
# Of:       http.client of Python 3, and so requests 2.34.2; OkHttp 3.13.1 (Debian 12)
# Input:    `HTTP/1.1 103 Early Hints` with a `Link`, then `HTTP/1.1 200 OK` with the body. Another run has
#           `102 Processing` in place of 103, and a third `100 Continue`, which no client asked for.
# Expected: a client has to read any number of 1xx before the answer, even if the client expects none (RFC 9110, 15.2).
# Seen:     requests and OkHttp say that the status is 103 or 102, and that the body is empty. The caller never sees the
#           answer of a POST that was done. Both know 100, and no other 1xx. curl, httpx and Ruby's Net::HTTP read on to
#           the 200. So a proxy should not pass 1xx on.
# Needs:    python3 with pip, java with a compiler, ruby, curl, apt-get of Debian 12
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
export NO_PROXY=127.0.0.1 no_proxy=127.0.0.1

python3 -m pip install --quiet --no-compile --target python requests==2.34.2 httpx==0.28.1 2>pip.log
apt-get download libokhttp-java=3.13.1-3 libokio-java=1.16.0-2 >apt.log 2>&1
for package in *.deb; do dpkg-deb --extract "$package" debian; done
cat >server.py <<'PYTHON'
"""Starts a client on a server that puts an interim answer before each answer."""
import socket
import subprocess
import sys
import threading


def serve():
    while True:
        stream, _ = server.accept()
        with stream:
            got = b""
            while not got.endswith(b"\r\n\r\n"):
                data = stream.recv(65536)
                if not data:
                    break
                got += data
            stream.sendall(f"HTTP/1.1 {sys.argv[1]}\r\nLink: </a>; rel=preload\r\n\r\n".encode()
                           + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ndone")


server = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=serve, daemon=True).start()
sys.exit(subprocess.run([*sys.argv[2:], f"http://127.0.0.1:{server.getsockname()[1]}/"], timeout=60).returncode)
PYTHON
cat >client.py <<'PYTHON'
import importlib
import sys

answer = importlib.import_module(sys.argv[1]).post(sys.argv[2], timeout=10)
print(answer.status_code, answer.text)
PYTHON
cat >client.rb <<'RUBY'
require "net/http"
answer = Net::HTTP.post(URI(ARGV[0]), "")
puts "#{answer.code} #{answer.body}"
RUBY
cat >Client.java <<'JAVA'
import okhttp3.*;

class Client {
    public static void main(String[] arguments) throws Exception {
        Request request = new Request.Builder().url(arguments[0]).post(RequestBody.create(null, new byte[0])).build();
        Response answer = new OkHttpClient().newCall(request).execute();
        System.out.println(answer.code() + " " + answer.body().string());
    }
}
JAVA
jars=debian/usr/share/java/okhttp.jar:debian/usr/share/java/okio.jar
javac -cp "$jars" Client.java

for interim in "100 Continue" "102 Processing" "103 Early Hints"; do
    ask() {
        echo "$interim, $1: $(python3 server.py "$interim" "${@:2}" | sed 's/ *$//')"
    }
    PYTHONPATH=python ask requests python3 client.py requests
    PYTHONPATH=python ask httpx python3 client.py httpx
    ask OkHttp java -cp "$jars:." Client
    ask Net::HTTP ruby client.rb
    ask curl curl --silent --max-time 10 --data "" --write-out ' %{http_code}'
done >found
cat >seen <<'TEXT'
100 Continue, requests: 200 done
100 Continue, httpx: 200 done
100 Continue, OkHttp: 200 done
100 Continue, Net::HTTP: 200 done
100 Continue, curl: done 200
102 Processing, requests: 102
102 Processing, httpx: 200 done
102 Processing, OkHttp: 102
102 Processing, Net::HTTP: 200 done
102 Processing, curl: done 200
103 Early Hints, requests: 103
103 Early Hints, httpx: 200 done
103 Early Hints, OkHttp: 103
103 Early Hints, Net::HTTP: 200 done
103 Early Hints, curl: done 200
TEXT
diff seen found && cat found
