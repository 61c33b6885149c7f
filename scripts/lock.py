"""Write the lock: `python -m scripts.lock [--upgrade]`, with the extra `upgrade` installed.

`--wheels-for aarch64-manylinux_2_39` lists the packages that have no wheel for another machine.

The lock is the folder `requirements/`: files in pip's format, with the hash of every file of every
package, for Python 3.11 to 3.13 on any platform. `run.txt` has the packages that voicedrop always
needs, `build.txt` those that build source packages (`build-X.txt`: those of extra X). Each extra of
pyproject.toml has a file that includes (`-r`) the files of the extras it needs and adds the rest:

    pip install --require-hashes -r requirements/build.txt
    pip install --require-hashes --no-build-isolation -r requirements/cpu.txt -r requirements/ko.txt

All files are resolved together, so a package has the same version in all of them. Versions change
only if pyproject.toml requires it; `--upgrade` takes the newest allowed versions.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from packaging.markers import Marker
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "requirements"
FIRST_PYTHON = "3.11"
RUN = "run"
SEPARATE = "image-cuda12"
"""The only extra with a version of its own, that of ONNX Runtime for CUDA 12."""
SIZES = FOLDER / "sizes.json"
"""File of the lock -> megabytes to download and on disk, without the files that it includes."""


@dataclass(frozen=True, slots=True)
class Pin:
    """One package of the lock."""

    name: str
    version: str
    marker: str
    """PEP 508 marker; empty if the package is needed everywhere."""
    hashes: tuple[str, ...]
    """`sha256:<hex>` of each file of this version."""

    def is_needed(self, environment: Mapping[str, str] | None = None) -> bool:
        """Return whether the package is needed here, or where the marker variables in
        `environment` have other values."""
        return not self.marker or Marker(self.marker).evaluate(dict(environment or {}))

    def __str__(self) -> str:
        head = f"{self.name}=={self.version}" + (f" ; {self.marker}" if self.marker else "")
        return " \\\n    ".join([head, *(f"--hash={value}" for value in self.hashes)])


class Content(NamedTuple):
    """The content of one file of the lock."""

    includes: list[str]
    pins: list[Pin]


def parse(text: str) -> Content:
    """Parse a file of the lock or of uv. Raises ValueError for a line that is not a pin."""
    includes, pins = [], []
    for line in re.sub(r" *\\\n *", " ", text).splitlines():
        if line.startswith("-r "):
            includes.append(line.removeprefix("-r ").removesuffix(".txt"))
        elif line and not line.startswith("#"):
            head, *hashes = line.split(" --hash=")
            match = re.fullmatch(r"([a-z0-9-]+)==([^ ;]+)(?: ; (.+))?", head)
            if not match:
                raise ValueError(f"not a pinned package: {line[:80]}")
            pins.append(Pin(match[1], match[2], match[3] or "", tuple(hashes)))
    return Content(includes, pins)


def read_pins(name: str, folder: Path = FOLDER) -> dict[str, Pin]:
    """Return name -> pin of all packages in one file of the lock and the files it includes."""
    includes, own = parse((folder / f"{name}.txt").read_text(encoding="utf-8"))
    pins: dict[str, Pin] = {}
    for included in includes:
        pins |= read_pins(included, folder)
    return pins | {pin.name: pin for pin in own}


def list_files(pyproject: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return file of the lock -> the files that it includes. A file comes after those."""
    includes: dict[str, list[str]] = {name: [] for name in (*pyproject["dependency-groups"], RUN)}
    for extra, lines in pyproject["project"]["optional-dependencies"].items():
        own = [r for r in map(Requirement, lines) if r.name == pyproject["project"]["name"]]
        includes[extra] = sorted({name for r in own for name in r.extras}) or [RUN]
    return dict(sorted(includes.items(), key=lambda file: len(file[1])))


def _selection(name: str, pyproject: Mapping[str, Any]) -> list[str]:
    """Return the options of uv that select the packages of one file."""
    if name in pyproject["dependency-groups"]:
        return ["--group", name]
    return ["pyproject.toml", *([] if name == RUN else ["--extra", name])]


def _resolve(
    selection: Iterable[str], constraints: Iterable[str], preferred: Iterable[Pin] = ()
) -> list[Pin]:
    """Return all packages that `selection` needs, within `constraints`: in the `preferred` versions
    where they are allowed, or else in the newest."""
    command = [f"{sysconfig.get_path('scripts')}/uv", "pip", "compile", *selection]
    command += ["--universal", "--python-version", FIRST_PYTHON, "--fork-strategy", "fewest"]
    command += ["--generate-hashes", "--no-header", "--no-annotate", "--quiet"]
    command += ["--no-emit-package", "voicedrop"]
    with tempfile.TemporaryDirectory() as folder:
        limits, out = Path(folder, "limits.txt"), Path(folder, "out.txt")
        limits.write_text("\n".join(constraints), encoding="utf-8")
        out.write_text("\n".join(map(str, preferred)), encoding="utf-8")
        subprocess.run(
            [*command, "--constraint", limits, "--output-file", out], cwd=ROOT, check=True
        )
        return parse(out.read_text(encoding="utf-8")).pins


