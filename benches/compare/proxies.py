"""The proxies that are compared with the sidecar, and gateways for single measurements.

Each server listens on one port and does one thing.
"""

import tempfile
from pathlib import Path

import servers
from servers import WORKERS, free_port

NIL = "00000000-0000-0000-0000-000000000000"


class Bench(servers.Bench):
    def __init__(self, binary, floor=None):
        """`floor` is the program of benches/floor.rs, if there is one."""
        super().__init__(binary)
        self.floor_program = floor

    # Gateways and their answers.

    def padded(self, least):
        """Writes the session with at least so many bytes, and returns the file."""
        missing = least - len(self.session) - len(',"padding":""')
        text = f'{self.session[:-1]},"padding":"{"x" * missing}"}}' if missing > 0 else self.session
        return self.write(f"session-{least}", text)

    def hybrid_gateway(self, gateway):
        """Starts a TLS server before a gateway, which takes X25519MLKEM768 alone. Returns None without a floor."""
        self.certificates()
        pair = ["--certificate", self.folder / "tls.pem", "--key", self.folder / "tls.key"]
        return next(iter(self.floor(gateway, more=pair, name="hybrid gateway")), None)

    def routing_gateway(self, slow, below, big, size):
        """Starts nginx as a gateway that passes paths below `below` to the gateway `slow`. `big` has so many bytes."""
        port, session = free_port(), self.session.replace(NIL, "$uuid")
        with open(self.folder / "big", "w") as file:
            file.write(f'"{" " * (size - 2)}"')
        return self.nginx(port, f"""
            server {{
                listen 127.0.0.1:{port} reuseport;
                default_type application/json; add_header Cache-Control max-age=3600;
                location = /v2/authentication {{ return 201 '{self.token}'; }}
                location = {big} {{ alias {self.folder}/big; }}
                location ^~ {below} {{
                    proxy_pass http://127.0.0.1:{slow.port}; proxy_http_version 1.1; proxy_set_header Connection "";
                }}
                location ~ "/(?<uuid>[0-9a-f-]{{36}})$" {{ return 200 '{session}'; }}
            }}""", name="routing gateway")

    # The proxies.

    def floor(self, gateway=None, answer=None, tls=False, more=(), name="floor"):
        """Starts the minimal proxy, or a server that always gives the content of a file. A list, empty without a floor."""
        if not self.floor_program:
            return []
        port = free_port()
        url = "https://localhost" if tls else "http://127.0.0.1"
        role = ["--answer", answer] if answer else ["--gateway", f"{url}:{gateway.port}"]
        trust = ["--ca", self.folder / "ca.pem"] if tls else []
        return [self.start(name, [self.floor_program, "--listen", str(port), *role, *trust, *more], port)]

    def nginx_proxy(self, gateway, cache, logs=False, tls=False, keepalive=64, sessions=10_000, most=""):
        """Starts nginx before a gateway, to which it keeps so many connections. With `cache` for so many sessions, of
        `most` bytes in all if given."""
        port = free_port()
        scheme = "https" if tls else "http"
        trust = f"""proxy_ssl_verify on; proxy_ssl_trusted_certificate {self.folder}/ca.pem; proxy_ssl_name localhost;
                    proxy_ssl_server_name on; proxy_ssl_session_reuse on;""" if tls else ""
        # 8 000 keys take 1 MB.
        store = f"""proxy_cache_path {self.folder}/nginx-cache-{port} levels=1:2 inactive=1h
                    keys_zone=sessions-{port}:{10 + sessions // 5000}m {most and f"max_size={most}"};""" if cache else ""
        # The files of the cache stay open, or each hit would open one.
        cached = f"""proxy_cache sessions-{port}; open_file_cache max=10000 inactive=1h;
                     open_file_cache_valid 1h;""" if cache else ""
        log = f"access_log {self.folder}/nginx.log combined;" if logs else ""
        return self.nginx(port, f"""
            {store}
            upstream gateway {{
                server 127.0.0.1:{gateway.port}; keepalive {keepalive}; keepalive_requests 1000000000;
            }}
            server {{
                listen 127.0.0.1:{port} reuseport;
                {log}
                location / {{
                    proxy_pass {scheme}://gateway; proxy_http_version 1.1; proxy_set_header Connection "";
                    {trust} {cached}
                }}
            }}""")

    def haproxy(self, gateway, cache, logs=False, tls=False):
        port = free_port()
        store = "cache sessions\n  total-max-size 64\n  max-object-size 65536\n  max-age 3600" if cache else ""
        use = "http-request cache-use sessions\n  http-response cache-store sessions" if cache else ""
        trust = f"ssl verify required ca-file {self.folder}/ca.pem sni str(localhost) verifyhost localhost" if tls else ""
        path = self.write(f"haproxy-{port}.cfg", f"""
global
  nbthread {WORKERS}
  maxconn 4096
  {"log stdout format raw local0 info" if logs else ""}
defaults
  mode http
  timeout connect 5s
  timeout client 120s
  timeout server 10s
  http-reuse always
  {"log global" if logs else ""}
  {"option httplog" if logs else ""}
{store}
listen proxy
  bind 127.0.0.1:{port}
  {use}
  server gateway 127.0.0.1:{gateway.port} {trust}
""")
        return self.start("HAProxy", ["haproxy", "-db", "-q", "-f", path], port)

    def varnish(self, gateway, logs=False):
        port, folder = free_port(), Path(tempfile.mkdtemp(prefix="varnish-", dir=self.folder))
        backend = f'vcl 4.1; backend gateway {{ .host = "127.0.0.1"; .port = "{gateway.port}"; }}'
        vcl = self.write(f"{folder.name}.vcl", backend)
        # Varnish logs by a process of its own, whose CPU is counted.
        log = ["varnishncsa", "-n", folder, "-a", "-w", self.folder / "varnishncsa.log"]
        return self.start("Varnish", ["varnishd", "-F", "-j", "none", "-n", folder, "-f", vcl, "-a", f"127.0.0.1:{port}",
                                      "-s", "malloc,64m", "-p", f"thread_pools={WORKERS}"], port,
                          helpers=[log] if logs else [])
