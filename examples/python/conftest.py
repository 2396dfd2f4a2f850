"""The fixtures start the simulated gateway and a sidecar for the tests, each on a free port."""
import json
import os
import pathlib
import subprocess
import threading
import time
import types

import pytest
from sezzle import Sezzle
from shop import Shop

BINARY = os.environ.get("SEZZLE_SIDECAR", "sezzle-sidecar")
KEYS = {"PUBLIC_KEY": "sz_pub_simulated", "PRIVATE_KEY": "sz_pr_simulated"}
SECRET = "a-secret-of-the-sidecar-and-the-shop"


class Simulator:
    """The simulated gateway. docs/simulator.md lists every call."""

    def __init__(self):
        self.process = start(["simulate", "--listen", "127.0.0.1:0"], {})
        # "A simulated Sezzle gateway listens on http://127.0.0.1:40123. …"
        self.url = self.process.stdout.readline().split("listens on ")[1].split(". ")[0]
        drain(self.process)

    def __call__(self, method, path, body=None):
        return Sezzle(self.url, waits=()).call(method, f"/_simulator/{path}", body)

    def effects(self, order):
        return [(effect["kind"], effect["cents"]) for effect in self("GET", f"orders/{order}/effects")["effects"]]


def start(arguments, settings):
    environment = {f"SEZZLE_SIDECAR__{name}": value for name, value in settings.items()}
    environment["PATH"] = os.environ["PATH"]
    return subprocess.Popen([BINARY, *arguments], env=environment, stdout=subprocess.PIPE, text=True)


def drain(process):
    """Reads the rest of the output, or the process would wait for its reader."""
    threading.Thread(target=process.stdout.read, daemon=True).start()


def started(process):
    """The addresses in the line that the sidecar logs once it listens."""
    for line in process.stdout:
        if (entry := json.loads(line))["message"] == "started":
            drain(process)
            return entry
    raise RuntimeError("the sidecar did not start")


def ready(ops):
    deadline = time.monotonic() + 20
    while Sezzle(f"http://{ops}").attempt("GET", "/readyz", None, None)[0] != 200:
        assert time.monotonic() < deadline, "the sidecar is not ready"
        time.sleep(0.01)


@pytest.fixture(scope="session")
def simulator():
    simulator = Simulator()
    yield simulator
    simulator.process.terminate()
    simulator.process.wait()


@pytest.fixture(scope="session")
def stack(simulator, tmp_path_factory):
    """All tests share one shop and one sidecar, because `shop.reset` makes both as after a start."""
    secret = tmp_path_factory.mktemp("shop") / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    shop = Shop(None, SECRET.encode())
    server = shop.serve()
    process = start(["run"], {
        "GATEWAY__ENVIRONMENT": "sandbox",
        "GATEWAY__URL": simulator.url,
        **{f"CREDENTIALS__{name}": value for name, value in KEYS.items()},
        "PROXY__LISTEN": "127.0.0.1:0",
        "OPS__LISTEN": "127.0.0.1:0",
        "CONTROL__LISTEN": "127.0.0.1:0",
        "WEBHOOKS__LISTEN": "127.0.0.1:0",
        "WEBHOOKS__FORWARD_TO": f"http://127.0.0.1:{server.server_address[1]}/webhooks/sezzle",
        "WEBHOOKS__FORWARD_SECRET_FILE": str(secret),
        "DRAIN__GRACE": "0s",
    })  # fmt: skip
    addresses = started(process)
    ready(addresses["ops"])
    shop.sezzle = Sezzle(f"http://{addresses['proxy']}", waits=(0, 0, 0))
    shop.webhooks = f"http://{addresses['webhooks']}/webhooks/sezzle"
    control = Sezzle(f"http://{addresses['control']}", waits=())

    def reset():
        simulator("POST", "reset")
        control.call("POST", "/reset")
        shop.forget()

    shop.reset = reset
    yield shop
    process.terminate()
    process.wait()
    server.shutdown()
    server.server_close()


@pytest.fixture
def shop(stack):
    """Each test begins afresh: a breaker or a 429 of one test does not reach the next one."""
    stack.reset()
    return stack
