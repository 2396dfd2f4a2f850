"""Repeats measurements in rounds, and notes how much of the machine other work took meanwhile."""

import json
import os
import platform
import re
import resource
import subprocess
import time
import urllib.request

from servers import WORKERS, version


class Rounds:
    def __init__(self, bench, rounds, seconds):
        self.bench, self.rounds, self.seconds = bench, rounds, seconds
        self.elapsed = self.foreign = 0
        self.is_watching = False

    def interleaved(self, started, measure, rounds=None):
        """Measures the servers in turn, so that other work affects all alike. One value per round, by server."""
        return self.turns({server.name: (measure, server) for server in started}, rounds)

    def turns(self, measures, rounds=None):
        """Takes the measures in turn, each a function with its arguments. One value per round, by their keys."""
        for measure, *arguments in measures.values():
            measure(*arguments)
        values = {key: [] for key in measures}
        for _ in range(rounds or self.rounds):
            for key, measure in measures.items():
                values[key].append(self.watched(*measure))
        return values

    def watched(self, measure, *arguments):
        """Measures once, and notes how much of the machine other work took meanwhile. May be nested."""
        if self.is_watching:
            return measure(*arguments)
        self.is_watching = True
        began, before = time.perf_counter(), self.others()
        value = measure(*arguments)
        self.foreign += self.others() - before
        self.elapsed += (time.perf_counter() - began) * os.cpu_count()
        self.is_watching = False
        return value

    def others(self):
        """Seconds of processor time that the machine spent on other work than this measurement."""
        fields = [int(field) for field in open("/proc/stat").readline().split()[1:]]
        idle = fields[3] + fields[4]
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        own = sum(one.ru_utime + one.ru_stime for one in used) + sum(server.cpu() for server in self.bench.running)
        return (sum(fields[:8]) - idle) / os.sysconf("SC_CLK_TCK") - own

    def load(self, server, path, *options):
        """Loads a server with load.c, and returns what that prints. All answers must be right."""
        done = self.finish(self.begin(server, path, *options))
        if done["failed"]:
            raise SystemExit(f"{server.name} gave {done['failed']} wrong answers to {path}")
        return done

    def begin(self, server, path, *options):
        """Starts load.c before a server."""
        command = [self.bench.folder / "load", "-p", server.port, "-u", path, *options]
        return subprocess.Popen([str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def finish(self, load):
        """Waits for a load that was started, and returns what it prints. Answers may have failed."""
        printed, _ = load.communicate()
        if not printed:
            raise SystemExit(f"{' '.join(load.args)} did not end well")
        return json.loads(printed)

    def asked(self, gateway):
        """The number of requests that have reached the gateway."""
        with urllib.request.urlopen(f"http://127.0.0.1:{gateway.port}/count") as answer:
            return int(answer.read())

    def machine(self, *versions):
        """Prints the machine and the versions for which the figures hold."""
        model = re.search(r"model name\s*: (.*)", open("/proc/cpuinfo").read())
        others = self.foreign / self.elapsed if self.elapsed else 0
        print(f"{os.cpu_count()} cores, {model[1] if model else platform.machine()}; Linux {platform.release()}; "
              f"{WORKERS} workers or threads each; other processes took {others:.0%} of the machine in the rounds")
        for command in versions:
            print(f"- {version(command)}")
