"""The program under test, run as the sidecar's container runs it."""

import os
import pathlib
import socket
import ssl
import stat
import subprocess
import tempfile
import time
import tomllib
import urllib.error
import urllib.request

from rules import Wrong, hold

# Any certificate, for a server that is not there.
CERTIFICATE = """-----BEGIN CERTIFICATE-----
MIIBiTCCAS+gAwIBAgIUMm29lnWv399rn8EYQ3jj85AcF/YwCgYIKoZIzj0EAwIw
ETEPMA0GA1UEAwwGdmFsa2V5MCAXDTI2MTEyOTE0NTExOVoYDzIxMjYxMTA1MTQ1
MTE5WjARMQ8wDQYDVQQDDAZ2YWxrZXkwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC
AASkV5+4/LVCBqXXZvxsacilpVsAIfW/XVbN93+bIzkKGpGNaMlAvbn6nnuS2RFC
Bp3VbuzE221I4WkBD26vjOR4o2MwYTAdBgNVHQ4EFgQU1iMzqWoUgPh8Zzr17ac4
LX5Z37gwHwYDVR0jBBgwFoAU1iMzqWoUgPh8Zzr17ac4LX5Z37gwEQYDVR0RBAow
CIIGdmFsa2V5MAwGA1UdEwEB/wQCMAAwCgYIKoZIzj0EAwIDSAAwRQIhAO/IFdNN
pbXkCTZAsPJ9khQOpgUpz7RTpeXYLvfz0sJEAiBxlrYM+MLKFul0kpeNb5zxpuyS
ueHJBIQKNvPBX/wN7g==
-----END CERTIFICATE-----
"""


