#!/usr/bin/env python3
"""A merchant's way through Sezzle's API with nothing but Python's standard library.

    journey.py BASE begin              authenticates and creates a session, and prints that session
    journey.py BASE finish SESSION     follows the links of the session at this URL, after its shopper has finished

BASE replaces https://gateway.sezzle.com. The script ends with an exception at the first answer that is not as documented.
"""
import datetime
import http.client
import json
import sys
import urllib.parse
import urllib.request

TIMEOUT = 20
# Calls only the given address: ignores the environment's proxies.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Urllib:
    """Opens a new connection for every call."""

    def call(self, method, url, headers, body):
        request = urllib.request.Request(url, data=body, headers=headers, method=method)
        with OPENER.open(request, timeout=TIMEOUT) as answer:
            return answer.status, answer.headers, answer.read()


class Kept:
    """Makes all calls over one connection of http.client."""

    def __init__(self, base):
        self.connection = http.client.HTTPConnection(urllib.parse.urlsplit(base).netloc, timeout=TIMEOUT)

    def call(self, method, url, headers, body):
        parts = urllib.parse.urlsplit(url)
        assert parts.netloc == f"{self.connection.host}:{self.connection.port}", f"{url} leads elsewhere"
        self.connection.request(method, f"{parts.path}?{parts.query}" if parts.query else parts.path, body, headers)
        answer = self.connection.getresponse()
        return answer.status, answer.headers, answer.read()


class Sezzle:
    def __init__(self, base, transport):
        self.base = base
        self.transport = transport
        token = self.call("POST", "/v2/authentication", 201, {"public_key": "any", "private_key": "any"})
        expiration = datetime.datetime.fromisoformat(token["expiration_date"][:19] + "+00:00")
        assert expiration > datetime.datetime.now(datetime.timezone.utc), token
        self.token = token["token"]

    def call(self, method, target, status, body=None, key=None):
        headers = {"Accept": "application/json"}
        if hasattr(self, "token"):
            headers["Authorization"] = f"Bearer {self.token}"
        if body is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(body).encode()
        if key is not None:
            headers["Sezzle-Request-Id"] = key
        url = target if target.startswith("http") else self.base + target
        got, headers, answer = self.transport.call(method, url, headers, body)
        assert got == status, f"{method} {url}: {got} {answer!r}"
        if not answer:
            return None
        return json.loads(answer) if headers.get_content_type() == "application/json" else answer.decode()


def link(links, rel, method):
    return next(link["href"] for link in links if (link["rel"], link["method"]) == (rel, method))


def price(cents):
    return {"amount_in_cents": cents, "currency": "USD"}


def begin(base):
    sezzle = Sezzle(base, Urllib())
    order = {"intent": "AUTH", "reference_id": "1", "description": "d" * 2000, "order_amount": price(10_000)}
    url = {"href": "https://shop.example/", "method": "GET"}
    session = {"cancel_url": url, "complete_url": url, "customer": {"tokenize": True}, "order": order}
    print(json.dumps(sezzle.call("POST", "/v2/session", 201, session)))


def finish(base, url):
    for transport in (Urllib(), Kept(base)):
        sezzle = Sezzle(base, transport)
        session = sezzle.call("GET", url, 200)
        links = session["order"]["links"]
        assert sezzle.call("GET", link(links, "self", "GET"), 200)["authorization"]["approved"]
        body = {"capture_amount": price(2_000), "partial_capture": True}
        key = f"{type(transport).__name__}-1"
        captured = sezzle.call("POST", link(links, "capture", "POST"), 200, body, key)
        assert sezzle.call("POST", link(links, "capture", "POST"), 200, body, key) == captured, "one capture"
        sezzle.call("POST", link(links, "refund", "POST"), 200, price(500), key + "-refund")
        sezzle.call("PATCH", link(links, "self", "PATCH"), 204, {"reference_id": "2"})
        token = sezzle.call("GET", link(session["tokenize"]["links"], "token", "GET"), 200)
        customers = [customer["uuid"] for customer in sezzle.call("GET", "/v2/customer", 200)]
        assert token["customer"]["uuid"] in customers, customers
        payouts = sezzle.call("GET", "/v2/settlements/summaries?start-date=2026-01-01", 200)
        report = sezzle.call("GET", f"/v2/settlements/details/{payouts[0]['uuid']}", 200)
        assert len(report.splitlines()) > 1, report


match sys.argv[1:]:
    case [base, "begin"]:
        begin(base)
    case [base, "finish", url]:
        finish(base, url)
    case _:
        sys.exit(__doc__)
