"""The rules for rendered manifests: Kubernetes' schemas, and the promises of the pages about them."""

import pathlib
import re
import tomllib

import kubernetes_validate

# From the first version that starts native sidecars by default to the newest that the validator knows.
VERSIONS = [f"1.{minor}" for minor in range(29, 38)]
USER = 65532
# Keys of the pod's securityContext.
ALLOWED = {"fsGroup", "fsGroupChangePolicy", "seccompProfile", "sysctls"}
UNPRIVILEGED_PORT = "net.ipv4.ip_unprivileged_port_start"
# The hosts of the gateways that Sezzle documents, by `gateway.environment`.
GATEWAYS = {"production": "gateway.sezzle.com", "sandbox": "sandbox.gateway.sezzle.com"}
# Part of terminationGracePeriodSeconds: the service's time to stop.
SERVICE_STOPS = 45
# Memory of the program besides the cache and bodies.
RESERVE = 48 << 20
# Bodies in memory at once for each permit of limits.in_flight: received, sent, and an eighth each of two more classes.
BODIES = 2.25

UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
SIZES = {"": 1, "KiB": 1 << 10, "Ki": 1 << 10, "MiB": 1 << 20, "Mi": 1 << 20, "GiB": 1 << 30, "Gi": 1 << 30}


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

    def environment(self):
        """The variables that the sidecar's container sets."""
        return {variable["name"]: variable["value"] for variable in self.sidecar.get("env", []) if "value" in variable}

    def setting(self, key):
        """The value that a variable of the sidecar's container gives a key, such as `audit.file`."""
        return self.environment().get("SEZZLE_SIDECAR__" + key.upper().replace(".", "__"))

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
    hold(whole["fsGroup"] == USER and set(whole) <= ALLOWED, "a group, and no user for all")
    for sysctl in whole.get("sysctls", []):
        hold(sysctl["name"] == UNPRIVILEGED_PORT, "the one setting of the kernel that the restricted standard allows here")
    own = pod.sidecar["securityContext"]
    hold(own["seccompProfile"] == {"type": "RuntimeDefault"}, "the sidecar brings its profile along")
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
        profile = own.get("seccompProfile", whole.get("seccompProfile"))
        hold(profile == {"type": "RuntimeDefault"}, "the runtime's profile of system calls")


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
    ports, inward = {"sezzle-ops": int(port)}, [int(port)]
    if listen := effective["webhooks"].get("listen"):
        webhooks(pod, effective)
        ports["sezzle-webhooks"] = int(listen.rsplit(":", 1)[1])
        inward.append(ports["sezzle-webhooks"])
    hold(pod.ports == ports, "the ports that others reach, and no other")
    hold(effective["control"]["listen"].startswith("127.0.0.1:"), "kubectl reaches the control listener, on loopback")
    url = named(pod.service["env"], "SEZZLE_URL")["value"].removeprefix("http://")
    if url.startswith("https://"):
        gateway(pod, effective, url.removeprefix("https://"))
    else:
        hold(url in effective["proxy"]["listen"], f"the proxy listens on {url}")
    if url.startswith("unix:"):
        unix_socket(pod, pathlib.PurePath(url.removeprefix("unix:")))

    policy = one(pod.manifests, "NetworkPolicy", "sezzle-sidecar")["spec"]
    hold(policy["podSelector"]["matchLabels"].items() <= pod.labels.items(), "the policy is about the pod")
    hold(set(policy["policyTypes"]) == {"Ingress", "Egress"}, "both ways")
    admitted = [rule["ports"] for rule in policy["ingress"]]
    hold(admitted == [[{"protocol": "TCP", "port": port}] for port in inward], f"in: {inward}")
    hold(all(rule.get("from") for rule in policy["ingress"]), "in: named namespaces only")
    out = sorted((port["port"], port["protocol"]) for rule in policy["egress"] for port in rule["ports"])
    server = [(6379, "TCP")] if "fleet" in effective and "url" in effective["fleet"] else []
    hold(out == [(53, "TCP"), (53, "UDP"), (443, "TCP"), *server], "out: names, TLS and the fleet's server")
    hold(all(rule.get("to") for rule in policy["egress"]), "out: to named peers only")


