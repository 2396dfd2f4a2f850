"""Installs, configures, starts, watches and ends the sidecar, and the gateways behind it."""

import datetime
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# One per core but at most 2, as the sidecar chooses by default. All servers get the same number.
WORKERS = min(os.cpu_count() or 1, 2)
# The path that a cache answers, and the path that is passed through.
SESSION = f"/v2/session/{uuid.UUID(int=0x4000_8000_0000_0000_0001)}"
ORDER = f"/v2/order/{uuid.UUID(int=0x4000_8000_0000_0000_0001)}"
PACKAGES = {"nginx": "nginx-light", "varnishd": "varnish"}


def install(*programs):
    """Installs missing programs from Debian."""
    # Debian installs daemons in /usr/sbin, which is not on every user's path.
    os.environ["PATH"] += ":/usr/sbin"
    missing = [PACKAGES.get(program, program) for program in programs if not shutil.which(program)]
    if missing:
        root = [] if os.geteuid() == 0 else ["sudo"]
        for arguments in (["update"], ["install", "--yes", "--no-install-recommends", "libc6-dev", *missing]):
            subprocess.run([*root, "apt-get", *arguments], check=True, stdout=sys.stderr)


def build():
    """Builds the program of the image, and returns its path."""
    image = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "image"
    subprocess.run([ROOT / "deploy/image/build", image], check=True, stdout=sys.stderr)
    return image / "sezzle-sidecar"


