"""This small shop is paid through Sezzle. `docs/testing-your-service.md` shows how its tests work."""
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
        self.lock = threading.Lock()
        self.forget()

    def forget(self):
        """A test begins with a shop that has seen no event."""
        self.events, self.paid, self.down = {}, set(), False

    def begin_checkout(self, reference, cents):
        """The shop creates a session, and sends the shopper to its checkout_url."""
        url = {"href": "https://shop.example/checkout", "method": "GET"}
        amount = {"amount_in_cents": cents, "currency": "USD"}
        order = {"intent": "AUTH", "reference_id": reference, "description": reference, "order_amount": amount}
        return self.sezzle.call("POST", "/v2/session", {"cancel_url": url, "complete_url": url, "order": order})

    def session(self, uuid):
        return self.sezzle.call("GET", f"/v2/session/{uuid}")

    def ship(self, order, parcel, cents):
        """The shop captures the price of one parcel. One parcel has one key, however often the shop tries."""
        amount = {"amount_in_cents": cents, "currency": "USD"}
        capture = {"capture_amount": amount, "partial_capture": True}
        return self.sezzle.call("POST", f"/v2/order/{order}/capture", capture, key=f"parcel-{parcel}-capture")

    def receive(self, body, signature):
        """The shop takes a webhook. The result is the status of its answer."""
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
        """The shop serves webhooks on a free port of loopback, which `server_address` of the server names."""
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