def webhooks(pod, effective):
    service = one(pod.manifests, "Service", "sezzle-webhooks")["spec"]
    hold(service["selector"].items() <= pod.labels.items(), "the Service is about the pod")
    hold([port["targetPort"] for port in service["ports"]] == ["sezzle-webhooks"], "to the listener")
    for ingress in [m for m in pod.manifests if m["kind"] == "Ingress"]:
        (rule,) = ingress["spec"]["rules"]
        (path,) = rule["http"]["paths"]
        hold((path["path"], path["pathType"]) == (effective["webhooks"]["path"], "Exact"), "the listener's path alone")
        backend = path["backend"]["service"]
        hold(backend == {"name": "sezzle-webhooks", "port": {"name": service["ports"][0]["name"]}}, "to the Service")
        hold(rule["host"] in ingress["spec"]["tls"][0]["hosts"], "over TLS")
    if url := effective["webhooks"].get("forward_to"):
        port = int(re.fullmatch(r"http://127\.0\.0\.1:(\d+)/.*", url).group(1))
        hold(port in [port["containerPort"] for port in pod.service["ports"]], f"the service listens on {url}")


def gateway(pod, effective, host):
    """The name of the gateway leads to the sidecar, which answers for it and does not ask /etc/hosts itself."""
    hold(host == GATEWAYS[effective["gateway"]["environment"]], "the service has the name of the sidecar's environment")
    hold(pod.spec["hostAliases"] == [{"ip": "127.0.0.1", "hostnames": [host]}], f"{host} alone leads to the sidecar")
    hold(effective["proxy"]["hosts"] == [host], f"the sidecar answers for {host}")
    hold(effective["proxy"]["listen"] == ["127.0.0.1:443"], "on the port of https, on loopback")
    sysctls = pod.spec["securityContext"]["sysctls"]
    hold(sysctls == [{"name": UNPRIVILEGED_PORT, "value": "443"}], "the sidecar's user may listen on that port")
    hold(effective["gateway"]["resolver"] == "dns", "the sidecar asks name servers")
    hold(effective["links"]["rewrite"] is False, "links stay as they are")
    for key in ["certificate_file", "key_file"]:
        volume, name = pod.volume(pod.sidecar, pod.setting(f"proxy.tls.{key}"))
        hold(volume["secret"]["defaultMode"] == 0o440, "the group may read the key, and nobody else")
        hold(name in [item["path"] for item in volume["secret"]["items"]], f"{name} is in the secret")
        hold(volume["name"] not in [m["name"] for m in pod.service["volumeMounts"]], "the service has no key")
    volume, name = pod.volume(pod.service, named(pod.service["env"], "SSL_CERT_FILE")["value"])
    hold(volume["secret"]["items"] == [{"key": "ca.crt", "path": name}], "the service has the authority's certificate alone")


