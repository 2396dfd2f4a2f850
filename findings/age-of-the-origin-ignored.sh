#!/usr/bin/env bash
# nginx and HAProxy store an answer for its whole max-age, however old the answer's own Age header says that it is.
#
# Of:       nginx 1.22.1 and HAProxy 2.6.12 (Debian 12)
# Input:    an origin that answers with `Cache-Control: max-age=60` and `Age: 57`, as a CDN in front of it would: three
#           seconds of freshness are left. Each proxy is asked at 0, 2 and 4 seconds. The body counts the answers of the
#           origin.
# Expected: both count the answer's age (RFC 9111, 4.2.3), and ask the origin again at 4 seconds at the latest.
# Seen:     both still answer from the cache. HAProxy says `age: 61` of an answer that may be 60 seconds old. nginx says
#           `Age: 57` again and again. So a body behind two caches can be served for twice its life.
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

apt-get download nginx=1.22.1-9+deb12u11 haproxy=2.6.12-1+deb12u4 liblua5.3-0=5.3.6-2 >apt.log 2>&1
for package in *.deb; do dpkg-deb --extract "$package" debian; done
LD_LIBRARY_PATH=$(echo "$PWD"/debian/usr/lib/*-linux-gnu)
export LD_LIBRARY_PATH

cat >origin.py <<'PYTHON'
import http.server
import sys


class Origin(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    answers = {}

    def do_GET(self):
        self.answers[self.path] = self.answers.get(self.path, 0) + 1
        body = str(self.answers[self.path]).encode()
        self.send_response(200)
        for name, value in (("Content-Length", len(body)), ("Cache-Control", "max-age=60"), ("Age", "57")):
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Origin).serve_forever()
PYTHON
read -r origin nginx haproxy < <(python3 -c '
import socket
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
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
        location / {
            proxy_pass http://127.0.0.1:$origin;
            proxy_cache zone;
        }
    }
}
CONF
cat >haproxy.cfg <<CONF
defaults
  mode http
  timeout connect 5s
  timeout client 5s
  timeout server 5s
cache zone
  total-max-size 4
  max-age 300
frontend in
  bind 127.0.0.1:$haproxy
  default_backend out
backend out
  http-request cache-use zone
  http-response cache-store zone
  server origin 127.0.0.1:$origin
CONF
python3 origin.py "$origin" &
started+=($!)
debian/usr/sbin/nginx -p "$PWD" -c nginx.conf 2>nginx.err &
started+=($!)
debian/usr/sbin/haproxy -f haproxy.cfg 2>haproxy.err &
started+=($!)
for port in "$origin" "$nginx" "$haproxy"; do
    curl --silent --output ready --retry 50 --retry-connrefused --retry-delay 1 --max-time 60 "http://127.0.0.1:$port/ready"
done

# Prints which of the origin's answers came, and whether its age is over 60.
ask() {
    local age
    curl --silent --max-time 10 --dump-header head --output told "http://127.0.0.1:$2/session"
    age=$(tr -d '\r' <head | sed -n 's/^[Aa]ge: //p')
    echo "$1: answer $(cat told)$([ "${age:-0}" -le 60 ] || echo ', older than 60 seconds')"
}
for second in 0 2 4; do
    [ "$second" = 0 ] || sleep 2
    ask "nginx, $second s" "$nginx"
    ask "HAProxy, $second s" "$haproxy"
done >found
cat >seen <<'TEXT'
nginx, 0 s: answer 1
HAProxy, 0 s: answer 2
nginx, 2 s: answer 1
HAProxy, 2 s: answer 2
nginx, 4 s: answer 1
HAProxy, 4 s: answer 2, older than 60 seconds
TEXT
diff seen found && cat found
