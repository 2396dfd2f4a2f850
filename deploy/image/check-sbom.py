"""Checks the bill of materials on standard input: CycloneDX's schema, and crates that must or must not be in it."""

import json
import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

# EXPECTED crates are certainly linked in. FOREIGN ones serve only tests, builds or other features.
EXPECTED = {"aws-lc-rs", "aws-lc-sys", "hyper", "rustls", "tokio", "webpki-roots"}
FOREIGN = {"cc", "criterion", "proptest", "ring", "serde_derive", "syn", "tempfile"}

text = sys.stdin.read()
mistake = JsonStrictValidator(SchemaVersion.V1_5).validate_str(text)
if mistake:
    sys.exit(f"bill of materials: {mistake}")
bill = json.loads(text)
names = {component["name"] for component in bill["components"]}
if not EXPECTED <= names or FOREIGN & names:
    sys.exit(f"bill of materials: lacks {EXPECTED - names}, has {FOREIGN & names}")
refs = {component["bom-ref"] for component in bill["components"]} | {bill["metadata"]["component"]["bom-ref"]}
if {dependency["ref"] for dependency in bill["dependencies"]} != refs:
    sys.exit("bill of materials: the listed components are not those that depend on each other")
print(f"bill of materials: {len(names)} crates")
