"""Refuse GPL and AGPL at run time: `python -m cloud.licences`.

Reads what each run-time dependency of the image, and each of theirs, declares in its metadata.
Prints one fault a line and exits 1 if there is any. It does not look into the files of a package: a
library that a wheel carries inside and does not declare is not seen.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from email.message import Message
from importlib import metadata
from pathlib import Path

from cloud.image import requirements
from cloud.pins import pins

REFUSED = re.compile(r"\bA?GPL|(?<!lesser )(?<!library )general public licen[cs]e", re.IGNORECASE)
"""Not the LGPL: a program of any licence may call a library that can be replaced."""

EXCEPTIONS: Mapping[str, str] = {}
"""Package -> why it may be used all the same. An exception that nothing needs is a fault."""


def declared(package: Message) -> list[str]:
    """What the metadata say, by PEP 639 if it is there, else by classifiers and the old field."""
    if expression := package.get("License-Expression"):
        return [str(expression)]
    classifiers = [str(line).split(" :: ") for line in package.get_all("Classifier") or []]
    found = [line[-1] for line in classifiers if line[0] == "License"]
    text = str(package.get("License") or "").strip()
    vague = {"OSI Approved", "UNKNOWN"}
    return [line for line in [*found, *text.splitlines()[:1]] if line not in vague]


def faults(
    packages: Iterable[tuple[str, Message]], exceptions: Mapping[str, str] = EXCEPTIONS
) -> Iterator[str]:
    unused = set(exceptions)
    for name, package in packages:
        says = declared(package)
        fault = ""
        if not says:
            fault = "declares no licence"
        elif any(REFUSED.search(line) for line in says):
            fault = f"is under {', '.join(says)}"
        if fault and name not in exceptions:
            yield f"{name}: {fault}"
        elif fault:
            unused.discard(name)
    for name in sorted(unused):
        yield f"{name}: needs no exception"


def main() -> int:
    names = pins(requirements(Path("pyproject.toml")))
    packages = [(name, metadata.distribution(name).metadata) for name in names]
    found = list(faults(packages))
    last = [f"licences of {len(names)} packages: OK"]
    sys.stdout.writelines(f"{line}\n" for line in found or last)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