class Program:
    def __init__(self, path):
        self.path = path

    def effective(self, pod):
        """The configuration in force in the pod, as the program prints it."""
        with tempfile.TemporaryDirectory() as folder:
            environment = pod.environment() | self.certificate(pod, folder)
            checked = self.run(["check", *written(folder, pod.configuration())], environment)
            hold(checked.returncode == 0, f"the configuration is right: {checked.stderr}")
            return tomllib.loads(checked.stdout)

    def certificate(self, pod, folder):
        """Makes the certificate of a sidecar that is the gateway, and returns the variables that name its files."""
        host = pod.setting("proxy.hosts")
        if pod.setting("proxy.tls.certificate_file") is None:
            return {}
        made = self.run(["certificate", host, "--out", folder], {})
        hold(made.returncode == 0, f"a certificate for {host}: {made.stderr}")
        names = {"CERTIFICATE_FILE": "pem", "KEY_FILE": "key"}
        return {f"SEZZLE_SIDECAR__PROXY__TLS__{name}": f"{folder}/{host}.{end}" for name, end in names.items()}

    def run(self, arguments, environment):
        command = [self.path, *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)

    def answers(self, pod):
        """Runs the program as the pod does, without a gateway, and calls it as Kubernetes and operators do."""
        with tempfile.TemporaryDirectory() as folder:
            texts, environment = pod.configuration(), pod.environment()
            ops, control, webhooks = free_address(), free_address(), None
            environment["SEZZLE_SIDECAR__GATEWAY__URL"] = "http://127.0.0.1:1"
            environment["SEZZLE_SIDECAR__OPS__LISTEN"] = ops
            environment["SEZZLE_SIDECAR__CONTROL__LISTEN"] = control
            proxy = environment.get("SEZZLE_SIDECAR__PROXY__LISTEN", "")
            socket_file = os.path.join(folder, "proxy.sock")
            listen = f"unix:{socket_file}" if proxy.startswith("unix:") else free_address()
            environment["SEZZLE_SIDECAR__PROXY__LISTEN"] = listen
            environment |= (certificate := self.certificate(pod, folder))
            if "SEZZLE_SIDECAR__AUDIT__FILE" in environment:
                environment["SEZZLE_SIDECAR__AUDIT__FILE"] = os.path.join(folder, "audit.log")
            if "SEZZLE_SIDECAR__WEBHOOKS__LISTEN" in environment:
                webhooks = environment["SEZZLE_SIDECAR__WEBHOOKS__LISTEN"] = free_address()
            files = {"credentials.public_key_file": "any_public_key", "credentials.private_key_file": "any_private_key"}
            if len(texts) > 1:
                # No server answers here, which must not keep the sidecar from its work.
                environment["SEZZLE_SIDECAR__FLEET__URL"] = "rediss://127.0.0.1:1"
                files |= {"fleet.password_file": "canary", "fleet.key_file": "A" * 43 + "="}
                files["fleet.ca_file"] = CERTIFICATE
            for key, text in files.items():
                file = pathlib.Path(folder, key)
                file.write_text(f"{text}\n")
                file.chmod(0o600)
                environment["SEZZLE_SIDECAR__" + key.upper().replace(".", "__")] = str(file)
            arguments = written(folder, texts)
            running = subprocess.Popen([self.path, "run", *arguments], env=environment, stdout=subprocess.DEVNULL)
            try:
                for kind in ["startupProbe", "livenessProbe"]:
                    eventually(lambda: call(ops, pod.sidecar[kind]["httpGet"]["path"]))
                hold("sezzle_sidecar_build_info{" in call(ops, "/metrics"), "metrics")
                self.control(control, arguments, environment)
                if certificate:
                    said = call_gateway(listen, pod.setting("proxy.hosts"), f"{folder}/authority.pem")
                    hold("sidecar.no_token" in said, f"the sidecar answers for the gateway: {said}")
                if pod.setting("audit.file"):
                    opened = pathlib.Path(folder, "audit.log").read_text()
                    hold('"event":"open"' in opened, f"the audit file: {opened}")
                if webhooks:
                    hold(call(webhooks, "/webhooks/sezzle", b"{}") == 401, "a webhook that Sezzle did not sign")
                if proxy.startswith("unix:"):
                    mode = os.stat(socket_file).st_mode
                    hold(stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o660, "a socket for the pod's group")
            finally:
                running.terminate()
                hold(running.wait(timeout=60) == 0, "the sidecar stops after SIGTERM")

    def control(self, address, arguments, environment):
        """The operator's commands of docs/installation.md."""
        hold("<!doctype html>" in call(address, "/").lower(), "the status page")
        session = "6c9db5d4-d09a-4224-860a-b5438ac32ca8"
        for command, says in [(["purge", session], "removed 0\n"), (["log-level", "debug"], "level debug\n")]:
            said = self.run([*command, *arguments], environment)
            hold(said.stdout == says, f"{command}: {said}")
        said = self.run(["status", *arguments], environment)
        hold(said.returncode == 0 and "sezzle-sidecar" in said.stdout, f"the status page as text: {said}")


def written(folder, texts):
    """Writes configuration files, and returns the arguments that name them."""
    arguments = []
    for number, text in enumerate(texts):
        file = pathlib.Path(folder, f"{number}.toml")
        file.write_text(text)
        arguments += ["--config", str(file)]
    return arguments


def free_address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return "127.0.0.1:{}".format(free.getsockname()[1])


def call(address, path, body=None):
    """The text of a successful answer, or the status of any other."""
    try:
        request = urllib.request.Request(f"http://{address}{path}", body)
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code


def call_gateway(address, host, authority):
    """The answer to a client that takes the sidecar for the gateway of this name."""
    name, port = address.split(":")
    context = ssl.create_default_context(cafile=authority)
    with socket.create_connection((name, int(port)), timeout=10) as connection:
        with context.wrap_socket(connection, server_hostname=host) as secure:
            secure.sendall(f"GET /v2/customer HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            return secure.makefile("rb").read().decode()


def eventually(attempt):
    deadline = time.monotonic() + 30
    while True:
        try:
            return attempt()
        except OSError as error:
            if time.monotonic() > deadline:
                raise Wrong(f"not within 30 s: {error}") from error
            time.sleep(0.05)
