#!/usr/bin/env bash
# With `proxy_cache_lock`, nginx keeps a caller waiting for half a second for an answer that came after 50 ms.
#
# Of:       nginx 1.22.1 (Debian 12)
# Input:    an origin that answers after 50 ms, with `Cache-Control: max-age=60` or `no-store`. Four callers ask for one
#           URL at once, without and with `proxy_cache_lock on`, which lets one of them through to the origin.
# Expected: the others are answered as soon as the answer is in the cache, or are let through at once when the answer
#           turns out not to be one for the cache. The documentation names the response and the release of the lock as
#           what ends the wait.
# Seen:     nginx looks at the lock every 500 ms, and no setting changes that. So the other callers wait ten times as
#           long as the origin takes. With `no-store` each look lets one caller through: the fourth caller waits for
#           1.5 s, and later ones up to `proxy_cache_lock_timeout`, 5 s. Without the lock nobody waits for more than the
#           origin.
# Needs:    apt-get of Debian 12 on x86-64, curl, Python 3
set -euo pipefail
folder=$(mktemp -d)
started=()
finish() {
    [ "${#started[@]}" -eq 0 ] || kill "${started[@]}" 2>/dev/null || true
    rm -rf "$folder"
}
trap finish EXIT
cd "$folder"

apt-get download nginx=1.22.1-9+deb12u11 >apt.log 2>&1
dpkg-deb --extract nginx_*.deb debian

cat >origin.py <<'PYTHON'
import http.server
import sys
import time


class Origin(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        time.sleep(0.05)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.send_header("Cache-Control", self.path.rsplit("/", 1)[1])
        self.end_headers()

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Origin).serve_forever()
PYTHON
read -r origin nginx < <(python3 -c '
import socket
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(each.getsockname()[1] for each in sockets))')
cat >nginx.conf <<CONF
daemon off;
master_process off;
pid nginx.pid;
error_log nginx.log;
events {}
http {
    access_log off;
    proxy_cache_path cache keys_zone=zone:1m;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {
        listen 127.0.0.1:$nginx;
        proxy_cache zone;
        location / {
            proxy_pass http://127.0.0.1:$origin;
        }
        location /lock/ {
            proxy_pass http://127.0.0.1:$origin;
            proxy_cache_lock on;
        }
    }
}
CONF
python3 origin.py "$origin" &
started+=($!)
debian/usr/sbin/nginx -p "$PWD" -c nginx.conf 2>nginx.err &
started+=($!)
for port in "$origin" "$nginx"; do
    curl --silent --output ready --retry 50 --retry-connrefused --retry-delay 1 --max-time 60 "http://127.0.0.1:$port/no-store"
done

# Prints how long each of four callers at once waits, in halves of a second rounded down.
ask() {
    local callers=() each
    for each in 1 2 3 4; do
        curl --silent --max-time 30 --output "body-$each" --write-out '%{time_total}\n' "http://127.0.0.1:$nginx/$1" >"waited-$each" &
        callers+=($!)
    done
    wait "${callers[@]}"
    echo "$1:" $(awk '{ print int($1 / 0.49) / 2 }' waited-? | sort -n)
}
for path in free/max-age=60 free/no-store lock/max-age=60 lock/no-store; do ask "$path"; done >found
cat >seen <<'TEXT'
free/max-age=60: 0 0 0 0
free/no-store: 0 0 0 0
lock/max-age=60: 0 0.5 0.5 0.5
lock/no-store: 0 0.5 1 1.5
TEXT
diff seen found && cat found
