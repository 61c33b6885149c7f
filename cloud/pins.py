"""Pin what the image may install: `python -m cloud.pins > cloud/constraints.txt`.

Walks the run-time dependencies of pyproject.toml through the packages of this environment, as the
image's Python would see them.
"""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cloud.image import requirements

IMAGE = {
    "python_version": "3.12",
    "python_full_version": "3.12.3",
    "sys_platform": "linux",
    "platform_machine": "x86_64",
    "platform_system": "Linux",
    "os_name": "posix",
    "implementation_name": "cpython",
}


def needed(lines: list[str]) -> list[Requirement]:
    """Those of `lines` whose marker holds in the image."""
    found = [Requirement(line) for line in lines]
    return [r for r in found if not r.marker or r.marker.evaluate({**IMAGE, "extra": ""})]


def pins(lines: list[str]) -> dict[str, str]:
    """Name -> version of everything that `lines` need. Raises PackageNotFoundError."""
    found: dict[str, str] = {}
    todo = needed(lines)
    while todo:
        name = canonicalize_name(todo.pop().name)
        if name not in found:
            package = metadata.distribution(name)
            found[name] = package.version
            todo += needed(package.requires or [])
    return dict(sorted(found.items()))


def main() -> None:
    lines = requirements(Path("pyproject.toml"))
    sys.stdout.write("# The versions the tests ran with. Written by `python -m cloud.pins`.\n")
    sys.stdout.writelines(f"{name}=={version}\n" for name, version in pins(lines).items())


if __name__ == "__main__":
    main()
