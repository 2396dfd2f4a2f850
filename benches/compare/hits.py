"""Measures answers from memory: with and without a log line, and among many sessions."""

from servers import SESSION, metric


def hit(run):
    bench = run.bench
    gateway = bench.gateway()
    everybody = [bench.loop(), bench.sidecar(gateway), bench.haproxy(gateway, cache=True),
                 bench.nginx_proxy(gateway, cache=True)]
    cpu, rate = run.cpu([*everybody, *bench.floor(answer=bench.folder / "session"), bench.varnish(gateway)], SESSION)
    if run.asked(gateway) > 1000:
        raise SystemExit("somebody did not cache")
    run.row("hit: CPU µs per answer", cpu, ("≤", 1.15, "loop"), ("≤", 0.70, "HAProxy"))
    run.row("hits per second, 64 connections", rate, ("≥", 1, "nginx"), ("≥", 1, "HAProxy"), digits=0)
    for connections in (1, 1000):
        _, few = run.cpu(everybody, SESSION, connections, rounds=3)
        what = f"hits per second, {connections} connection{'s' if connections > 1 else ''}"
        run.row(what, few, ("≥", 1, "nginx"), ("≥", 1, "HAProxy"), digits=0)


def logs(run):
    bench = run.bench
    gateway = bench.gateway()
    sidecar = bench.sidecar(gateway, logs=True)
    cpu, _ = run.cpu([bench.loop(), sidecar, bench.haproxy(gateway, cache=True, logs=True),
                      bench.nginx_proxy(gateway, cache=True, logs=True), bench.varnish(gateway, logs=True)], SESSION)
    if metric(sidecar, "log_lines_dropped_total"):
        raise SystemExit("the sidecar did not write every line")
    run.row("hit with a log line: CPU µs per answer", cpu, ("≤", 1.90, "loop"), ("≤", 0.65, "nginx"))


def sessions(run):
    bench = run.bench
    gateway, sizes = bench.gateway(), (1, 10_000, run.many)
    started, grown = {}, {}
    for size in sizes:
        servers = {"sidecar": bench.sidecar(gateway, name=f"{size} sessions", cache__max_bytes="8GiB")}
        for floor in bench.floor(answer=bench.folder / "session", more=("--keep", str(8 << 30)), name=f"floor, {size}"):
            servers["floor"] = floor
        for name, server in servers.items():
            before = server.resident()
            run.load(server, "/v2/session/", "-c", 64, "-s", size, "-e", "-n", size)
            grown[name] = (server.resident() - before) / size
            started[name, size] = server
    asked = run.asked(gateway)
    cpu = run.turns({key: (run.cost, server, "/v2/session/", "-s", key[1]) for key, server in started.items()})
    if run.asked(gateway) != asked:
        raise SystemExit("not all of them were hits")
    run.row("hit of 1 session: CPU µs", {name: values for (name, size), values in cpu.items() if size == 1})
    for size in sizes[1:]:
        times = {name: [many / one for many, one in zip(cpu[name, size], cpu[name, 1])] for name in grown}
        run.row(f"hit among {size} sessions, times that of 1", times, digits=2)
        run.at_most(1.12)
    body = len(bench.session)
    values = {name: [value] for name, value in grown.items()}
    run.row(f"bytes per cached session of {body}, at {run.many}", values, digits=0)
    run.goal("≤ body + 420", f"body + {grown['sidecar'] - body:.0f}", grown["sidecar"] <= body + 420)