def audit(pod):
    """Each pod has a file of its own in a volume that stays, and that no other container mounts."""
    path = pod.setting("audit.file")
    if path is None:
        return
    folder, file = path.rsplit("/", 1)
    names = [variable["name"] for variable in pod.sidecar["env"]]
    hold(file == "$(POD_NAME).log", "a file for each pod")
    hold(names.index("POD_NAME") < names.index("SEZZLE_SIDECAR__AUDIT__FILE"), "a variable is known before its use")
    source = named(pod.sidecar["env"], "POD_NAME")["valueFrom"]["fieldRef"]["fieldPath"]
    hold(source == "metadata.name", "the name of the pod")
    mounts = [mount for mount in pod.sidecar["volumeMounts"] if mount["mountPath"] == folder]
    hold(len(mounts) == 1, f"one volume at {folder}")
    mount = mounts[0]
    hold(not mount.get("readOnly"), "the sidecar writes there")
    claim = named(pod.spec["volumes"], mount["name"])["persistentVolumeClaim"]["claimName"]
    hold(one(pod.manifests, "PersistentVolumeClaim", claim)["spec"]["accessModes"] == ["ReadWriteMany"], "for all pods")
    hold(pod.spec["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch", "the group may not write to the file")
    others = [container for container in pod.spec["initContainers"] + pod.spec["containers"] if container != pod.sidecar]
    mounted = [mount["name"] for container in others for mount in container.get("volumeMounts", [])]
    hold(mount["name"] not in mounted, "nobody else writes there")


def unix_socket(pod, path):
    """A socket in a volume that the sidecar and the service mount, and no other container."""
    mounts = [
        (container["name"], mount["name"], mount["mountPath"])
        for container in pod.spec["initContainers"] + pod.spec["containers"]
        for mount in container.get("volumeMounts", [])
    ]
    here = str(path.parent)
    volumes = {volume for _, volume, folder in mounts if folder == here}
    hold(len(volumes) == 1, f"one volume at {here}, not {volumes}")
    users = sorted((container, folder) for container, volume, folder in mounts if volume in volumes)
    hold(users == [("sezzle-sidecar", here), ("shop", here)], f"sidecar and service share the socket, not {users}")
    hold("emptyDir" in named(pod.spec["volumes"], volumes.pop()), "a volume of the pod's own")


def scraping(pod, effective):
    """The metrics are found once: by annotations, or by a PodMonitor."""
    monitors = [manifest for manifest in pod.manifests if manifest["kind"] == "PodMonitor"]
    annotations = pod.template["metadata"].get("annotations", {})
    if not monitors:
        found = {key.removeprefix("prometheus.io/"): value for key, value in annotations.items()}
        port = effective["ops"]["listen"].rsplit(":", 1)[1]
        hold(found == {"scrape": "true", "port": port, "path": "/metrics"}, "annotations lead to the metrics")
        return
    hold(not any(key.startswith("prometheus.io/") for key in annotations), "scraped once")
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
    out = one(pod.manifests, "NetworkPolicy", "sezzle-sidecar")["spec"]
    into = one(pod.manifests, "NetworkPolicy", host)["spec"]
    sidecars, servers = out["podSelector"]["matchLabels"], into["podSelector"]["matchLabels"]
    hold(servers.items() <= labels.items(), "the policy is about the server")
    hold({"to": [{"podSelector": {"matchLabels": servers}}], "ports": [way]} in out["egress"], "out: to the server")
    hold(into["ingress"] == [{"from": [{"podSelector": {"matchLabels": sidecars}}], "ports": [way]}], "in: sidecars")
    hold(set(into["policyTypes"]) == {"Ingress", "Egress"} and "egress" not in into, "the server calls nobody")


def sidecar_first(pod):
    names = [container["name"] for container in pod.spec["initContainers"]]
    hold(names[0] == "sezzle-sidecar", f"the sidecar before all other init containers, not {names}")


def plain_cluster(manifests):
    """`kubectl apply` needs no custom resource, of the Prometheus operator or another."""
    own = ["v1", "apps/v1", "networking.k8s.io/v1"]
    hold(all(manifest["apiVersion"] in own for manifest in manifests), "kinds that every cluster has")


def promises(manifests, program):
    pod = Pod(manifests)
    effective = program.effective(pod)
    sidecar_first(pod)
    native_sidecar(pod)
    strict(pod)
    keys(pod, effective)
    network(pod, effective)
    scraping(pod, effective)
    stopping(pod, effective)
    memory(pod, effective)
    audit(pod)
    fleet(pod, effective)


def check(manifests, program):
    promises(manifests, program)
    # The slowest check comes last.
    schemas(manifests)
