"""Measures how much callers notice of a Redis that fails."""

import time

from servers import SESSION

# A phase begins with a second in which all is as before, so that the fault meets requests under way.
BEFORE = 1


def faults(bench):
    """Hits, misses and writes on both sides at the same time, while Redis stalls, is slow, dies and returns."""
    redis = bench.servers.redis()
    # A gateway each, so that neither side waits behind the other's requests.
    pair = bench.servers.pair([bench.servers.gateway(delay=5, writes=20) for _ in range(2)], redis)
    # The first session that is sealed takes 80 ms, because the process seeds its random numbers then. Before a gateway
    # with TLS, the handshake has done that before the pod is ready.
    for pod in pair:
        bench.load(pod, SESSION, "-n", 1)
    phases = {
        "healthy": lambda: None, "stalled": redis.stall, "back after that": redis.go_on, "slow": redis.be_slow,
        "fast again": redis.be_fast, "gone": redis.kill, "started again": redis.start,
    }
    worst = {phase: {pod.name: 0 for pod in pair} for phase in phases}
    failed, count = {pod.name: 0 for pod in pair}, 0
    for number in range(1 if bench.is_quick else 3):
        for place, (phase, happen) in enumerate(phases.items()):
            first = (number * len(phases) + place) * 10**6
            loads = {pod.name: start(bench, pod, first) for pod in pair}
            time.sleep(BEFORE)
            happen()
            for name, (lookups, all) in loads.items():
                ended = [bench.finish(load) for load in all]
                failed[name] += sum(one["failed"] for one in ended)
                count += sum(one["answers"] for one in ended) if name == "with" else 0
                worst[phase][name] = max(worst[phase][name], *(one["max"] / 1e3 for one in ended[:lookups]))
            bench.servers.check()
            if phase in ("back after that", "fast again", "started again"):
                bench.servers.wait_synced(pair[1])
    most = {pod.name: max(by_pod[pod.name] for by_pod in worst.values()) for pod in pair}
    added = most["with"] - most["without"]
    phases = ", ".join(f"{phase} {by_pod['with'] - by_pod['without']:+.0f}" for phase, by_pod in worst.items())
    bench.row("worst lookup, hit or miss, in ms", f"{most['without']:.1f}", f"{most['with']:.1f}", "≤ 50 added",
              f"{added:.1f} added ({phases})", added <= 50)
    if failed["without"]:
        raise SystemExit("the gateway failed")
    bench.row(f"failed of {count} lookups and writes", "0", f"{failed['with']}", "0", f"{failed['with']}",
              not failed["with"])


def start(bench, pod, first):
    """Starts the load of a phase. Returns how many of them are lookups, and all."""
    during = ("-d", BEFORE + bench.seconds)
    new = ("-e", "-s", 10**6, "-f", first)
    return 2, [bench.begin(pod, SESSION, "-c", 16, "-r", 400, *during),
               bench.begin(pod, "/v2/session/", *new, "-c", 64, "-r", 200, *during),
               bench.begin(pod, "/v2/order/", "-w", *new, "-c", 64, "-r", 40, *during)]
