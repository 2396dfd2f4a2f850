"""Checks that a webhook came through the sidecar.

    python3 verify.py SECRET_FILE SIGNATURE < body

SIGNATURE is the header Sezzle-Sidecar-Signature, or an empty word if the request has none.
"""
import hashlib
import hmac
import json
import pathlib
import sys


def is_genuine(secret, body, signature):
    """Whether the sidecar signed these bytes. The body is the raw one, before any JSON parser."""
    expected = hmac.new(secret, body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected.encode(), (signature or "").encode())


if __name__ == "__main__":
    secret = pathlib.Path(sys.argv[1]).read_bytes().strip()
    body = sys.stdin.buffer.read()
    if not is_genuine(secret, body, sys.argv[2]):
        sys.exit("not signed by the sidecar: answer 401")
    # Every delivery of an event has the same uuid.
    print(json.loads(body)["uuid"])
