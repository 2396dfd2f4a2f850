"""Copies of the manifests with one mistake each, which a rule must find."""

import copy

from rules import USER, Pod, named, one

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
            # A name stands for the item of a list that has the name.
            place = named(place, step) if isinstance(place, list) and isinstance(step, str) else place[step]
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
    yield at(["sidecar", "securityContext", "seccompProfile"], None)
    yield at(["sidecar", "resources", "limits", "memory"], "64Mi")
    yield at(["sidecar", "resources", "limits", "cpu"], "100m")
    yield at(["sidecar", "volumeMounts", "sezzle-keys", "subPath"], "public_key")
    yield at(["sidecar", "volumeMounts", "sezzle-keys", "readonly"], True)
    yield at(["pod", "terminationGracePeriodSeconds"], 30)
    yield at(["pod", "securityContext", "fsGroup"], 1000)
    yield at(["pod", "securityContext", "runAsUser"], USER)
    yield at(["pod", "containers", 0, "securityContext", "runAsUser"], USER)
    yield at(["pod", "hostNetwork"], True)
    yield at(["pod", "volumes", "sezzle-keys", "secret", "defaultMode"], 0o444)
    yield at(["pod", "containers", "shop", "volumeMounts", 0, "name"], "sezzle-keys")
    yield at(["template", "metadata", "labels", "sezzle-sidecar"], "yes")
    yield at(["NetworkPolicy", "ingress", 0, "ports", 0, "port"], 8080)
    yield at(["NetworkPolicy", "egress", 0, "ports", 0, "port"], 80)
    yield at(["NetworkPolicy", "egress", 0, "to"], None)
    yield at(["pod", "initContainers"], [{"name": "migrate", "image": "any"}, *Pod(manifests).spec["initContainers"]])
    yield toml('timeout = "40s"', 'timeout = "60s"')
    yield toml('listen = "0.0.0.0:9464"', 'listen = "127.0.0.1:9464"')
    yield toml('listen = "0.0.0.0:9464"', 'listen = "0.0.0.0:9465"')
    yield toml('listen = "127.0.0.1:9465"', 'listen = "unix:/run/control.sock"')
    yield toml("in_flight = 128", "in_flight = 512")
    yield toml("in_flight", "inflight")
    yield toml("/run/secrets/sezzle/public_key", "/run/secrets/public_key")
    names = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests}
    if ("PodMonitor", "sezzle-sidecar") in names:
        yield at(["PodMonitor", "podMetricsEndpoints", 0, "port"], "metrics")
        yield at(["PodMonitor", "podMetricsEndpoints", 0, "scrapeTimeout"], "60s")
        yield at(["template", "metadata", "annotations"], {"prometheus.io/scrape": "true"})
    else:
        yield at(["template", "metadata", "annotations", "prometheus.io/port"], "8080")
        yield at(["template", "metadata", "annotations"], {})
    if ("Service", "sezzle-webhooks") in names:
        yield at(["sidecar", "env", "SEZZLE_SIDECAR__WEBHOOKS__LISTEN", "value"], "0.0.0.0:8083")
        yield at(["sidecar", "env", "SEZZLE_SIDECAR__WEBHOOKS__FORWARD_TO", "value"], "http://127.0.0.1:1/webhooks")
        yield at(["Service/sezzle-webhooks", "selector"], {"app": "hooks"})
        yield at(["Service/sezzle-webhooks", "ports", 0, "targetPort"], "sezzle-ops")
        yield at(["Ingress/sezzle-webhooks", "rules", 0, "http", "paths", 0, "path"], "/")
        yield at(["Ingress/sezzle-webhooks", "rules", 0, "host"], "other.example")
        yield at(["NetworkPolicy", "ingress", 1, "from"], None)
    if "sezzle-socket" in [volume["name"] for volume in Pod(manifests).spec["volumes"]]:
        yield at(["pod", "containers", "shop", "volumeMounts", "sezzle-socket", "mountPath"], "/run/other")
        yield at(["sidecar", "env", "SEZZLE_SIDECAR__PROXY__LISTEN", "value"], "unix:/run/other/proxy.sock")
        yield at(["pod", "volumes", "sezzle-socket", "emptyDir"], None)
        other = {"name": "sezzle-socket", "mountPath": "/elsewhere"}
        yield at(["pod", "initContainers", "migrate", "volumeMounts", 0], other)
    if "sezzle-gateway" in [volume["name"] for volume in Pod(manifests).spec["volumes"]]:
        yield at(["pod", "hostAliases", 0, "ip"], "10.0.0.1")
        yield at(["pod", "hostAliases", 0, "hostnames"], ["gateway.sezzle.com", "sandbox.gateway.sezzle.com"])
        yield at(["pod", "securityContext", "sysctls", 0, "value"], "444")
        yield at(["pod", "securityContext", "sysctls", 0, "name"], "net.core.somaxconn")
        yield at(["pod", "securityContext", "sysctls"], None)
        yield at(["sidecar", "env", "SEZZLE_SIDECAR__PROXY__LISTEN", "value"], "0.0.0.0:443")
        yield at(["sidecar", "env", "SEZZLE_SIDECAR__PROXY__HOSTS", "value"], "gateway.sezzle.com")
        yield at(["sidecar", "env", "SEZZLE_SIDECAR__GATEWAY__RESOLVER", "value"], "system")
        yield at(["sidecar", "env", "SEZZLE_SIDECAR__LINKS__REWRITE", "value"], "true")
        yield at(["sidecar", "env", "SEZZLE_SIDECAR__PROXY__TLS__KEY_FILE", "value"], "/run/secrets/sezzle-gateway/key")
        yield at(["sidecar", "volumeMounts", "sezzle-gateway", "mountPath"], "/run/secrets/other")
        yield at(["pod", "volumes", "sezzle-gateway", "secret", "defaultMode"], 0o444)
        yield at(["pod", "volumes", "sezzle-gateway-authority", "secret", "items"], None)
        yield at(["pod", "containers", "shop", "volumeMounts", "sezzle-gateway-authority", "name"], "sezzle-gateway")
        yield at(["pod", "containers", "shop", "env", "SEZZLE_URL", "value"], "https://gateway.sezzle.com")
        yield toml('environment = "sandbox"', 'environment = "production"')
    if "sezzle-audit" in [volume["name"] for volume in Pod(manifests).spec["volumes"]]:
        yield at(["sidecar", "env", "SEZZLE_SIDECAR__AUDIT__FILE", "value"], "/var/log/sezzle-sidecar/audit.log")
        yield at(["sidecar", "env", "SEZZLE_SIDECAR__AUDIT__FILE", "value"], "/var/log/$(POD_NAME).log")
        yield at(["sidecar", "env", "POD_NAME", "valueFrom", "fieldRef", "fieldPath"], "metadata.namespace")
        yield at(["sidecar", "env"], list(reversed(Pod(manifests).sidecar["env"])))
        yield at(["sidecar", "volumeMounts", "sezzle-audit", "readOnly"], True)
        yield at(["pod", "securityContext", "fsGroupChangePolicy"], None)
        yield at(["pod", "volumes", "sezzle-audit", "persistentVolumeClaim"], None)
        yield at(["pod", "volumes", "sezzle-audit", "persistentVolumeClaim", "claimName"], "other")
        yield at(["pod", "containers", "shop", "volumeMounts", 0, "name"], "sezzle-audit")
        yield at(["PersistentVolumeClaim/sezzle-audit", "accessModes"], ["ReadWriteOnce"])
    if ("Deployment", "valkey") not in names:
        return

    yield at(["sidecar", "args"], ["run", "--config", "/etc/sezzle-sidecar/sidecar.toml", "--config"])
    yield at(["sidecar", "volumeMounts", "fleet", "readOnly"], False)
    yield at(["pod", "volumes", "fleet", "projected", "defaultMode"], 0o444)
    yield at(["pod", "volumes", "fleet", "projected", "sources", 0, "secret", "items"], [])
    yield at(["pod", "containers", "shop", "volumeMounts", 0, "name"], "fleet")
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
    yield at(["NetworkPolicy", "egress", -1, "ports", 0, "port"], 6380)
    yield at(["NetworkPolicy/valkey", "ingress", 0, "from"], None)
    yield at(["NetworkPolicy/valkey", "policyTypes"], ["Ingress"])
    yield toml("port 0", "port 6380")
    yield toml("volatile-ttl", "allkeys-lru")
    yield toml("rediss://", "redis://")
    yield toml("/run/secrets/fleet/keys", "/run/secrets/keys")
