#!/usr/bin/env bash
# A webhook that arrives in chunks is empty for Django and Falcon, and refused by Bottle.
#
# Of:       Django 5.2.19, Falcon 4.4.0, Bottle 0.13.4, Flask 3.1.3 (Python), each under gunicorn 27.0.1 and under
#           waitress 3.0.2
# Input:    one signed POST, once with `Content-Length` and once with `Transfer-Encoding: chunked`, as a proxy or a
#           queue sends it that does not know the length at the start. The service computes HMAC-SHA256 over the body.
# Expected: every receiver of HTTP/1.1 has to read chunks (RFC 9112, 7.1). So the service sees the same bytes, and the
#           signature is right both times. A server that wants a length answers 411.
# Seen:     gunicorn decodes the chunks, but gives no CONTENT_LENGTH. Django and Falcon take the missing length for 0
#           and hand an empty body to the service, without an error, so the signature is wrong. Bottle looks for chunks
#           in the bytes that gunicorn has decoded, and answers 400. Flask reads to the end. waitress adds a length, and
#           all four work there: a test with one server says nothing about another.
# Needs:    python3 with pip
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

python3 -m pip install --quiet --no-compile --target python django==5.2.19 falcon==4.4.0 bottle==0.13.4 flask==3.1.3 \
    gunicorn==27.0.1 waitress==3.0.2 2>pip.log
cat >sign.py <<'PYTHON'
import hashlib
import hmac


def sign(body):
    return hmac.new(b"key", body, hashlib.sha256).hexdigest()
PYTHON
cat >with_django.py <<'PYTHON'
import django.conf
import django.core.wsgi
from django.http import HttpResponse
from django.urls import path
from sign import sign

urlpatterns = [path("webhook", lambda request: HttpResponse(sign(request.body)))]
django.conf.settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"])
service = django.core.wsgi.get_wsgi_application()
PYTHON
cat >with_falcon.py <<'PYTHON'
import falcon
from sign import sign


class Webhook:
    def on_post(self, request, response):
        response.text = sign(request.bounded_stream.read())


service = falcon.App()
service.add_route("/webhook", Webhook())
PYTHON
cat >with_bottle.py <<'PYTHON'
import bottle
from sign import sign

service = bottle.Bottle()
service.post("/webhook", callback=lambda: sign(bottle.request.body.read()))
PYTHON
cat >with_flask.py <<'PYTHON'
import flask
from sign import sign

service = flask.Flask(__name__)
service.add_url_rule("/webhook", methods=["POST"], view_func=lambda: sign(flask.request.get_data()))
PYTHON
cat >webhook.py <<'PYTHON'
"""Starts each framework under each server on a Unix socket, and sends one webhook in two forms."""
import http.client
import os
import socket
import subprocess
import sys
import time
from sign import sign

BODY = b'{"event":"order.captured"}'
MEANING = {sign(BODY): "the signature is right", sign(b""): "the signature is the one of an empty body"}


def connect(name):
    connection = http.client.HTTPConnection("localhost", timeout=20)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(20)
    connection.sock.connect(name)
    return connection


def post(name, chunked):
    connection = connect(name)
    connection.request("POST", "/webhook", iter([BODY]) if chunked else BODY, encode_chunked=chunked,
                       headers={"Transfer-Encoding": "chunked"} if chunked else {})
    answer = connection.getresponse()
    told = answer.read().decode()
    connection.close()
    return MEANING.get(told, told) if answer.status == 200 else f"refused with {answer.status}"


for server in ("gunicorn", "waitress"):
    for framework in ("django", "falcon", "bottle", "flask"):
        name = f"{server}-{framework}"
        place = ["--bind", f"unix:{name}"] if server == "gunicorn" else [f"--unix-socket={name}"]
        with open(f"{name}.log", "wb") as log:
            process = subprocess.Popen([sys.executable, "-m", server, *place, f"with_{framework}:service"],
                                       stdout=log, stderr=log)
        try:
            end = time.monotonic() + 30
            while True:
                try:
                    connect(name).close()
                    break
                except OSError:
                    if time.monotonic() > end or process.poll() is not None:
                        sys.exit(f"{name} does not start")
                    time.sleep(0.1)
            for form in ("length", "chunks"):
                print(f"{framework} under {server}, {form}: {post(name, form == 'chunks')}")
        finally:
            process.terminate()
            process.wait()
PYTHON

PYTHONPATH=$PWD/python:$PWD python3 webhook.py >found
cat >seen <<'TEXT'
django under gunicorn, length: the signature is right
django under gunicorn, chunks: the signature is the one of an empty body
falcon under gunicorn, length: the signature is right
falcon under gunicorn, chunks: the signature is the one of an empty body
bottle under gunicorn, length: the signature is right
bottle under gunicorn, chunks: refused with 400
flask under gunicorn, length: the signature is right
flask under gunicorn, chunks: the signature is right
django under waitress, length: the signature is right
django under waitress, chunks: the signature is right
falcon under waitress, length: the signature is right
falcon under waitress, chunks: the signature is right
bottle under waitress, length: the signature is right
bottle under waitress, chunks: the signature is right
flask under waitress, length: the signature is right
flask under waitress, chunks: the signature is right
TEXT
diff seen found && cat found
