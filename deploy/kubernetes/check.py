"""Checks the rendered manifests against Kubernetes' schemas, the promises of the pages about them, and the program.

    check.py RENDERED.yaml SEZZLE-SIDECAR

Each rule is also tried on a copy of the manifests with one mistake, which the rule must find."""

import copy
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.request

import kubernetes_validate
import yaml

# From the first version that starts native sidecars by default to the newest that the validator knows.
VERSIONS = [f"1.{minor}" for minor in range(29, 38)]
USER = 65532
# Part of terminationGracePeriodSeconds: the service's time to stop.
SERVICE_STOPS = 45
# Memory of the program besides the cache and bodies.
RESERVE = 48 << 20
# Bodies in memory at once for each place in limits.in_flight: received, sent, and an eighth each of two more classes.
BODIES = 2.25

UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
SIZES = {"": 1, "KiB": 1 << 10, "Ki": 1 << 10, "MiB": 1 << 20, "Mi": 1 << 20, "GiB": 1 << 30, "Gi": 1 << 30}


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


class Wrong(Exception):
    """A rule is broken."""


def hold(condition, rule):
    if not condition:
        raise Wrong(rule)


def seconds(text):
    number, unit = re.fullmatch(r"(\d+)(ms|s|m|h|d)", text).groups()
    return int(number) * UNITS[unit]


def size(text):
    number, unit = re.fullmatch(r"([\d.]+) ?(\w*)", str(text)).groups()
    return float(number) * SIZES[unit]


def one(manifests, kind, name):
    found = [m for m in manifests if m["kind"] == kind and re.fullmatch(name, m["metadata"]["name"])]
    hold(len(found) == 1, f"exactly one {kind} {name}")
    return found[0]


def named(items, name):
    found = [item for item in items or [] if item["name"] == name]
    hold(len(found) == 1, f"exactly one {name}")
    return found[0]


class Pod:
    """The pod of the example, with the objects that the pod refers to."""

    def __init__(self, manifests):
        self.manifests = manifests
        self.template = one(manifests, "Deployment", "shop")["spec"]["template"]
        self.spec = self.template["spec"]
        self.sidecar = named(self.spec.get("initContainers"), "sezzle-sidecar")
        self.service = named(self.spec["containers"], "shop")
        self.labels = self.template["metadata"]["labels"]
        self.ports = {port["name"]: port["containerPort"] for port in self.sidecar["ports"]}

    def volume(self, container, path):
        """The volume that holds a file of a container, and the file's name in that volume."""
        for mount in container["volumeMounts"]:
            folder = mount["mountPath"].rstrip("/") + "/"
            if path.startswith(folder):
                hold("subPath" not in mount, f"{path} comes by no subPath, or it never changes")
                hold(mount.get("readOnly"), f"{path} is mounted read-only")
                return named(self.spec["volumes"], mount["name"]), path.removeprefix(folder)
        raise Wrong(f"{path} is not mounted")

    def configuration(self):
        """The texts of the configuration files that the sidecar's arguments name."""
        run, *arguments = self.sidecar["args"]
        hold(run == "run" and len(arguments) % 2 == 0 and set(arguments[::2]) == {"--config"}, "run --config FILE")
        return [self.text(self.sidecar, file) for file in arguments[1::2]]

    def text(self, container, path):
        """The text of a file that a ConfigMap holds."""
        volume, name = self.volume(container, path)
        text = one(self.manifests, "ConfigMap", re.escape(volume["configMap"]["name"]))["data"].get(name)
        hold(text is not None, f"{path} is in the ConfigMap")
        return text


