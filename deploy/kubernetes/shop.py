"""A service beside the sidecar: GET /checkout/UUID returns the state of a session at Sezzle.

The service has no key and no token. It calls the sidecar as it would call Sezzle. It stops on SIGTERM, before the
sidecar does."""

import json
import os
import signal
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SEZZLE = os.environ["SEZZLE_URL"]
# For a moment after the pod gets SIGTERM, new connections still reach it.
LAST_CALLERS = 5


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
            with urllib.request.urlopen(f"{SEZZLE}/v2/session/{session}", timeout=15) as found:
                order = json.load(found).get("order") or {}
                self.answer(200, {"order": order.get("uuid"), "cache": found.headers["Cache-Status"]})
        except urllib.error.HTTPError as refused:
            # The error is Sezzle's, or the sidecar's if its code begins with "sidecar.".
            self.answer(502 if refused.code >= 500 else refused.code, {"error": json.load(refused)})
        except OSError as failed:
            self.answer(502, {"error": f"the service cannot reach the sidecar: {failed}"})

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
