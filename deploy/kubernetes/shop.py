"""A service beside the sidecar: GET /checkout/UUID returns the state of a session at Sezzle.

The service has no key and no token, and calls the sidecar as it would call Sezzle. On SIGTERM the service stops before
the sidecar does."""

import http.client
import json
import os
import signal
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

# `http://HOST:PORT` or `https://HOST`, or `unix:PATH` for the Unix socket of the sidecar.
SEZZLE = urlsplit(os.environ["SEZZLE_URL"])
# Longer than the sidecar needs for a lookup.
TIMEOUT = 20
# For a moment after the pod gets SIGTERM, new connections still reach it.
LAST_CALLERS = 5


def lookup(path):
    if SEZZLE.scheme == "unix":
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(TIMEOUT)
    elif SEZZLE.scheme == "https":
        # Trusts the authorities of SSL_CERT_FILE.
        connection = http.client.HTTPSConnection(SEZZLE.netloc, timeout=TIMEOUT)
    else:
        connection = http.client.HTTPConnection(SEZZLE.netloc, timeout=TIMEOUT)
    try:
        if connection.sock:
            connection.sock.connect(SEZZLE.path)
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.headers, json.load(answer)
    finally:
        connection.close()


class Shop(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/healthz":
            self.answer(200, {"status": "well"})
        elif self.path.startswith("/checkout/"):
            self.checkout(self.path.removeprefix("/checkout/"))
        else:
            self.answer(404, {"error": "try /checkout/UUID"})

    def checkout(self, session):
        try:
            status, headers, body = lookup(f"/v2/session/{session}")
        except (OSError, http.client.HTTPException) as failed:
            self.answer(502, {"error": f"the service cannot reach the sidecar: {failed}"})
            return
        if status == 200:
            order = body.get("order") or {}
            self.answer(200, {"order": order.get("uuid"), "cache": headers["Cache-Status"]})
        else:
            # The error is Sezzle's, or the sidecar's if its code begins with "sidecar.".
            self.answer(502 if status >= 500 else status, {"error": body})

    def answer(self, status, body):
        text = json.dumps(body).encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


def main():
    server = ThreadingHTTPServer(("", int(os.environ["PORT"])), Shop)
    # Closing the server waits for requests in progress.
    server.daemon_threads = False

    def stop(*_):
        threading.Thread(target=lambda: (time.sleep(LAST_CALLERS), server.shutdown())).start()

    signal.signal(signal.SIGTERM, stop)
    server.serve_forever()
    server.server_close()


if __name__ == "__main__":
    main()
