"""Measures the cost of a fleet for a request: hits, writes, and misses that the fleet answers."""

import statistics
import time

from servers import SESSION


def hits(bench):
    gateway, redis = bench.servers.gateway(), bench.servers.redis()
    pair = bench.servers.pair((gateway, gateway), redis, cache__max_ttl="1h")
    rates = []

    def cpu(pod):
        used = pod.cpu()
        done = bench.load(pod, SESSION, "-c", 64, "-d", bench.seconds)
        rates.append(done["answers"] / done["seconds"])
        return (pod.cpu() - used) / done["answers"] * 1e6

    # Two rounds of one binary differ by a few percent, so there are twice as many as elsewhere.
    found = bench.interleaved(pair, cpu, 2 * bench.rounds)
    bench.ratio("hit, healthy: CPU µs per answer", found, 1.02, digits=2)

    options = ("-c", 64, "-r", int(statistics.median(rates) / 2), "-d", bench.seconds)

    def tail(pod):
        return bench.load(pod, SESSION, *options)["p99"]

    found = {state: {pod.name: [] for pod in pair} for state in ("healthy", "stalled", "gone")}
    for number in range(bench.rounds + 2):
        for state, values in found.items():
            if state == "stalled":
                redis.stall()
            if state == "gone":
                redis.kill()
            # The first one of a round has the machine in another state than the second.
            for pod in pair[::-1] if number % 2 else pair:
                values[pod.name].append(tail(pod))
            if state == "stalled":
                redis.go_on()
            if state == "gone":
                redis.start()
            bench.servers.wait_synced(pair[1])
    for state, values in found.items():
        bench.ratio(f"hit, Redis {state}: p99 in µs at {options[3]} per second, open loop", values, 1.05, digits=0)


def writes(bench):
    redis = bench.servers.redis()
    # Shorter and longer than fleet.lease.
    for took in (100, 350):
        gateway = bench.servers.gateway(writes=took)
        pair = bench.servers.pair((gateway, gateway), redis)

        def measure(pod):
            return bench.load(pod, "/v2/order/", "-w", "-e", "-s", 10**6, "-c", 128, "-r", 200, "-d", bench.seconds)

        found = bench.interleaved(pair, measure)
        for part, limit in (("p50", 1.02), ("p99", 1.05)):
            values = {name: [one[part] / 1e3 for one in all] for name, all in found.items()}
            bench.ratio(f"write, healthy, gateway of {took} ms: {part} in ms", values, limit, digits=1)
        bench.servers.stop(*pair, gateway)


def misses(bench):
    gateway, redis = bench.servers.gateway(delay=100), bench.servers.redis()
    first, second = (bench.servers.pod(gateway, redis, name=name) for name in ("first pod", "second pod"))
    many = 50
    found, fetched = {"without": [], "with": []}, 0
    for number in range(bench.rounds):
        options = ("-c", 4, "-e", "-s", many, "-f", number * many, "-n", many)
        found["without"].append(bench.load(first, "/v2/session/", *options)["p50"] / 1e3)
        # The last of them are on their way to Redis.
        time.sleep(0.2)
        asked = bench.asked(gateway)
        found["with"].append(bench.load(second, "/v2/session/", *options)["p50"] / 1e3)
        fetched += bench.asked(gateway) - asked
    what = "miss: p50 in ms, answered by the fleet in place of a gateway of 100 ms"
    bench.ratio(what, found, 0.03, digits=2, note=f"; {fetched} of {many * bench.rounds} fetched all the same")