def resolve(pyproject: Mapping[str, Any], *, upgrade: bool) -> dict[str, Content]:
    """Return the new content of each file of the lock."""
    files = list_files(pyproject)
    options = {name: _selection(name, pyproject) for name in files}
    locked = [path for path in FOLDER.glob("*.txt") if path.stem != SEPARATE and not upgrade]
    old = [pin for path in locked for pin in parse(path.read_text(encoding="utf-8")).pins]
    # The CPU build may have newer releases, but tests must run the version that the image has.
    (cuda,) = [p for p in _resolve(options["gpu"], [], old) if p.name == "onnxruntime-gpu"]
    everything = [option for name in files if name != SEPARATE for option in options[name]]
    together = _resolve(everything, [f"onnxruntime=={cuda.version}"], old)

    needed: dict[str, list[Pin]] = {}
    contents: dict[str, Content] = {}
    for name, includes in files.items():
        limits = [pin for pin in together if name != SEPARATE or pin.name != cuda.name]
        needed[name] = _resolve(options[name], [f"{pin.name}=={pin.version}" for pin in limits])
        included_pins = {pin for included in includes for pin in needed[included]}
        own = [pin for pin in needed[name] if pin not in included_pins]
        contents[name] = Content(includes, own)
    return contents


def write(contents: Mapping[str, Content], folder: Path = FOLDER) -> None:
    """Replace the files of the lock."""
    for path in folder.glob("*.txt"):
        path.unlink()
    for name, (includes, pins) in contents.items():
        head = "# Written by `python -m scripts.lock` from pyproject.toml."
        lines = [head, *(f"-r {included}.txt" for included in includes), *map(str, pins)]
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def measure_size(pins: Iterable[Pin]) -> tuple[int, int]:
    """Return the size in megabytes of packages on this machine: to download, and installed."""
    packages = [f"{pin.name}=={pin.version}" for pin in pins if pin.is_needed()]
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    with tempfile.TemporaryDirectory() as folder:
        archives, installed = Path(folder, "archives"), Path(folder, "installed")
        if packages:
            run = partial(subprocess.run, check=True)
            run([*pip, "download", "--no-deps", "--dest", archives, *packages])
            run([*pip, "install", "--no-deps", "--target", installed, *packages])
        return _megabytes(archives), _megabytes(installed)


def _megabytes(folder: Path) -> int:
    return math.ceil(sum(path.lstat().st_blocks for path in folder.rglob("*")) * 512 / 1e6)


def list_without_wheel(platform: str, python: str) -> dict[str, list[str]]:
    """Return file of the lock -> its own packages for which the package index has no wheel for
    `platform`, a name that uv knows, such as aarch64-manylinux_2_39."""
    tool = [f"{sysconfig.get_path('scripts')}/uv", "pip", "install", "--quiet", "--dry-run"]
    tool += ["--no-deps", "--only-binary", ":all:", "--python-platform", platform]
    machine = {"platform_machine": platform.partition("-")[0], "sys_platform": "linux"}
    machine |= {"python_version": python, "python_full_version": f"{python}.0"}
    missing: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        tool += ["--python-version", python, "--target", folder]
        for path in sorted(FOLDER.glob("*.txt")):
            pins = parse(path.read_text(encoding="utf-8")).pins
            packages = [f"{pin.name}=={pin.version}" for pin in pins if pin.is_needed(machine)]
            missing[path.stem] = [
                package
                for package in packages
                if subprocess.run([*tool, package], capture_output=True).returncode
            ]
    return missing


def describe_changes(before: Path, after: Path = FOLDER) -> str:
    """Return the packages whose version differs between two folders of a lock, one per line."""
    old, new = (
        {(pin.name, path.stem == SEPARATE): pin.version for path in sorted(folder.glob("*.txt"))
         for pin in parse(path.read_text(encoding="utf-8")).pins}
        for folder in (before, after)
    )  # fmt: skip
    differ = [key for key in sorted(old | new) if old.get(key) != new.get(key)]
    return "\n".join(f"{k[0]} {old.get(k, '-')} -> {new.get(k, '-')}" for k in differ)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions")
    parser.add_argument("--changes-since", type=Path, metavar="FOLDER", help="only compare")
    parser.add_argument(
        "--wheels-for", metavar="PLATFORM", help="only list what has no wheel for PLATFORM"
    )
    options = parser.parse_args()
    if options.changes_since:
        if not any(options.changes_since.glob("*.txt")):
            parser.error(f"{options.changes_since} is not a folder with a lock")
        sys.stdout.write(describe_changes(options.changes_since))
        return 0
    if options.wheels_for:
        for name, missing in list_without_wheel(options.wheels_for, "3.12").items():
            sys.stdout.write(f"{name}: {', '.join(missing) or 'complete'}\n")
        return 0
    FOLDER.mkdir(exist_ok=True)
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    old = {path.stem: parse(path.read_text(encoding="utf-8")) for path in FOLDER.glob("*.txt")}
    new = resolve(pyproject, upgrade=options.upgrade)
    known = json.loads(SIZES.read_text(encoding="utf-8")) if SIZES.exists() else {}
    sizes = {
        name: known[name]
        if name in known and content == old.get(name)
        else measure_size(content.pins)
        for name, content in sorted(new.items())
    }
    write(new)
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(size)}" for name, size in sizes.items())
    SIZES.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
