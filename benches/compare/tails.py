"""Measures the slowest answers at a fixed rate, beside HAProxy and nginx."""

import statistics

from servers import ORDER, SESSION

SHARES = (0.5, 0.8)


def tails(run):
    bench = run.bench
    gateway = bench.gateway()
    # Other work of the machine moves the slowest answers first, so tails take more rounds.
    rounds = run.rounds if run.quick else 2 * run.rounds
    for what, path, cache in (("hit", SESSION, True), ("pass-through", ORDER, False)):
        started = [bench.sidecar(gateway, rewrite=False), bench.haproxy(gateway, cache), bench.nginx_proxy(gateway, cache)]
        most = run.saturation(started, path)
        for share in SHARES:
            # The same rate for every server.
            rate = int(share * most)
            found = run.interleaved(started, lambda server: run.open_loop(server, path, rate), rounds)
            for part in ("p99", "p99.9"):
                values = {name: [one[part] for one in all] for name, all in found.items()}
                better = min(("HAProxy", "nginx"), key=lambda name: statistics.median(values[name]))
                run.row(f"{what}: {part} in µs at {rate} per second, {share:.0%} of saturation", values,
                        ("≤", 0.80, better), digits=0)
        bench.stop(*started)
