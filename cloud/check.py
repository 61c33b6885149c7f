"""Check s.yaml, the RAM policies and the alarms offline: `python -m cloud.check [s.yaml]`.

Prints one fault per line; the exit code is 1 if there are any.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

from cloud import ram, template, terraform

POLICIES = Path(__file__).parent / "policies"
MONITORING = Path(__file__).parent / "monitoring"


def find_faults(path: Path, policies: Path = POLICIES) -> Iterator[str]:
    text = path.read_text(encoding="utf-8")
    if template.SECRET.search(text):
        yield f"{path}: contains something that looks like a secret"
    for fault in template.find_faults(yaml.safe_load(text), os.environ):
        yield f"{path}: {fault}"
    for policy in sorted(policies.glob("*.json")):
        for fault in ram.find_faults(policy.name, policy.read_text(encoding="utf-8")):
            yield f"{policy}: {fault}"
    for fault in terraform.find_faults(MONITORING):
        yield f"{MONITORING}/{fault}"


def main(arguments: list[str]) -> int:
    path = Path(arguments[0] if arguments else "s.yaml")
    faults = list(find_faults(path))
    sys.stdout.write(
        "".join(f"{fault}\n" for fault in faults) or f"{path}, policies and alarms: OK\n"
    )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