def schemas(manifests):
    for manifest in manifests:
        if manifest["apiVersion"].startswith("monitoring.coreos.com/"):
            continue  # A custom resource, whose schema Kubernetes does not publish.
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(manifest, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                raise Wrong(f"{manifest['kind']} by {version}: {error}") from None


def native_sidecar(pod):
    hold(pod.sidecar.get("restartPolicy") == "Always", "a native sidecar")
    hold("command" not in pod.sidecar, "the image's own program")
    hold("lifecycle" not in pod.sidecar, "no preStop, which would run while the service still calls")
    hold("readinessProbe" not in pod.sidecar, "the sidecar's readiness is not the pod's")
    for kind in ["startupProbe", "livenessProbe"]:
        get = pod.sidecar[kind]["httpGet"]
        hold(get["path"] == "/livez", f"{kind} asks /livez: an outage of Sezzle fails no rollout")
        hold(get["port"] == "sezzle-ops", f"{kind} asks the ops port")
        hold(pod.sidecar[kind]["timeoutSeconds"] >= 2, f"{kind} has patience")
    image, tag = pod.sidecar["image"].rsplit(":", 1)
    hold(image.endswith("/sezzle-sidecar") and re.fullmatch(r"\d+\.\d+\.\d+", tag), "an image of one version")
    version = tomllib.loads(pathlib.Path("Cargo.toml").read_text())["package"]["version"]
    hold(tag == version, f"the image of this version, {version}")


def strict(pod):
    whole = pod.spec["securityContext"]
    hold(whole == {"fsGroup": USER, "seccompProfile": {"type": "RuntimeDefault"}}, "seccomp, and no user for all")
    own = pod.sidecar["securityContext"]
    hold(own["runAsUser"] == own["runAsGroup"] == USER, f"the sidecar is {USER}")
    hold(pod.service["securityContext"]["runAsUser"] != USER, "the service has its own user")
    hold(pod.spec["automountServiceAccountToken"] is False, "no token of the cluster")
    hold(not any(pod.spec.get(key) for key in ["hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"]), "alone")
    for container in pod.spec["initContainers"] + pod.spec["containers"]:
        own = container["securityContext"]
        hold(own["allowPrivilegeEscalation"] is False and own["privileged"] is False, "no more rights")
        hold(own["readOnlyRootFilesystem"] is True, "a read-only root")
        hold(own["capabilities"] == {"drop": ["ALL"]}, "no capability")
        hold(own["runAsNonRoot"] is True, "nobody is root")
        hold("seccompProfile" not in own, "the pod's profile, unchanged")


def keys(pod, effective):
    for key in ["public_key_file", "private_key_file"]:
        volume, name = pod.volume(pod.sidecar, effective["credentials"][key])
        hold(volume["secret"]["defaultMode"] == 0o440, "the group may read the keys, and nobody else")
        hold("items" not in volume["secret"] and name == key.removesuffix("_file"), f"the secret has the key {name}")
        for mount in pod.service.get("volumeMounts", []):
            hold(mount["name"] != volume["name"], "the service has no keys")


def network(pod, effective):
    address, port = effective["ops"]["listen"].rsplit(":", 1)
    hold(address in ["0.0.0.0", "[::]"], "probes reach the ops listener")
    hold(pod.ports == {"sezzle-ops": int(port)}, "the ops port and no other")
    annotations = pod.template["metadata"]["annotations"]
    hold(annotations["prometheus.io/scrape"] == "true", "scraped")
    hold(annotations["prometheus.io/port"] == port and annotations["prometheus.io/path"] == "/metrics", "where")
    url = named(pod.service["env"], "SEZZLE_URL")["value"]
    hold(url.removeprefix("http://") in effective["proxy"]["listen"], f"the proxy listens on {url}")

    policy = one(pod.manifests, "NetworkPolicy", "sezzle-sidecar")["spec"]
    hold(policy["podSelector"]["matchLabels"].items() <= pod.labels.items(), "the policy is about the pod")
    hold(set(policy["policyTypes"]) == {"Ingress", "Egress"}, "both ways")
    hold([rule["ports"] for rule in policy["ingress"]] == [[{"protocol": "TCP", "port": int(port)}]], "in: ops")
    hold(all(rule.get("from") for rule in policy["ingress"]), "in: named namespaces only")
    out = sorted((port["port"], port["protocol"]) for rule in policy["egress"] for port in rule["ports"])
    hold(out == [(53, "TCP"), (53, "UDP"), (443, "TCP")], "out: names and TLS")
    hold(all(rule.get("to") for rule in policy["egress"]), "out: to named peers only")


def pod_monitor(pod):
    monitor = one(pod.manifests, "PodMonitor", "sezzle-sidecar")
    hold(monitor["apiVersion"] == "monitoring.coreos.com/v1", "the version that the operator serves")
    spec = monitor["spec"]
    hold(set(spec) == {"selector", "podMetricsEndpoints"}, "keys of a PodMonitor")
    hold(spec["selector"]["matchLabels"].items() <= pod.labels.items(), "the monitor is about the pod")
    hold(len(spec["podMetricsEndpoints"]) == 1, "one endpoint")
    endpoint = spec["podMetricsEndpoints"][0]
    hold(set(endpoint) == {"port", "path", "interval", "scrapeTimeout"}, "keys of an endpoint")
    hold(endpoint["port"] in pod.ports and endpoint["path"] == "/metrics", "where metrics are")
    hold(seconds(endpoint["scrapeTimeout"]) < seconds(endpoint["interval"]), "a scrape ends before the next")


def stopping(pod, effective):
    drain, grace = effective["drain"], pod.spec["terminationGracePeriodSeconds"]
    hold(seconds(drain["grace"]) == 0, "nobody is left to wait for")
    hold(grace >= SERVICE_STOPS + seconds(drain["timeout"]) + 5, "time for the service, the drain, and some more")


def memory(pod, effective):
    limits, cache = effective["limits"], effective["cache"]
    most = size(cache["max_bytes"]) + limits["in_flight"] * BODIES * size(limits["body"]) + RESERVE
    resources = pod.sidecar["resources"]
    limit = size(resources["limits"]["memory"])
    hold(most <= limit, f"{most / (1 << 20):.0f} MiB at most in {limit / (1 << 20):.0f} MiB")
    hold(size(resources["requests"]["memory"]) == limit, "requested as a whole")
    hold("cpu" in resources["requests"] and "cpu" not in resources["limits"], "never throttled")


def fleet(pod, effective):
    """The server of a fleet is there, can be reached by the sidecars alone, and knows nothing of their keys."""
    url = effective.get("fleet", {}).get("url")
    if url is None:
        return
    files = {key: effective["fleet"][key] for key in ["password_file", "key_file", "ca_file"]}
    for file in files.values():
        volume, name = pod.volume(pod.sidecar, file)
        sources = [source["secret"] for source in volume["projected"]["sources"]]
        hold(volume["projected"]["defaultMode"] == 0o440, "the group may read the fleet's secrets, and nobody else")
        hold(name in [item["path"] for source in sources for item in source["items"]], f"{file} is in a secret")
        for mount in pod.service.get("volumeMounts", []):
            hold(mount["name"] != volume["name"], "the service has none of the fleet's secrets")

    host, port = re.fullmatch(r"rediss://([a-z]+):(\d+)", url).groups()
    service = one(pod.manifests, "Service", host)["spec"]
    deployment = one(pod.manifests, "Deployment", host)["spec"]
    server = named(deployment["template"]["spec"]["containers"], host)
    hold(deployment["replicas"] == 1 and deployment["strategy"]["type"] == "Recreate", "one server at a time")
    labels = deployment["template"]["metadata"]["labels"]
    hold(service["selector"].items() <= labels.items() and service["ports"][0]["port"] == int(port), "the service")
    hold(service["ports"][0]["targetPort"] == named(server["ports"], service["ports"][0]["name"])["name"], "its port")
    own = server["securityContext"]
    hold(own["readOnlyRootFilesystem"] is True and own["runAsNonRoot"] is True, "a server that writes nothing")
    hold(own["capabilities"] == {"drop": ["ALL"]} and own["allowPrivilegeEscalation"] is False, "no more rights")

    whole = Pod.__new__(Pod)
    whole.manifests, whole.spec = pod.manifests, deployment["template"]["spec"]
    pairs = [line.split(maxsplit=1) for line in whole.text(server, server["command"][-1]).splitlines()]
    settings = {pair[0]: pair[1] for pair in pairs if len(pair) == 2 and pair[0] != "#"}
    hold((settings["port"], settings["tls-port"]) == ("0", port), "TLS only")
    hold(settings["maxmemory-policy"] == "volatile-ttl", "the log is not evicted")
    limit = size(server["resources"]["limits"]["memory"])
    hold(size(settings["maxmemory"].replace("mb", "Mi")) + (48 << 20) <= limit, "room beside the data")
    for key in ["tls-cert-file", "tls-key-file", "aclfile"]:
        volume, name = whole.volume(server, settings[key])
        names = [item["path"] for item in volume["secret"].get("items", [])] or ["tls.crt", "tls.key"]
        hold(volume["secret"]["defaultMode"] == 0o440 and name in names, f"{key} is in a secret")
        hold("keys" not in names, "the server has no key of the fleet")

    way = {"protocol": "TCP", "port": int(port)}
    out = one(pod.manifests, "NetworkPolicy", "sezzle-sidecar-fleet")["spec"]
    into = one(pod.manifests, "NetworkPolicy", host)["spec"]
    sidecars, servers = out["podSelector"]["matchLabels"], into["podSelector"]["matchLabels"]
    hold(sidecars.items() <= pod.labels.items() and servers.items() <= labels.items(), "policies about the pods")
    hold(out["egress"] == [{"to": [{"podSelector": {"matchLabels": servers}}], "ports": [way]}], "out: to the server")
    hold(into["ingress"] == [{"from": [{"podSelector": {"matchLabels": sidecars}}], "ports": [way]}], "in: sidecars")
    hold(set(into["policyTypes"]) == {"Ingress", "Egress"} and "egress" not in into, "the server calls nobody")


class Program:
    """The program under test."""

    def __init__(self, path):
        self.path = path

    def effective(self, texts):
        """The configuration in force with these files, as the program prints it."""
        with tempfile.TemporaryDirectory() as folder:
            arguments = ["check", *written(folder, texts)]
            checked = subprocess.run([self.path, *arguments], env={}, capture_output=True, text=True, timeout=30)
            hold(checked.returncode == 0, f"the configuration is right: {checked.stderr}")
            return tomllib.loads(checked.stdout)

    def answers(self, pod, texts):
        """Runs the program as the pod does, without a gateway, and sends the requests of probes and scrapes."""
        with tempfile.TemporaryDirectory() as folder:
            environment = {"SEZZLE_SIDECAR__GATEWAY__URL": "http://127.0.0.1:1"}
            environment |= {"SEZZLE_SIDECAR__PROXY__LISTEN": "127.0.0.1:0"}
            for name in ["public_key", "private_key"]:
                key = pathlib.Path(folder, name)
                key.write_text(f"any_{name}\n")
                key.chmod(0o600)
                environment[f"SEZZLE_SIDECAR__CREDENTIALS__{name.upper()}_FILE"] = str(key)
            if len(texts) > 1:
                # No server answers here, which must not keep the sidecar from its work.
                environment["SEZZLE_SIDECAR__FLEET__URL"] = "rediss://127.0.0.1:1"
                for name in ["password", "keys", "ca.crt"]:
                    key = {"password": "PASSWORD_FILE", "keys": "KEY_FILE", "ca.crt": "CA_FILE"}[name]
                    file = pathlib.Path(folder, name)
                    file.write_text({"password": "canary\n", "keys": "A" * 43 + "=\n", "ca.crt": CERTIFICATE}[name])
                    file.chmod(0o600)
                    environment[f"SEZZLE_SIDECAR__FLEET__{key}"] = str(file)
            ops = free_address()
            environment["SEZZLE_SIDECAR__OPS__LISTEN"] = ops
            arguments = ["run", *written(folder, texts)]
            running = subprocess.Popen([self.path, *arguments], env=environment, stdout=subprocess.DEVNULL)
            try:
                for kind in ["startupProbe", "livenessProbe"]:
                    eventually(lambda: get(ops, pod.sidecar[kind]["httpGet"]["path"]))
                path = pod.template["metadata"]["annotations"]["prometheus.io/path"]
                hold("sezzle_sidecar_build_info{" in get(ops, path), f"metrics at {path}")
            finally:
                running.terminate()
                hold(running.wait(timeout=60) == 0, "the sidecar stops after SIGTERM")


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


def get(address, path):
    with urllib.request.urlopen(f"http://{address}{path}", timeout=5) as answer:
        return answer.read().decode()


def eventually(attempt):
    deadline = time.monotonic() + 30
    while True:
        try:
            return attempt()
        except OSError as error:
            if time.monotonic() > deadline:
                raise Wrong(f"not within 30 s: {error}") from error
            time.sleep(0.05)


def check(manifests, program):
    pod = Pod(manifests)
    effective = program.effective(pod.configuration())
    native_sidecar(pod)
    strict(pod)
    keys(pod, effective)
    network(pod, effective)
    pod_monitor(pod)
    stopping(pod, effective)
    memory(pod, effective)
    fleet(pod, effective)
    # The slowest check comes last.
    schemas(manifests)


def spoilt(manifests):
    """Copies of the manifests with one mistake each."""

    def copied():
        fresh = copy.deepcopy(manifests)
        return fresh, Pod(fresh)

    def toml(old, new):
        fresh, _ = copied()
        for manifest in fresh:
            for name, text in manifest.get("data", {}).items():
                if old in text:
                    manifest["data"][name] = text.replace(old, new)
        assert fresh != manifests, old
        return f"{old} becomes {new}", fresh

    def at(path, value):
        """Makes a copy in which the value at a path is replaced or removed."""
        fresh, pod = copied()
        place = {"pod": pod.spec, "sidecar": pod.sidecar, "template": pod.template}.get(path[0])
        if place is None:
            kind, _, name = path[0].partition("/")
            place = one(fresh, kind, name or "sezzle-sidecar")["spec"]
        for step in path[1:-1]:
            place = place[step]
        if value is None:
            del place[path[-1]]
        else:
            place[path[-1]] = value
        return f"{'.'.join(map(str, path))} becomes {value}", fresh

    yield at(["sidecar", "restartPolicy"], None)
    yield at(["sidecar", "restartPolicy"], "OnFailure")
    yield at(["sidecar", "livenessProbe", "httpGet", "path"], "/readyz")
    yield at(["sidecar", "startupProbe", "httpGet", "port"], "http")
    yield at(["sidecar", "readinessProbe"], {"httpGet": {"path": "/readyz", "port": "sezzle-ops"}})
    yield at(["sidecar", "ports", 0, "containerPort"], 9465)
    yield at(["sidecar", "args"], ["run"])
    yield at(["sidecar", "args"], ["run", "--config", "/etc/sezzle-sidecar/other.toml"])
    yield at(["sidecar", "image"], "registry.example/sezzle-sidecar:latest")
    yield at(["sidecar", "securityContext", "readOnlyRootFilesystem"], False)
    yield at(["sidecar", "securityContext", "capabilities"], {"drop": ["ALL"], "add": ["NET_ADMIN"]})
    yield at(["sidecar", "securityContext", "runAsUser"], 0)
    yield at(["sidecar", "securityContext", "runAsUser"], None)
    yield at(["sidecar", "securityContext", "runAsNonRoot"], False)
    yield at(["sidecar", "resources", "limits", "memory"], "64Mi")
    yield at(["sidecar", "resources", "limits", "cpu"], "100m")
    yield at(["sidecar", "volumeMounts", 1, "subPath"], "public_key")
    yield at(["sidecar", "volumeMounts", 1, "readonly"], True)
    yield at(["pod", "terminationGracePeriodSeconds"], 30)
    yield at(["pod", "securityContext", "fsGroup"], 1000)
    yield at(["pod", "securityContext", "runAsUser"], USER)
    yield at(["pod", "containers", 0, "securityContext", "runAsUser"], USER)
    yield at(["pod", "hostNetwork"], True)
    yield at(["pod", "volumes", 1, "secret", "defaultMode"], 0o444)
    yield at(["pod", "containers", 0, "volumeMounts", 0, "name"], "sezzle-keys")
    yield at(["template", "metadata", "annotations", "prometheus.io/port"], "8080")
    yield at(["template", "metadata", "labels", "sezzle-sidecar"], "yes")
    yield at(["NetworkPolicy", "ingress", 0, "ports", 0, "port"], 8080)
    yield at(["NetworkPolicy", "egress", 0, "ports", 0, "port"], 80)
    yield at(["NetworkPolicy", "egress", 0, "to"], None)
    yield at(["PodMonitor", "podMetricsEndpoints", 0, "port"], "metrics")
    yield at(["PodMonitor", "podMetricsEndpoints", 0, "scrapeTimeout"], "60s")
    yield toml('timeout = "40s"', 'timeout = "60s"')
    yield toml('listen = "0.0.0.0:9464"', 'listen = "127.0.0.1:9464"')
    yield toml('listen = "0.0.0.0:9464"', 'listen = "0.0.0.0:9465"')
    yield toml("in_flight = 128", "in_flight = 512")
    yield toml("in_flight", "inflight")
    yield toml("/run/secrets/sezzle/public_key", "/run/secrets/public_key")
    if not any(manifest["metadata"]["name"] == "valkey" for manifest in manifests):
        return

    yield at(["sidecar", "args"], ["run", "--config", "/etc/sezzle-sidecar/sidecar.toml", "--config"])
    yield at(["sidecar", "volumeMounts", 2, "readOnly"], False)
    yield at(["pod", "volumes", 3, "projected", "defaultMode"], 0o444)
    yield at(["pod", "volumes", 3, "projected", "sources", 0, "secret", "items"], [])
    yield at(["pod", "containers", 0, "volumeMounts", 0, "name"], "fleet")
    yield at(["Deployment/valkey", "replicas"], 2)
    yield at(["Deployment/valkey", "strategy", "type"], "RollingUpdate")
    server = ["Deployment/valkey", "template", "spec"]
    yield at([*server, "containers", 0, "securityContext", "runAsNonRoot"], False)
    yield at([*server, "containers", 0, "resources", "limits", "memory"], "192Mi")
    yield at([*server, "containers", 0, "command", 1], "/etc/valkey/other.conf")
    yield at([*server, "volumes", 1, "secret", "items"], [{"key": "keys", "path": "keys"}])
    yield at([*server, "volumes", 2, "secret", "defaultMode"], 0o444)
    yield at(["Service/valkey", "ports", 0, "port"], 6380)
    yield at(["Service/valkey", "selector", "app"], "shop")
    yield at(["NetworkPolicy/sezzle-sidecar-fleet", "egress", 0, "ports", 0, "port"], 6380)
    yield at(["NetworkPolicy/valkey", "ingress", 0, "from"], None)
    yield at(["NetworkPolicy/valkey", "policyTypes"], ["Ingress"])
    yield toml("port 0", "port 6380")
    yield toml("volatile-ttl", "allkeys-lru")
    yield toml("rediss://", "redis://")
    yield toml("/run/secrets/fleet/keys", "/run/secrets/keys")


def main():
    rendered, program = sys.argv[1], Program(os.path.abspath(sys.argv[2]))
    manifests = list(yaml.safe_load_all(pathlib.Path(rendered).read_text()))
    check(manifests, program)
    pod = Pod(manifests)
    program.answers(pod, pod.configuration())
    missed = []
    tried = 0
    for mistake, spoiled in spoilt(manifests):
        tried += 1
        try:
            check(spoiled, program)
            missed.append(mistake)
        except (Wrong, KeyError):
            pass
    if missed:
        raise Wrong(f"not noticed: {missed}")
    example = pathlib.Path(rendered).stem
    print(f"{example}: {len(manifests)} manifests by {VERSIONS[0]} to {VERSIONS[-1]}, {tried} mistakes noticed")


if __name__ == "__main__":
    try:
        main()
    except Wrong as wrong:
        sys.exit(f"deploy/kubernetes: {wrong}")
