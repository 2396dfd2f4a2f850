"""Measures how the cost of an answer grows with connections, with the size of bodies, and with stored sessions."""

from servers import ORDER, SESSION

CONNECTIONS = (1, 8, 64, 512, 4096)
BODIES = (0, 4096, 16384, 65536)
# A step that costs more than this factor is a cliff.
CLIFF = 1.5
ROUNDS = 3


def growth(run):
    connections(run)
    bodies(run)
    sessions(run)


def connections(run):
    bench = run.bench
    for what, path, cache in (("hit", SESSION, True), ("pass-through", ORDER, False)):
        gateway = bench.gateway()
        # No call waits for a permit, and all connections to the gateway are kept.
        floor = bench.floor(gateway, answer=cache and bench.folder / "session")
        started = [bench.sidecar(gateway, rewrite=False, limits__in_flight=8192), *floor,
                   bench.nginx_proxy(gateway, cache, keepalive=4096)]
        found = run.turns({(server.name, number): (run.steady_cost, server, path, number)
                           for number in CONNECTIONS for server in started}, ROUNDS)
        steps(run, found, CONNECTIONS, lambda number: f"{what}, {counted(number, 'connection')}: CPU µs per answer")
        bench.stop(*started, gateway)


def bodies(run):
    """The answer is the session that all parts use, and longer ones."""
    bench = run.bench
    for what, path, cache in (("hit", SESSION, True), ("pass-through", ORDER, False)):
        measures, sizes = {}, []
        for least in BODIES:
            body = bench.padded(least)
            gateway, size = bench.gateway(body=body), body.stat().st_size
            sizes.append(size)
            for server in (bench.sidecar(gateway, rewrite=False), *bench.floor(gateway, answer=cache and body),
                           bench.nginx_proxy(gateway, cache)):
                measures[server.name, size] = (run.steady_cost, server, path, 64)
        found = run.turns(measures, ROUNDS)
        # More bytes cost more, in every server: a cliff is a step beside that of nginx.
        steps(run, found, sizes, lambda size: f"{what}, body of {size} bytes: CPU µs per answer", beside="nginx")
        bench.stop()


def sessions(run):
    bench = run.bench
    gateway, measures, numbers = bench.gateway(), {}, (1, 1000, run.many)
    for number in numbers:
        for server in (bench.sidecar(gateway, rewrite=False, cache__max_bytes="8GiB"),
                       bench.nginx_proxy(gateway, cache=True, sessions=number)):
            run.load(server, "/v2/session/", "-c", 64, "-s", number, "-e", "-n", number)
            measures[server.name, number] = (run.cost, server, "/v2/session/", "-s", number)
    asked = run.asked(gateway)
    found = run.turns(measures, ROUNDS)
    if run.asked(gateway) != asked:
        raise SystemExit("not all of them were hits")
    steps(run, found, numbers, lambda number: f"hit among {counted(number, 'session')}: CPU µs per answer")


def counted(number, what):
    return f"{number} {what}{'s' if number > 1 else ''}"


def steps(run, found, sizes, title, beside=None):
    """Adds a row for each size, whose goal is that the step from the size before is no cliff.

    With `beside` the sidecar's step counts in proportion to that server's step.
    """
    before = None
    for size in sizes:
        values = {server: rounds for (server, one), rounds in found.items() if one == size}
        if before is None:
            run.row(title(size), values)
        elif beside is None:
            run.row(title(size), {**values, "step before": before["sidecar"]}, ("≤", CLIFF, "step before"))
        else:
            grown = [own * now / then for own, now, then in zip(before["sidecar"], values[beside], before[beside])]
            run.row(title(size), {**values, f"step before, grown as {beside}": grown},
                    ("≤", CLIFF, f"step before, grown as {beside}"))
        before = values