def build_floor():
    """Builds benches/floor.rs with the image's flags, which `build` has used before, and returns its path."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
    profile = hashlib.sha256((ROOT / "deploy/image/hot.profdata.gz").read_bytes()).hexdigest()[:16]
    flags = ["-Ctarget-feature=+crt-static", f"-Cprofile-use={target}/{profile}.profdata"]
    triple = re.search(r"host: (.*)", subprocess.check_output(["rustc", "-vV"], text=True))[1]
    cargo = ["cargo", "build", "--locked", "--release", "--no-default-features", "--target", triple, "--bench", "floor",
             "--message-format", "json-render-diagnostics"]
    environment = {**os.environ, "CARGO_ENCODED_RUSTFLAGS": "\x1f".join(flags)}
    built = subprocess.run(cargo, check=True, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True).stdout
    artifacts = [json.loads(line) for line in built.splitlines()]
    return next(one["executable"] for one in artifacts if one.get("executable") and one["target"]["name"] == "floor")


def version(command):
    ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return ran.stdout.splitlines()[0].strip() if ran.stdout else "?"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Server:
    """A process and its children."""

    def __init__(self, name, command, port, folder, environment=None, ready=None):
        self.name, self.port, self.errors = name, port, folder / f"{name.replace(' ', '-')}.err"
        # Opened for appending, so that a log can be emptied between two rounds.
        with open(folder / f"{name.replace(' ', '-')}.log", "ab") as out, open(self.errors, "ab") as errors:
            self.began = time.perf_counter()
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=errors, env=environment)
        self.helpers = []
        self.wait(ready or self.accepts)
        self.started_in = time.perf_counter() - self.began

    def accepts(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def wait(self, ready):
        while not ready():
            if self.process.poll() is not None or time.perf_counter() > self.began + 20:
                self.stop()
                raise SystemExit(f"{self.name} did not start:\n{self.errors.read_text()}")
            time.sleep(0.0005)

    def pids(self):
        """The ids of the process, of its helpers, and of all their descendants."""
        parents = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                parents[int(stat.parent.name)] = int(stat.read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
        family = {self.process.pid, *(helper.pid for helper in self.helpers)}
        while more := {pid for pid, parent in parents.items() if parent in family} - family:
            family |= more
        return family

    def cpu(self):
        """Seconds of processor time that these processes took, in their own code and in the kernel."""
        ticks = 0
        for pid in self.pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def resident(self):
        """Resident bytes of the process."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def stop(self):
        for process in [*self.helpers, self.process]:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(timeout=10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def token(caller):
    """A bearer token as long as those that the documentation makes."""
    return f"token-of-caller-{caller:04}-0123456789abcdefghijkl="


class Bench:
    """A folder for configurations, programs and logs, with the servers that were started in it."""

    def __init__(self, binary):
        self.binary = binary
        self.folder = Path(tempfile.mkdtemp(prefix="sezzle-sidecar-compare-"))
        self.running = []
        self.compile(HERE / "serve.c")
        self.compile(HERE / "load.c")
        # Nearly a day ahead: dates beyond that are not believed.
        later = lambda **ahead: (
            datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(**ahead)
        ).strftime("%Y-%m-%dT%H:%M:%SZ")
        session = json.loads((HERE / "session.json").read_text())
        self.session = json.dumps(session, separators=(",", ":")).replace("EXPIRATION", later(hours=23))
        token = {"token": "bench", "expiration_date": later(minutes=115), "merchant_uuid": "bench"}
        self.token = json.dumps(token, separators=(",", ":"))
        self.write("session", self.session)
        self.write("token", self.token)

    def compile(self, source):
        command = ["gcc", "-O2", "-Wall", "-Wextra", "-pthread", "-o", self.folder / source.stem, source]
        subprocess.run(command, check=True)

    def write(self, name, text):
        path = self.folder / name
        path.write_text(text)
        return path

    def start(self, *arguments, helpers=(), **options):
        server = Server(*arguments, self.folder, **options)
        self.running.append(server)
        server.helpers += [subprocess.Popen(command, stdin=subprocess.DEVNULL) for command in helpers]
        return server

    def stop(self, *servers):
        for server in servers or reversed(self.running[:]):
            server.stop()
            self.running.remove(server)

    def close(self):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    # The reference loop, and the gateways behind the compared servers.

    def loop(self):
        port = free_port()
        return self.start("loop", [self.folder / "serve", str(port), str(WORKERS), self.folder / "session"], port)

    def gateway(self, delay=0, writes=None, body=None):
        """Starts a gateway that answers after `delay` milliseconds, and writes after `writes` if they differ.

        Its answer is the session, or the content of the file `body`.
        """
        port, threads = free_port(), 1 if delay else WORKERS
        files = [body or self.folder / "session", self.folder / "token"]
        delays = [str(delay), str(delay if writes is None else writes)]
        return self.start("gateway", [self.folder / "serve", str(port), str(threads), *files, *delays], port)

    def certificates(self):
        """Makes the bench's own authority, `ca.pem`, and a certificate of localhost, `tls.pem` with `tls.key`."""
        folder = self.folder
        if (folder / "tls.pem").exists():
            return
        new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        own = ["-CA", folder / "ca.pem", "-CAkey", folder / "ca.key", "-addext", "subjectAltName=DNS:localhost"]
        quiet = {"check": True, "stderr": subprocess.DEVNULL}
        subprocess.run([*new, "-subj", "/CN=bench", "-keyout", folder / "ca.key", "-out", folder / "ca.pem"], **quiet)
        leaf = ["-subj", "/CN=localhost", "-addext", "basicConstraints=critical,CA:FALSE"]
        subprocess.run([*new, *leaf, *own, "-keyout", folder / "tls.key", "-out", folder / "tls.pem"], **quiet)

    def tls_gateway(self, more=""):
        """Starts nginx with TLS and a fixed answer. `more` are further directives."""
        folder, port = self.folder, free_port()
        self.certificates()
        return self.nginx(port, f"""
            server {{
                listen 127.0.0.1:{port} ssl reuseport;
                ssl_certificate {folder}/tls.pem; ssl_certificate_key {folder}/tls.key; ssl_session_cache shared:tls:1m; {more}
                default_type application/json;
                location = /v2/authentication {{ return 201 '{self.token}'; }}
                location / {{ return 200 '{self.session}'; }}
            }}""", name="tls gateway")

    # The servers.

    def sidecar(self, gateway, logs=False, rewrite=True, tls=False, callers=0, name="sidecar", prefix=(), binary=None,
                **settings):
        port, ops = free_port(), free_port()
        settings = {
            "gateway__environment": "sandbox",
            "gateway__url": f"https://localhost:{gateway.port}" if tls else f"http://127.0.0.1:{gateway.port}",
            "credentials__public_key": "bench",
            "credentials__private_key": "bench",
            "proxy__listen": f"127.0.0.1:{port}",
            "proxy__workers": WORKERS,
            "ops__listen": f"127.0.0.1:{ops}",
            # The lifetime that the gateway states to the other servers.
            "cache__max_ttl": "1h",
            "links__rewrite": rewrite,
            "log__level": "info" if logs else "warn",
            "drain__grace": "0s",
            **({"gateway__ca_file": self.folder / "ca.pem"} if tls else {}),
            **settings,
        }
        environment = {f"SEZZLE_SIDECAR__{key.upper()}": str(value).lower() if isinstance(value, bool) else str(value)
                       for key, value in settings.items()}

        def ready():
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{ops}/readyz", timeout=5) as answer:
                    return answer.status == 200
            except OSError:
                return False

        files = ["--config", self.callers(callers)] if callers else []
        command = [*prefix, binary or self.binary, "run", *files]
        server = self.start(name, command, port, environment=environment, ready=ready)
        server.ops = ops
        return server

    def callers(self, number):
        """Writes a configuration with so many callers, and returns its path. `token(N)` is the token of caller N."""
        tables = []
        for caller in range(number):
            self.write(f"caller-{caller}", token(caller)).chmod(0o600)
            file = self.folder / f"caller-{caller}"
            tables.append(f'[[callers]]\nname = "caller-{caller}"\ntoken_file = "{file}"\nallow = ["all"]\n')
        return self.write("callers.toml", "".join(tables))

    def nginx(self, port, servers, name="nginx"):
        folder = Path(tempfile.mkdtemp(prefix="nginx-", dir=self.folder))
        # As root, nginx would run its workers as another user.
        self.folder.chmod(0o755)
        folder.chmod(0o755)
        user = "user root;" if os.geteuid() == 0 else ""
        path = self.write(f"{folder.name}/nginx.conf", f"""
            {user}
            worker_processes {WORKERS};
            daemon off; pid {folder}/pid; error_log {folder}/error.log warn;
            events {{ worker_connections 16384; }}
            http {{
                access_log off;
                keepalive_requests 1000000000; keepalive_timeout 120s;
                client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
                fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
                {servers}
            }}""")
        return self.start(name, ["nginx", "-e", f"{folder}/error.log", "-c", path], port)


def metric(sidecar, series):
    """The value of a series on a sidecar's /metrics, named without the prefix of all of them."""
    with urllib.request.urlopen(f"http://127.0.0.1:{sidecar.ops}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"sezzle_sidecar_{series} "))
