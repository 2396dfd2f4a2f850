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
    gateway, started, sizes = run.bench.gateway(), [], {}
    for number in (1, 10_000, run.many):
        server = run.bench.sidecar(gateway, name=f"{number} sessions", cache__max_bytes="8GiB")
        before = server.resident()
        run.load(server, "/v2/session/", "-c", 64, "-s", number, "-e", "-n", number)
        grown = (server.resident() - before) / number
        started.append(server)
        sizes[server.name] = number
    asked = run.asked(gateway)
    cpu = run.interleaved(started, lambda server: run.cost(server, "/v2/session/", "-s", sizes[server.name]))
    if run.asked(gateway) != asked:
        raise SystemExit("not all of them were hits")
    for server in started[1:]:
        values = {"sidecar": cpu[server.name], "1 session": cpu["1 sessions"]}
        run.row(f"hit among {sizes[server.name]} sessions: CPU µs", values, ("≤", 1.12, "1 session"))
    body = len(run.bench.session)
    run.row(f"bytes per cached session of {body}, at {run.many}", {"sidecar": [grown]}, digits=0)
    run.goal("≤ body + 420", f"body + {grown - body:.0f}", grown <= body + 420)
