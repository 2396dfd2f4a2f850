"""The components in the kustomizations of merchants, with patches as operators write them."""

import re
import textwrap

import yaml

from rendering import ROOT, deployment, json_patch, merchant, own_init_container, patch
from rules import Pod, hold, named, promises

USUAL = ["sidecar", "network-policy", "scrape-annotations"]
FIRST = {"transformers": ["../sezzle-sidecar/deploy/kubernetes/sidecar-first"]}

MEMORY = {"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": {"memory": "256Mi"}}
SIDECAR = {"name": "sezzle-sidecar", "resources": MEMORY}
WARM = {"name": "warm", "image": "registry.example/warm"}
NEW = own_init_container(deployment()["spec"]["template"]["spec"], "new")
# Patches, each with the container that comes first without `sidecar-first`.
PATCHES = {
    "none": ([], "sezzle-sidecar"),
    "an own init container": ([patch(initContainers=[WARM])], "warm"),
    "a new init container": ([patch(initContainers=[NEW])], "new"),
    "an own one removed": ([patch(initContainers=[{"name": "migrate", "$patch": "delete"}])], "sezzle-sidecar"),
    "the sidecar": ([patch(initContainers=[SIDECAR])], "sezzle-sidecar"),
    "the sidecar after an own one": ([patch(initContainers=[WARM, SIDECAR])], "warm"),
    "the sidecar before an own one": ([patch(initContainers=[SIDECAR, WARM])], "sezzle-sidecar"),
    "the sidecar, then an own one": ([patch(initContainers=[SIDECAR]), patch(initContainers=[WARM])], "warm"),
    "the service": ([patch(containers=[{"name": "shop", "image": "registry.example/shop"}])], "sezzle-sidecar"),
    "JSON, the sidecar": ([json_patch("replace", "/initContainers/0/resources", MEMORY)], "sezzle-sidecar"),
    "JSON, one before it": ([json_patch("add", "/initContainers/0", NEW)], "new"),
}


def everything(kubectl):
    """Every component that goes with the others, with its files to copy, and the patches that docs/installation.md shows."""
    files = {name: block(name) for name in ["webhooks.yaml", "socket.yaml"]}
    copied = ["webhooks/ingress.yaml", "audit/claim.yaml"]
    files |= {path.split("/")[1]: (ROOT / "deploy/kubernetes/components" / path).read_text() for path in copied}
    own = merchant(
        "sidecar", "network-policy", "pod-monitor", "webhooks", "unix-socket", "audit",
        files=files, resources=["deployment.yaml", "ingress.yaml", "claim.yaml"],
        patches=[{"path": "webhooks.yaml"}, {"path": "socket.yaml"}], **FIRST,
    )  # fmt: skip
    return kubectl.merchants({"all": own})["all"]


def the_sidecar_only_adds(kubectl):
    """The component of the sidecar changes nothing of the service beside it."""
    unlabelled = deployment()
    del unlabelled["metadata"]["labels"]
    kinds = {kind: {**deployment(), "kind": kind} for kind in ["Deployment", "StatefulSet", "DaemonSet"]}
    cases = {kind: merchant("sidecar", own=own) for kind, own in kinds.items()}
    rendered = kubectl.merchants({**cases, "unlabelled": merchant("sidecar", own=unlabelled)})
    for kind, own in [*kinds.items(), ("unlabelled", unlabelled)]:
        (workload,) = [manifest for manifest in rendered[kind] if manifest["kind"] == own["kind"]]
        del workload["metadata"]["namespace"]
        if kind != "unlabelled":
            pod = workload["spec"]["template"]["spec"]
            hold(workload["spec"]["template"]["metadata"]["labels"].pop("sezzle-sidecar") == "true", "a label")
            hold(pod["initContainers"].pop(0)["name"] == "sezzle-sidecar", f"the sidecar, first, in a {kind}")
            for volume in ["sezzle-config", "sezzle-keys"]:
                pod["volumes"].remove(named(pod["volumes"], volume))
        hold(workload == own, f"nothing else changes: {kind}")


def the_sidecar_stays_first(kubectl, program):
    """The sidecar comes before all other init containers, which may call Sezzle, whatever operators patch."""
    bare = {name: merchant(*USUAL, patches=patches) for name, (patches, _) in PATCHES.items()}
    kept = {f"{name}, kept": merchant(*USUAL, patches=patches, **FIRST) for name, (patches, _) in PATCHES.items()}
    # Kustomizations on two levels. The upper one has no configuration of its own.
    upper = {"configMapGenerator": [], **FIRST}
    added, both = PATCHES["a new init container"][0], PATCHES["the sidecar, then an own one"][0]
    below = {f"below/{path}": content for path, content in merchant(patches=added).items()}
    base = {f"base/{path}": content for path, content in merchant(*USUAL, **FIRST).items()}
    layers = {
        "patched below the component": merchant(*USUAL, files=below, resources=["below"], configMapGenerator=[]),
        "patched above the component": merchant(files=base, resources=["base"], patches=both, **upper),
    }
    rendered = kubectl.merchants({**bare, **kept, **layers})
    for name, (_, first) in PATCHES.items():
        # docs/installation.md says what kustomize does by itself. When kustomize changes, the page must change too.
        hold(order(rendered[name])[0] == first, f"{name}: kustomize alone puts {order(rendered[name])[0]} first")
        hold(sorted(order(rendered[f"{name}, kept"])) == sorted(order(rendered[name])), f"{name}: the same containers")
    for name in [*kept, *layers]:
        hold(order(rendered[name])[0] == "sezzle-sidecar", f"{name}: the sidecar is first, not {order(rendered[name])}")
        promises(rendered[name], program)
    print(f"components: the sidecar stays first, {len(kept) + len(layers)} ways to patch")


def order(manifests):
    return [container["name"] for container in Pod(manifests).spec["initContainers"]]


def block(name):
    """The file of this name that docs/installation.md shows."""
    page = (ROOT / "docs/installation.md").read_text()
    (text,) = re.findall(rf"`{re.escape(name)}`:\n\n((?:(?: {{4}}.*)?\n)+)", page)
    return textwrap.dedent(text)


def the_page_is_right(kubectl, program):
    """The files that docs/installation.md shows are what a merchant needs."""
    lines = yaml.safe_load(block("deployment.yaml"))
    hold(within(lines, deployment()), "the lines of the page are those of the example")
    # The component that is left out at first, because it cuts off a service without a policy of its own.
    (text, left_out) = (block("kustomization.yaml"), "# - ../sezzle-sidecar")
    hold(text.count(left_out) == 1 and "network-policy" in text.split(left_out)[1].splitlines()[0], "one line")
    kustomization = yaml.safe_load(text.replace(left_out, "- ../sezzle-sidecar"))
    own = merchant() | {"kustomization.yaml": kustomization}
    promises(kubectl.merchants({"page": own})["page"], program)


def within(part, whole):
    """Whether all that a fragment of YAML says stands in the whole too; the items of a list by their names."""
    if isinstance(part, dict):
        return all(key in whole and within(value, whole[key]) for key, value in part.items())
    if isinstance(part, list):
        return all(within(item, named(whole, item["name"])) for item in part)
    return part == whole
