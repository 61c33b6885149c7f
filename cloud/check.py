"""Check s.yaml and the RAM policies without a cloud: `python -m cloud.check [s.yaml]`.

Prints one fault a line and exits 1 if there is any.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

from cloud import ram, template

POLICIES = Path(__file__).parent / "policies"
SECRET = re.compile(r"LTAI[0-9A-Za-z]{12,}|BEGIN [A-Z ]*PRIVATE KEY|[0-9A-Za-z+/]{43}=")


def faults(path: Path, policies: Path = POLICIES) -> Iterator[str]:
    text = path.read_text(encoding="utf-8")
    if SECRET.search(text):
        yield f"{path}: holds something that looks like a secret"
    for fault in template.check(yaml.safe_load(text), os.environ):
        yield f"{path}: {fault}"
    for policy in sorted(policies.glob("*.json")):
        for fault in ram.check(policy.name, policy.read_text(encoding="utf-8")):
            yield f"{policy}: {fault}"


def main(arguments: list[str]) -> int:
    path = Path(arguments[0] if arguments else "s.yaml")
    found = list(faults(path))
    sys.stdout.write("".join(f"{fault}\n" for fault in found) or f"{path} and policies: OK\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
