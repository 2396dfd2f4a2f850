"""Checks the rendered objects for the Prometheus operator and Grafana against the plain files.

    check.py RENDERED.yaml

Each rule is also tried on a copy of the objects with one mistake, which the rule must find."""

import copy
import json
import pathlib
import sys

import yaml

# Keys of the operator's API, monitoring.coreos.com/v1.
GROUP = {"name", "interval", "rules", "limit", "labels", "query_offset", "partial_response_strategy"}
RECORD = {"record", "expr", "labels"}
ALERT = {"alert", "expr", "for", "keep_firing_for", "labels", "annotations"}
# `kubectl apply` keeps a copy of the object in an annotation, which may have so many bytes.
MOST = 262_144


class Wrong(Exception):
    """A rule is broken."""


def hold(condition, rule):
    if not condition:
        raise Wrong(rule)


def one(objects, kind):
    found = [item for item in objects if item["kind"] == kind]
    hold(len(found) == 1, f"exactly one {kind}")
    return found[0]


def rules(objects):
    rule = one(objects, "PrometheusRule")
    hold(rule["apiVersion"] == "monitoring.coreos.com/v1", "the version that the operator serves")
    hold(set(rule["spec"]) == {"groups"}, "keys of a PrometheusRule")
    groups = rule["spec"]["groups"]
    for group in groups:
        hold(set(group) <= GROUP and {"name", "rules"} <= set(group), "keys of a group")
        for item in group["rules"]:
            hold(set(item) <= (ALERT if "alert" in item else RECORD) and "expr" in item, f"keys of a rule: {item}")
    plain = [yaml.safe_load(pathlib.Path(f"deploy/prometheus/{file}.yml").read_text()) for file in ["recording", "alerts"]]
    hold(groups == [group for file in plain for group in file["groups"]], "the groups of the plain files")


def dashboard(objects):
    config = one(objects, "ConfigMap")
    hold(config["metadata"]["labels"].get("grafana_dashboard") == "1", "Grafana's sidecar finds the dashboard")
    hold(config["metadata"]["name"] == "sezzle-sidecar-dashboard", "the same name after each change")
    text = pathlib.Path("deploy/grafana/sezzle-sidecar.json").read_text()
    hold(config["data"] == {"sezzle-sidecar.json": text}, "the file that everybody else imports")
    hold(len(json.dumps(config)) < MOST, "small enough for kubectl apply")


def check(objects):
    rules(objects)
    dashboard(objects)
    hold(len(objects) == 2, "nothing else")
    hold({item["metadata"]["namespace"] for item in objects} == {"monitoring"}, "one namespace")


def spoilt(objects):
    """Copies of the objects with one mistake each."""

    def at(kind, path, value):
        fresh = copy.deepcopy(objects)
        place = one(fresh, kind)
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value
        return f"{kind} {path}", fresh

    groups = one(objects, "PrometheusRule")["spec"]["groups"]
    yield at("PrometheusRule", ["apiVersion"], "monitoring.coreos.com/v1beta1")
    yield at("PrometheusRule", ["spec", "groups"], groups[:1])
    yield at("PrometheusRule", ["spec", "groups", 1, "rules", 0, "for"], "1m")
    yield at("PrometheusRule", ["spec", "groups", 0, "rules", 0, "expr"], "up")
    yield at("PrometheusRule", ["spec", "groups", 0, "rules", 0, "for"], "5m")
    yield at("PrometheusRule", ["metadata", "namespace"], "default")
    yield at("ConfigMap", ["data", "sezzle-sidecar.json"], "{}")
    yield at("ConfigMap", ["metadata", "labels", "grafana_dashboard"], "0")
    yield at("ConfigMap", ["metadata", "name"], "sezzle-sidecar-dashboard-7k2f")


def main():
    objects = list(yaml.safe_load_all(pathlib.Path(sys.argv[1]).read_text()))
    check(objects)
    tried, missed = 0, []
    for mistake, fresh in spoilt(objects):
        tried += 1
        try:
            check(fresh)
            missed.append(mistake)
        except Wrong:
            pass
    hold(not missed, f"not noticed: {missed}")
    print(f"prometheus-operator: {len(objects)} objects equal the plain files, {tried} mistakes noticed")


if __name__ == "__main__":
    try:
        main()
    except Wrong as wrong:
        sys.exit(f"deploy/prometheus-operator: {wrong}")
