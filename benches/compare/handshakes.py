"""Measures handshakes to the gateway: their round trips, and how many callers wait for one after a silence."""

import http.client
import time
from concurrent.futures import ThreadPoolExecutor
from statistics import mean

from relay import Relay
from servers import ORDER

CALLERS, SILENCE = 8, 30
# Half a round trip to the delayed gateway, in seconds.
DELAY = 0.05


class Callers:
    """Callers that keep their connections, and call at once."""

    def __init__(self, server):
        self.connections = [http.client.HTTPConnection("127.0.0.1", server.port, timeout=20) for _ in range(CALLERS)]
        for connection in self.connections:
            connection.connect()

    def call(self):
        """Lets all of them call once. Returns how long each waited, in seconds."""
        with ThreadPoolExecutor(CALLERS) as pool:
            return list(pool.map(self.call_by, self.connections))

    @staticmethod
    def call_by(connection):
        began = time.perf_counter()
        connection.request("GET", ORDER)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise SystemExit(f"a caller got {answer.status}")
        return time.perf_counter() - began


def round_trips(run):
    """The round trips of a new connection, to a gateway that takes X25519MLKEM768 and one that takes P-384 alone."""
    bench = run.bench
    hybrid = bench.hybrid_gateway(bench.gateway())
    if not hybrid:
        return
    other = bench.tls_gateway("ssl_protocols TLSv1.3; ssl_ecdh_curve secp384r1;")
    found = {}
    for name, gateway in ("sidecar", hybrid), ("to a gateway that takes P-384 alone", other):
        relay = Relay(gateway.port)
        Callers(bench.sidecar(relay, tls=True)).call()
        # Later connections know from the first one which groups the gateway takes.
        found[name] = relay.round_trips()[:1]
    run.row("new TLS connection to a gateway that takes X25519MLKEM768 alone: round trips", found, digits=0)
    run.goal("1", str(found["sidecar"][0]), found["sidecar"][0] == 1)


def silence(run):
    """Calls that wait for a handshake, of callers that call at once after half a minute without a call."""
    bench = run.bench
    relay = Relay(bench.tls_gateway().port, DELAY)
    builds = {"sidecar": bench.binary, **({"before": run.before} if run.before else {})}
    # All of them are silent at the same time.
    started = [(name, Callers(bench.sidecar(relay, tls=True, name=f"{name} {number}", binary=binary)))
               for name, binary in builds.items() for number in range(3 if run.quick else 5)]
    for _ in range(3):
        for _, callers in started:
            callers.call()
    time.sleep(SILENCE)
    shares = {name: [] for name in builds}
    for name, callers in started:
        # A call over a kept connection takes one round trip, and a handshake takes one or two more.
        waited = [took for took in callers.call() if took > 1.5 * 2 * DELAY]
        shares[name].append(len(waited) / CALLERS)
    share, before = mean(shares["sidecar"]), mean(shares.get("before", [1]))
    run.row(f"{CALLERS} callers after {SILENCE} s of silence: share of calls that wait for a handshake", shares, digits=2)
    run.goal("≤ 0.30" + (" × before" if run.before else ""), f"{share:.2f}", share <= 0.3 * before)
