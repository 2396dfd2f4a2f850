"""Measures the use of a fleet: fetches that are saved, lookups that are right, and purges that reach all pods."""

import http.client
import json
import random
import statistics
import subprocess
import sys
import threading
import time
import uuid

from pods import metric
from servers import free_port

# The default of fleet.poll, in milliseconds.
POLL = 100
PODS, LOOKUPS = 10, 20


def fetches(bench):
    """Lookups of each session through random pods, and then of new sessions too while Redis is gone."""
    sessions, seconds = (100, 5) if bench.is_quick else (500, 12)
    redis = bench.servers.redis()
    fetched, gone = {}, {}
    for name, server in (("without", None), ("with", redis)):
        # The delay is to this time as 100 ms are to a minute.
        gateway = bench.servers.gateway(delay=round(seconds / 60 * 100))
        pods = [bench.servers.pod(gateway, server, name=f"{name} {number}") for number in range(PODS)]
        rate = sessions * LOOKUPS / PODS / seconds
        look_up(bench, pods, "-c", 32, "-s", sessions, "-r", rate, "-d", seconds)
        fetched[name] = bench.asked(gateway) / sessions
        # Now every pod has every session, so that the rest does not depend on chance.
        look_up(bench, pods, "-c", 8, "-e", "-s", sessions, "-n", sessions)
        if server:
            server.kill()
        asked = bench.asked(gateway)
        look_up(bench, pods, "-c", 8, "-e", "-s", 2 * sessions, "-n", 4 * sessions)
        gone[name] = bench.asked(gateway) - asked
        bench.servers.stop(*pods, gateway)
    ratio = fetched["with"] / fetched["without"]
    bench.row(f"fetches per session, {PODS} pods, {LOOKUPS} lookups", f"{fetched['without']:.2f}", f"{fetched['with']:.2f}",
              "≤ 0.15", f"{ratio:.3f}", ratio <= 0.15)
    ratio = gone["with"] / gone["without"]
    bench.row("requests to the gateway while Redis is gone", f"{gone['without']}", f"{gone['with']}", "≤ 1.0",
              f"{ratio:.3f}", ratio <= 1)


def look_up(bench, pods, *options):
    """Looks up sessions through all pods at once."""
    loads = [bench.begin(pod, "/v2/session/", *options) for pod in pods]
    for pod, done in zip(pods, [bench.finish(load) for load in loads]):
        if done["failed"]:
            raise SystemExit(f"{done['failed']} lookups through {pod.name} failed")


def stale(bench):
    """Lookups after writes through other pods, without a fault."""
    # Some 900 writes a second: about half of what two cores can take, or polls would be late.
    count, sessions, pods = 20_000 if bench.is_quick else 1_000_000, 240, 4
    gateway, redis = bench.servers.gateway(delay=5, writes=100), bench.servers.redis()
    fleet = [bench.servers.pod(gateway, redis, name=f"pod {number}") for number in range(pods)]
    began = time.perf_counter()
    command = [bench.servers.folder / "history", sessions, count, *(pod.port for pod in fleet)]
    ran = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE)
    if not ran.stdout:
        raise SystemExit("history did not end well")
    found = json.loads(ran.stdout)
    print(f"{found}, {time.perf_counter() - began:.0f} s", file=sys.stderr)
    if found["failed"] or found["checked"] < count:
        raise SystemExit(f"not all requests were answered: {found}")
    if found["primed"] < found["writes"] / 2:
        raise SystemExit(f"the state before the write was in memory so rarely that few lookups could be stale: {found}")
    unconfirmed = sum(metric(pod, "fleet_unconfirmed_served_total") for pod in fleet)
    late = sum(metric(pod, f'fleet_commands_total{{command="{command}",result="timeout"}}')
               for pod in fleet for command in ("poll", "publish"))
    bench.row(f"stale of {found['checked']} lookups, with {found['writes']} writes through other pods", "", f"{found['stale']}", "0",
              f"{found['stale']} (the state before in memory: {found['primed']}; during the write served from there: "
              f"{found['hits_during_writes']}; served unconfirmed: {unconfirmed:.0f}; late replies of Redis: {late:.0f})", found["stale"] == 0)


def purges(bench):
    """From the request to purge a session until no pod answers it from memory."""
    gateway, redis = bench.servers.gateway(), bench.servers.redis()
    controls = [free_port() for _ in range(PODS)]
    pods = [bench.servers.pod(gateway, redis, name=f"pod {number}", control__listen=f"127.0.0.1:{port}")
            for number, port in enumerate(controls)]
    callers = [http.client.HTTPConnection("127.0.0.1", pod.port, timeout=10) for pod in pods]
    took, purging = [], []
    for number in range(40 if bench.is_quick else 300):
        session = str(uuid.uuid4())
        if any(look(caller, session) != 200 for caller in callers):
            raise SystemExit("a lookup failed")
        # The polls of the pods are not to be met in step.
        time.sleep(random.uniform(0, POLL / 1e3))
        purging.append(threading.Thread(target=purge, args=(controls[number % PODS], session)))
        began = time.perf_counter()
        purging[-1].start()
        left = callers
        while left := [caller for caller in left if look(caller, session, {"Cache-Control": "only-if-cached"}) == 200]:
            if time.perf_counter() > began + 5:
                raise SystemExit("a pod did not hear of a purge")
        took.append((time.perf_counter() - began) * 1e3)
    for thread in purging:
        thread.join()
    p99 = sorted(took)[int(len(took) * 0.99)]
    limit = 1.5 * POLL
    bench.row(f"purge seen by all {PODS} pods: p99 of {len(took)} in ms", "", f"{p99:.0f}", f"≤ {limit:.0f}, 1.5 × fleet.poll",
              f"{p99:.0f} (median {statistics.median(took):.0f})", p99 <= limit)


def look(caller, session, headers={}):
    caller.request("GET", f"/v2/session/{session}", headers=headers)
    answer = caller.getresponse()
    answer.read()
    return answer.status


def purge(port, session):
    control = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    control.request("POST", "/purge", json.dumps({"session": session}))
    answer = control.getresponse()
    if answer.status != 200:
        print(f"a purge was refused: {answer.status} {answer.read()}", file=sys.stderr)
