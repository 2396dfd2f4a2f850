"""The Redis of a measured fleet: its start, its faults, and the polls of very many pods."""

import os
import select
import shutil
import signal
import socket
import threading
import time
from pathlib import Path

from servers import free_port

# Keys and commands are those of src/fleet/commands/mod.rs. POLL is the default of fleet.poll, in seconds.
KEYS = "szs1:{bench}"
POLL = 0.1
# How much of the time a slow server stands still, in seconds.
STILL, AWAKE = 0.020, 0.005


def find(given):
    """The path of redis-server."""
    found = given or shutil.which("redis-server")
    if not found:
        raise SystemExit("redis-server is not in PATH: install it, or give --redis FILE")
    # A server that was unpacked and not installed brings its libraries along.
    libraries = Path(found).absolute().parent.parent / "lib" / f"{os.uname().machine}-linux-gnu"
    if given and libraries.is_dir():
        os.environ["LD_LIBRARY_PATH"] = str(libraries)
    # Debian's redis-server is a link to another program, which goes by the name of the link.
    return Path(found).absolute()


class Redis:
    """A Redis that keeps nothing, and always comes back at the same port."""

    def __init__(self, bench, program):
        self.bench, self.program, self.port = bench, program, free_port()
        self.server = self.slow = None
        self.start()

    def start(self):
        command = [self.program, "--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no",
                   "--dir", self.bench.folder]
        self.server = self.bench.start("redis", command, self.port)

    def stall(self):
        """Lets the process stand still. Its connections stay."""
        self.server.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.server.process.send_signal(signal.SIGCONT)

    def kill(self):
        self.server.process.kill()
        self.server.process.wait()
        self.bench.running.remove(self.server)

    def be_slow(self):
        """Lets the process stand still most of the time, until `be_fast`."""
        fast = threading.Event()

        def hinder():
            while not fast.is_set():
                self.stall()
                time.sleep(STILL)
                self.go_on()
                time.sleep(AWAKE)

        self.slow = (fast, threading.Thread(target=hinder, daemon=True))
        self.slow[1].start()

    def be_fast(self):
        fast, thread = self.slow
        fast.set()
        thread.join()


def command(*words):
    """A command in Redis's protocol."""
    words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


class Polls:
    """The polls of many pods: a connection each, a poll on each every 100 ms, and entries that all of them read."""

    def __init__(self, port, pods, entries_per_second):
        self.port, self.pods, self.between_entries = port, pods, 1 / entries_per_second
        self.appended = self.read = self.replies = 0
        self.writer = self.connect()
        self.call("SET", f"{KEYS}:id", "0123456789abcdef")
        self.append()
        self.connections = [self.connect() for _ in range(pods)]
        self.by_file = {connection.fileno(): connection for connection in self.connections}
        # Each pod reads on from the newest entry of its last poll.
        self.questions = [self.question] * pods

    def connect(self):
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def call(self, *words):
        self.writer.sendall(command(*words))
        reply = self.writer.recv(65536)
        if reply[:1] not in (b"+", b"$"):
            raise SystemExit(f"Redis refused {words[0]}: {reply!r}")
        return reply

    def append(self):
        """Appends an entry of 29 bytes, as every entry has, and prepares the poll that reads on from there."""
        reply = self.call("XADD", f"{KEYS}:log", "MAXLEN", "~", 65536, "*", "e", bytes(29))
        self.appended += 1
        self.question = (command("SETRANGE", f"{KEYS}:id", 0, "")
                         + command("XRANGE", f"{KEYS}:log", reply.split(b"\r\n")[1], "+", "COUNT", 1000)
                         + command("TIME"))

    def run(self, seconds):
        """Polls for so long, one pod after the other at equal distances, and returns the time that this took."""
        ready = select.epoll()
        for file in self.by_file:
            ready.register(file, select.EPOLLIN)
        polls, last, between = 0, round(seconds * self.pods / POLL), POLL / self.pods
        self.replies, began = 0, time.perf_counter()
        entry_due = began
        while self.replies < last:
            now = time.perf_counter()
            if now > began + seconds + 5:
                raise SystemExit("Redis did not answer all polls")
            while polls < last and now >= began + polls * between:
                pod = polls % self.pods
                self.connections[pod].send(self.questions[pod])
                self.questions[pod] = self.question
                polls += 1
            if now >= entry_due:
                self.append()
                entry_due += self.between_entries
            for file, _ in ready.poll(max(0, min(began + polls * between, entry_due) - now)):
                self.receive(self.by_file[file])
        return time.perf_counter() - began

    def receive(self, connection):
        reply = connection.recv(1 << 16)
        # An entry is zeros, so nothing in a reply that is no error looks like one.
        if not reply or b"-ERR" in reply:
            raise SystemExit(f"Redis refused a poll: {reply[:100]!r}")
        self.read += reply.count(b"\r\n$29\r\n")
        # Each reply ends in the reply to TIME, and nothing else there has ten characters.
        self.replies += reply.count(b"\r\n$10\r\n")
