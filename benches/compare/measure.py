"""Loads a server, and measures the cost of the load."""

import json
import os
import re
import subprocess

from rounds import Rounds
from table import Table


class Measure(Rounds, Table):
    """One run: its servers, its rounds, its options and its table."""

    def __init__(self, bench, quick, before=None, default=None):
        Rounds.__init__(self, bench, *((3, 1) if quick else (7, 3)))
        Table.__init__(self)
        self.quick, self.before, self.default = quick, before, default
        self.many = 100_000 if quick else 1_000_000

    def wrk(self, server, path, connections):
        """Loads a server in a closed loop. Returns processor time in µs per answer, and answers per second."""
        command = ["wrk", f"-t{min(connections, 2)}", f"-c{connections}", f"-d{self.seconds}s"]
        before = server.cpu()
        out = subprocess.check_output([*command, f"http://127.0.0.1:{server.port}{path}"], text=True)
        cpu = server.cpu() - before
        if "Non-2xx" in out or "Socket errors" in out:
            raise SystemExit(f"{server.name} failed:\n{out}")
        answers = int(re.search(r"(\d+) requests in", out)[1])
        self.empty_logs()
        return cpu / answers * 1e6, float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])

    def empty_logs(self):
        for log in self.bench.folder.glob("*.log"):
            os.truncate(log, 0)

    def cpu(self, started, path, connections=64, rounds=None):
        """Processor time in µs per answer, and answers per second: each a list of rounds by server."""
        found = self.interleaved(started, lambda server: self.wrk(server, path, connections), rounds)
        return tuple({name: [one[part] for one in all] for name, all in found.items()} for part in (0, 1))

    def cost(self, server, path, *options):
        """Processor time in µs per answer, in a closed loop of load.c with 64 connections."""
        before = server.cpu()
        done = self.load(server, path, "-c", 64, "-d", self.seconds, *options)
        return (server.cpu() - before) / done["answers"] * 1e6

    def steady_cost(self, server, path, connections):
        """As `cost`, with so many connections, which are open and in use before and after."""
        load = self.begin(server, path, "-c", connections, "-d", self.seconds, "-g")
        if load.stdout.readline() != b"ready\n":
            raise SystemExit(f"no load for {server.name}")
        before = server.cpu()
        load.stdin.write(b"\n")
        load.stdin.flush()
        printed = load.stdout.readline()
        took = server.cpu() - before
        load.communicate()
        done = json.loads(printed)
        if done["failed"]:
            raise SystemExit(f"{server.name} gave {done['failed']} wrong answers to {path}")
        return took / done["answers"] * 1e6

    def saturation(self, started, path):
        """The answers per second that the slowest of these servers can give."""
        def rate(server):
            done = self.load(server, path, "-c", 64, "-d", self.seconds)
            return done["answers"] / done["seconds"]

        return min(max(rates) for rates in self.interleaved(started, rate, 2).values())

    def open_loop(self, server, path, rate):
        """The latencies in µs at a fixed rate, as load.c prints them."""
        return self.load(server, path, "-c", 64, "-r", int(rate), "-d", self.seconds)
