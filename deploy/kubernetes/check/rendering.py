"""Renders kustomizations: the examples, and those of merchants who include the components."""

import os
import pathlib
import subprocess
import tempfile

import yaml

from rules import Wrong

ROOT = pathlib.Path(__file__).resolve().parents[3]


class Kubectl:
    def __init__(self, path):
        self.path = path

    def render(self, folder):
        command = [self.path, "kustomize", str(folder)]
        rendered = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if rendered.returncode != 0:
            raise Wrong(f"{folder}: {rendered.stderr}")
        return list(yaml.safe_load_all(rendered.stdout))

    def merchants(self, cases):
        """Renders the folders of several merchants at once, each in a namespace of its own: by name, the files by path.

        `../sezzle-sidecar` in a kustomization means this source."""
        spaces = {name: f"merchant-{number}" for number, name in enumerate(cases)}
        with tempfile.TemporaryDirectory() as root:
            root = pathlib.Path(root).resolve()
            for name, files in cases.items():
                for path, content in files.items():
                    file = root / spaces[name] / path
                    file.parent.mkdir(parents=True, exist_ok=True)
                    if path == "kustomization.yaml":
                        content = {**content, "namespace": spaces[name]}
                    text = content if isinstance(content, str) else yaml.safe_dump(content)
                    # kustomize takes no absolute path.
                    file.write_text(text.replace("../sezzle-sidecar", os.path.relpath(ROOT, file.parent)))
            (root / "kustomization.yaml").write_text(yaml.safe_dump({"resources": list(spaces.values())}))
            rendered = self.render(root)
        return {name: [m for m in rendered if m["metadata"]["namespace"] == space] for name, space in spaces.items()}


def deployment():
    """The Deployment of the example, with two init containers of its own."""
    (own, _) = yaml.safe_load_all((ROOT / "deploy/kubernetes/deployment.yaml").read_text())
    pod = own["spec"]["template"]["spec"]
    pod["initContainers"] = [own_init_container(pod, name) for name in ["migrate", "warm"]]
    pod["volumes"] = [{"name": "shop", "emptyDir": {}}]
    return own


def own_init_container(pod, name):
    left_out = ["ports", "readinessProbe"]
    return {key: value for key, value in pod["containers"][0].items() if key not in left_out} | {"name": name}


def merchant(*components, own=None, files=None, **more):
    """The files of a merchant who includes these components."""
    kustomization = {
        "resources": ["deployment.yaml"],
        "components": [f"../sezzle-sidecar/deploy/kubernetes/components/{name}" for name in components],
        "images": [{"name": "sezzle-sidecar", "newName": "registry.example/sezzle-sidecar", "newTag": "0.1.0"}],
        "configMapGenerator": [{"name": "sezzle-sidecar", "files": ["sidecar.toml"]}],
        **more,
    }
    configuration = (ROOT / "deploy/kubernetes/sidecar.toml").read_text()
    own = {"deployment.yaml": own or deployment(), "sidecar.toml": configuration}
    return {"kustomization.yaml": kustomization, **own, **(files or {})}


def patch(**pod):
    """A strategic merge patch of a pod."""
    whole = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "shop"}}
    return {"patch": yaml.safe_dump({**whole, "spec": {"template": {"spec": pod}}})}


def json_patch(op, path, value):
    steps = [{"op": op, "path": f"/spec/template/spec{path}", "value": value}]
    return {"target": {"kind": "Deployment", "name": "shop"}, "patch": yaml.safe_dump(steps)}
