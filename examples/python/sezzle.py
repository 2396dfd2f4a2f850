"""Calls Sezzle through a sidecar, with Python's standard library alone."""
import http.client
import json
import time
import urllib.error
import urllib.request

# Seconds that a call may take. Each exceeds the sidecar's own limit, so that the sidecar's answer arrives.
LOOKUP, WRITE = 15, 40
# A call is made four times at most, with these waits unless Retry-After names another.
WAITS = (0.2, 1, 3)
# The sidecar is on this machine: HTTP_PROXY does not concern it.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Refused(Exception):
    """Sezzle or the sidecar refused the call, and nothing was done."""


class OutcomeUnknown(Exception):
    """The write may have been done. The message says how to find out."""


def advice(method, key, status, code, proxy_status):
    """The answer to a call decides the next step. Without any answer the status is 0."""
    if 200 <= status < 300:
        return "done"
    if status in (429, 503) and code.startswith("sidecar."):
        return "repeat"
    if status in (0, 429) or status >= 500:
        return "repeat" if method == "GET" or key else "unknown"
    # A refusal of an attempt after one that may have been done.
    return "unknown" if "details=" in proxy_status else "refused"


class Sezzle:
    def __init__(self, base="http://127.0.0.1:8080", waits=WAITS):
        self.base, self.waits = base, waits

    def call(self, method, path, body=None, key=None):
        """Makes a call, repeats it where that can do no harm, and returns its answer."""
        for wait in (*self.waits, None):
            status, headers, answer = self.attempt(method, path, body, key)
            error = answer[0] if isinstance(answer, list) and answer and status >= 400 else {}
            code, message = error.get("code", ""), error.get("message", "")
            step = advice(method, key, status, code, headers.get("Proxy-Status", ""))
            if step == "done":
                return answer
            if step == "refused":
                raise Refused(f"{method} {path}: {status} {code}: {message}")
            if step == "unknown" or wait is None:
                break
            retry_after = headers.get("Retry-After", "")
            time.sleep(int(retry_after) if retry_after.isdecimal() else wait)
        failure = OutcomeUnknown if step == "unknown" or method != "GET" else Refused
        raise failure(f"{method} {path}: {status} {code}: {message}")

    def attempt(self, method, path, body, key):
        """Makes a call once. Returns its status, 0 if no answer came, its headers and its JSON."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if key:
            headers["Sezzle-Request-Id"] = key
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, headers, method=method)
        try:
            with OPENER.open(request, timeout=LOOKUP if method == "GET" else WRITE) as got:
                return got.status, got.headers, parsed(got.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, parsed(error.read())
        except (OSError, http.client.HTTPException):
            return 0, {}, None


def parsed(body):
    try:
        return json.loads(body)
    except ValueError:
        return None
