"""Measures the process by itself: memory, start, size, many misses at once, and other builds of it."""

import os
import time
import uuid

from servers import ORDER, SESSION


def process(run):
    gateway, resident, ready = run.bench.gateway(), [], []
    for _ in range(10):
        server = run.bench.sidecar(gateway)
        ready.append(server.started_in * 1e3)
        time.sleep(0.2)
        resident.append(server.resident() / 2**20)
        run.bench.stop(server)
    run.row("idle: resident MiB", {"sidecar": resident})
    run.at_most(6.5)
    run.row("start to ready, an exchange on loopback included: ms", {"sidecar": ready})
    run.at_most(4)
    run.row("binary, which the image adds next to nothing to: MiB", {"sidecar": [os.stat(run.bench.binary).st_size / 2**20]})
    run.at_most(16)


def misses(run):
    gateway = run.bench.gateway(delay=200)
    sidecar = run.bench.sidecar(gateway)
    direct, last, requests = [], [], []
    for _ in range(run.rounds):
        path, before = f"/v2/session/{uuid.uuid4()}", run.asked(gateway)
        last.append(run.load(sidecar, path, "-c", 1000, "-n", 1000)["max"] / 1e3)
        requests.append(run.asked(gateway) - before)
        direct.append(run.load(gateway, path, "-c", 1, "-n", 1)["max"] / 1e3)
    run.row("1000 misses at once: the last one's ms", {"sidecar": last, "gateway": direct}, ("≤", 1.2, "gateway"))
    run.goal("1 request to the gateway", f"{max(requests)}", max(requests) == 1)


def default(run):
    """Compares a default release build with the image's binary."""
    gateway = run.bench.gateway()
    for what, path in (("hit", SESSION), ("pass-through", ORDER)):
        both = [run.bench.sidecar(gateway, rewrite=False),
                run.bench.sidecar(gateway, rewrite=False, name="default build", binary=run.default)]
        cpu, _ = run.cpu(both, path)
        run.row(f"{what}, default build beside the image's: CPU µs", cpu, ("≤", 1.10, "sidecar"), own="default build")
        run.bench.stop(*both)


def beside(run):
    """Compares this build with an earlier one: the cost of a hit, a passed-on call and a miss."""
    gateway = run.bench.gateway()
    # Two runs of one build differ by up to 3 %.
    for what, path, options, settings, goal in (
        ("hit", SESSION, (), {}, 1.03),
        ("pass-through", ORDER, (), {"rewrite": False}, 1.03),
        # Each request asks for another session.
        ("miss with links rewritten", "/v2/session/", ("-e", "-s", 10**9), {}, 0.95),
    ):
        now = run.bench.sidecar(gateway, **settings)
        before = run.bench.sidecar(gateway, name="before", binary=run.before, **settings)
        cpu = run.interleaved([now, before], lambda server: run.cost(server, path, *options))
        run.row(f"{what}: CPU µs, beside the earlier build", cpu, ("≤", goal, "before"))
        run.bench.stop(now, before)
