"""Checks the Kubernetes manifests against Kubernetes' schemas, the promises of the pages about them, and the program.

    python deploy/kubernetes/check KUBECTL SEZZLE-SIDECAR

Each rule is also tried on copies of the manifests with one mistake, which the rule must find."""

import os
import sys

import components
from mistakes import spoilt
from program import Program
from rendering import ROOT, Kubectl
from rules import VERSIONS, Pod, Wrong, check, plain_cluster


def whole(name, manifests, program):
    """Every rule, the running program, and every mistake."""
    check(manifests, program)
    program.answers(Pod(manifests))
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
        raise Wrong(f"{name}: not noticed: {missed}")
    print(f"{name}: {len(manifests)} manifests by {VERSIONS[0]} to {VERSIONS[-1]}, {tried} mistakes noticed")


def main():
    kubectl, program = Kubectl(sys.argv[1]), Program(os.path.abspath(sys.argv[2]))
    for example in ["deploy/kubernetes", "deploy/kubernetes-fleet", "deploy/kubernetes-gateway"]:
        manifests = kubectl.render(ROOT / example)
        plain_cluster(manifests)
        whole(example, manifests, program)
    whole("every component", components.everything(kubectl), program)
    components.the_sidecar_only_adds(kubectl)
    components.the_sidecar_stays_first(kubectl, program)
    components.the_page_is_right(kubectl, program)


main()
