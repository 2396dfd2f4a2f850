"""A small shop that is paid through Sezzle. `docs/testing-your-service.md` shows how it is tested."""
import http.server
import json
import pathlib
import sys
import threading

from sezzle import Sezzle

sys.path.append(str(pathlib.Path(__file__).parents[1] / "webhook"))
from verify import is_genuine


class Shop:
    def __init__(self, sezzle, secret):
        self.sezzle, self.secret = sezzle, secret
        self.events, self.paid, self.down = {}, set(), False
        self.lock = threading.Lock()

    def begin_checkout(self, reference, cents):
        """Creates a session, to whose checkout_url the shopper is sent."""
        url = {"href": "https://shop.example/checkout", "method": "GET"}
        amount = {"amount_in_cents": cents, "currency": "USD"}
        order = {"intent": "AUTH", "reference_id": reference, "description": reference, "order_amount": amount}
        return self.sezzle.call("POST", "/v2/session", {"cancel_url": url, "complete_url": url, "order": order})

    def session(self, uuid):
        return self.sezzle.call("GET", f"/v2/session/{uuid}")

    def ship(self, order, parcel, cents):
        """Captures what one parcel costs. One parcel is one wish and has one key, however often it is tried."""
        amount = {"amount_in_cents": cents, "currency": "USD"}
        capture = {"capture_amount": amount, "partial_capture": True}
        return self.sezzle.call("POST", f"/v2/order/{order}/capture", capture, key=f"parcel-{parcel}-capture")

    def receive(self, body, signature):
        """Takes a webhook, and returns the status of the answer."""
        if not is_genuine(self.secret, body, signature):
            return 401
        if self.down:
            return 503
        event = json.loads(body)
        with self.lock:
            # Events come twice and in any order.
            if event["uuid"] not in self.events:
                self.events[event["uuid"]] = event
                if event["event"] == "order.authorized":
                    self.paid.add(event["data"]["uuid"])
        return 200

    def serve(self):
        """Serves webhooks on a free port of loopback. `server_address` of the server names it."""
        shop = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(shop.receive(body, self.headers.get("Sezzle-Sidecar-Signature")))
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server
