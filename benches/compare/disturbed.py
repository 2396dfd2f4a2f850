"""Measures how far one caller, the gateway or an operator moves the slowest answers of the others."""

import contextlib
import signal
import socket
import threading
import time
import urllib.request
import uuid

from servers import ORDER, SESSION, free_port, metric

# Small enough that the disturbances find processor time of their own.
SHARE = 0.3
BIG = f"/v2/order/{uuid.UUID(int=0x4000_8000_0000_0000_0002)}"
BIG_BYTES = 16 << 20
# Below this path the gateway is slow.
SLOW, SLOW_MILLISECONDS = "/v2/customer/", 1000
# More sessions of 1.3 KB than the cache has room for. nginx counts each as a file of 4 KiB.
CACHE, NGINX_CACHE, FILL = "8MiB", "14m", 10_000
UNDISTURBED = "undisturbed"


@contextlib.contextmanager
def repeated(act, interval):
    """Does something over and over, in a thread of its own. Fails if that failed."""
    stop, failures = threading.Event(), []

    def repeat():
        try:
            while not stop.is_set():
                act()
                stop.wait(interval)
        except Exception as failure:
            failures.append(failure)

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if failures:
        raise SystemExit(f"a disturbance failed: {failures[0]!r}")


@contextlib.contextmanager
def slow_callers(server):
    """16 callers ask for 16 MiB each, and read a byte every 100 ms: more often, this thread itself would move a p99."""
    callers = []
    for _ in range(16):
        caller = socket.socket()
        # The sidecar has to hold what the kernel does not.
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        caller.settimeout(10)
        caller.connect(("127.0.0.1", server.port))
        caller.sendall(f"GET {BIG} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        if caller.recv(12, socket.MSG_WAITALL) != b"HTTP/1.1 200":
            raise SystemExit("a slow caller got no answer")
        callers.append(caller)

    def read():
        for caller in callers:
            if not caller.recv(1):
                raise ConnectionError("a slow caller was cut off")

    with repeated(read, 0.1):
        yield
    for caller in callers:
        caller.close()


@contextlib.contextmanager
def background(run, server, path, *options):
    """A further load for as long as the measurement takes."""
    load = run.begin(server, path, "-d", run.seconds + 0.5, *options)
    time.sleep(0.25)
    try:
        yield
    finally:
        done = run.finish(load)
    if done["failed"] or not done["answers"]:
        raise SystemExit(f"{done['failed']} of {done['answers']} answers to the other callers failed")


def slow_gateway(run, server):
    """Up to 60 calls at a time that take the gateway a second. They begin one by one: calls that begin at once also end
    at once, and then the other callers wait for a burst and not for a gateway."""
    return background(run, server, SLOW, "-s", 1000, "-c", 64, "-r", 60)


def ask(port, path, body=None):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", data=body, timeout=10) as answer:
        answer.read()


@contextlib.contextmanager
def purges(run, server):
    """An operator purges everything each second, while a few misses bring new sessions."""
    with background(run, server, "/v2/session/", *misses(500)):
        with repeated(lambda: ask(server.control, "/purge", b'{"all": true}'), 1):
            yield


def misses(rate):
    """The options of load.c by which so many sessions a second are looked up that nobody has asked for before."""
    return "-c", 16, "-s", 10**9, "-f", time.monotonic_ns(), "-e", "-r", rate


def everybodys(run, server):
    """The disturbances that every proxy can have, by name: functions that give a context for the measurement."""
    return {
        UNDISTURBED: contextlib.nullcontext,
        # The difference of two measurements without a cause.
        "nothing": contextlib.nullcontext,
        "callers read a byte at a time": lambda: slow_callers(server),
        "the gateway is slow for other paths": lambda: slow_gateway(run, server),
        "evicting misses, 500 a second": lambda: background(run, server, "/v2/session/", *misses(500)),
    }


def operators(run, server):
    """The disturbances that come from an operator of the sidecar."""
    reload = lambda: server.process.send_signal(signal.SIGHUP)
    return {
        "a reload each second": lambda: repeated(reload, 1),
        "five scrapes a second": lambda: repeated(lambda: ask(server.ops, "/metrics"), 0.2),
        "a purge of everything each second": lambda: purges(run, server),
    }


def controlled(bench, gateway, name):
    """Starts a sidecar with a small cache and a control listener."""
    control = free_port()
    server = bench.sidecar(gateway, rewrite=False, name=name, cache__max_bytes=CACHE,
                           control__listen=f"127.0.0.1:{control}")
    server.control = control
    return server


def disturbed(run):
    bench = run.bench
    gateway = bench.routing_gateway(bench.gateway(delay=SLOW_MILLISECONDS), SLOW, BIG, BIG_BYTES)
    sidecar, elsewhere = (controlled(bench, gateway, name) for name in ("sidecar", "elsewhere"))
    nginx = bench.nginx_proxy(gateway, cache=True, most=NGINX_CACHE)
    # With a cache, nginx would store the passed-on answers as well.
    nginx_passing = bench.nginx_proxy(gateway, cache=False)
    kinds = {"hit": (SESSION, {"sidecar": sidecar, "nginx": nginx}),
             "pass-through": (ORDER, {"sidecar": sidecar, "nginx": nginx_passing})}
    rates = {what: SHARE * run.saturation(list(servers.values()), path) for what, (path, servers) in kinds.items()}

    def measure(server, path, rate, disturb, target):
        for one in {server, target}:
            # The cache is full, whatever the last disturbance removed, and the session of the hits is in it.
            run.load(one, "/v2/session/", "-c", 64, "-s", FILL, "-f", time.monotonic_ns(), "-e", "-n", FILL)
            run.load(one, SESSION, "-n", 1000)
        with disturb():
            return run.open_loop(server, path, rate)["p99"]

    found = {}
    # One server after the other: nginx writes what slow callers leave unread to files, which moves whoever comes next.
    for name in ("sidecar", "nginx"):
        measures = {}
        for what, (path, servers) in kinds.items():
            server = servers[name]
            # The same disturbance of another sidecar tells what the machine itself adds.
            targets = {name: server, "elsewhere": elsewhere} if name == "sidecar" else {name: server}
            for column, target in targets.items():
                others = operators(run, target) if name == "sidecar" else {}
                for disturbance, disturb in {**everybodys(run, target), **others}.items():
                    measures[what, disturbance, column] = measure, server, path, rates[what], disturb, target
        found |= run.turns(measures)
    if metric(sidecar, 'config_reloads_total{result="success"}') < 2 * run.rounds:
        raise SystemExit("the sidecar did not reload")
    for (what, disturbance, name), values in found.items():
        if name != "sidecar":
            continue
        at = f"{what} at {rates[what]:.0f} per second: p99"
        columns = {column: found[what, disturbance, column] for column in ("sidecar", "elsewhere", "nginx")
                   if (what, disturbance, column) in found}
        if disturbance == UNDISTURBED:
            run.row(f"{at} in µs, {UNDISTURBED}", columns, digits=0)
            continue
        times = {column: [moved / still for moved, still in zip(values, found[what, UNDISTURBED, column])]
                 for column, values in columns.items()}
        run.row(f"{at}, times that {UNDISTURBED}: {disturbance}", times, digits=2)
        run.at_most(1.20)
