"""Starts sidecars with and without a fleet, and what they need."""

import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
# The comparison with other proxies starts sidecars and gateways, and loads them.
sys.path.insert(0, str(HERE.parent / "compare"))
import servers
from redis_server import Redis
from servers import metric

KEY = "c2V2ZW4gdGltZXMgc2V2ZW4gaXMgZm9ydHkgbmluZSE="
# How long a pod may take until it is synced on a busy machine.
PATIENCE = 30


class Bench(servers.Bench):
    def __init__(self, binary, redis):
        super().__init__(binary)
        self.redis_program = redis
        self.compile(HERE / "history.c")
        # The gateway writes the number of the session's writes into these zeros.
        self.write("session", '{"revision":0000000000,' + self.session[1:])
        self.keys = self.write("keys", KEY)

    def redis(self):
        return Redis(self, self.redis_program)

    def pod(self, gateway, redis=None, name=None, binary=None, **settings):
        """A sidecar: in a fleet that shares sessions if there is a Redis, and by itself otherwise."""
        fleet = {"fleet__url": f"redis://127.0.0.1:{redis.port}", "fleet__key_file": self.keys} if redis else {}
        pod = self.sidecar(gateway, name=name or ("with" if redis else "without"), binary=binary,
                           links__base_url="http://sidecar.test:8080", **fleet, **settings)
        if redis:
            self.wait_synced(pod)
        return pod

    def pair(self, gateways, redis, **settings):
        """A pod without a fleet and one with it, each with its gateway."""
        without, within = gateways
        return self.pod(without, **settings), self.pod(within, redis, **settings)

    def wait_synced(self, *pods):
        for pod in pods:
            end = time.perf_counter() + PATIENCE
            while not metric(pod, 'fleet_state{state="synced"}'):
                if time.perf_counter() > end:
                    raise SystemExit(f"{pod.name} did not become synced:\n{pod.errors.read_text()}")
                time.sleep(0.01)

    def check(self):
        """Ends the measurement if something died that should live."""
        for server in self.running:
            if server.process.poll() is not None:
                raise SystemExit(f"{server.name} died:\n{server.errors.read_text()}")
