"""Measures what a fleet takes of the machine: memory, size, and Redis's processor."""

import os
import statistics
import time

from redis_server import POLL, Polls

PODS, ENTRIES = 1000, 120


def memory(bench):
    gateway, redis = bench.servers.gateway(), bench.servers.redis()
    found = {"without": [], "with": []}
    for _ in range(3 if bench.is_quick else 10):
        pair = bench.servers.pair((gateway, gateway), redis)
        # Long enough for ten polls.
        time.sleep(1)
        for pod in pair:
            found[pod.name].append(pod.resident() / 2**20)
        bench.servers.stop(*pair)
    bench.difference("idle: resident MiB", found, 2)


def size(bench):
    """Compares the binary with one that was built without the feature, if one was given."""
    if not bench.slim:
        return
    found = {name: [os.stat(file).st_size / 2**20] for name, file in (("without", bench.slim), ("with", bench.servers.binary))}
    bench.difference("binary, with the feature `fleet` and without: MiB", found, 0.8)


def server(bench):
    """The processor time of Redis while very many pods poll, and read what a few write."""
    redis = bench.servers.redis()
    polls = Polls(redis.port, PODS, ENTRIES)
    # Each pod reads where the log ends.
    polls.run(1)
    used, read, appended = redis.server.cpu(), polls.read, polls.appended
    polls.run(5 if bench.is_quick else 15)
    each = (redis.server.cpu() - used) / polls.replies
    # On a busy machine the polls come later than they should.
    cores = each * PODS / POLL
    # The entries of the last tenth of a second are read by the next polls.
    expected = (polls.appended - appended) * PODS * 0.95
    if polls.read - read < expected:
        raise SystemExit(f"the polls returned {polls.read - read} entries of {expected}")
    bench.row(f"Redis: cores for the polls of {PODS} pods, with {ENTRIES} entries a second", "", f"{cores:.2f}", "≤ 0.3",
              f"{cores:.2f} ({each * 1e6:.0f} µs per poll)", cores <= 0.3)
