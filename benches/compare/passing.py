"""Measures calls that are passed on: over plain connections and TLS, with links rewritten, and captures."""

from servers import ORDER


def passing(run):
    bench = run.bench
    gateway = bench.gateway()
    cpu, rate = run.cpu([bench.sidecar(gateway, rewrite=False), bench.sidecar(gateway, name="links rewritten"),
                         *bench.floor(gateway), bench.haproxy(gateway, cache=False),
                         bench.nginx_proxy(gateway, cache=False)], ORDER)
    rewritten, _ = (figures.pop("links rewritten") for figures in (cpu, rate))
    run.row("pass-through: CPU µs per answer", cpu, ("≤", 0.95, "nginx"), ("≤", 1, "HAProxy"))
    run.row("passed through per second, 64 connections", rate, digits=0)
    run.row("pass-through, links rewritten: CPU µs per answer", {"sidecar": rewritten, "not rewritten": cpu["sidecar"]},
            ("≤", 1.04, "not rewritten"))


def tls(run):
    bench = run.bench
    gateway = bench.tls_gateway()
    cpu, _ = run.cpu([bench.sidecar(gateway, rewrite=False, tls=True),
                      bench.sidecar(gateway, tls=True, name="links rewritten"), *bench.floor(gateway, tls=True),
                      bench.haproxy(gateway, cache=False, tls=True),
                      bench.nginx_proxy(gateway, cache=False, tls=True)], ORDER)
    run.row("pass-through to TLS: CPU µs per answer", cpu, ("≤", 0.80, "nginx"))


def capture(run):
    """Captures with a key and a body. Each is of another order, and has a key of its own.

    The second floor receives both bodies whole and adds as many headers as the sidecar does.
    """
    bench = run.bench
    gateway = bench.gateway()
    started = [bench.sidecar(gateway, rewrite=False), *bench.floor(gateway),
               *bench.floor(gateway, more=("--whole", "3"), name="floor with whole bodies"),
               bench.haproxy(gateway, cache=False), bench.nginx_proxy(gateway, cache=False)]
    cpu = run.interleaved(started, lambda server: run.cost(server, "/v2/order/", "-k", "-e", "-s", 10**9))
    run.row("capture with a key and a body of 300 bytes: CPU µs per answer", cpu, ("≤", 1.05, "nginx"))
