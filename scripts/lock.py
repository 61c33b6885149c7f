"""Write the lock: `python -m scripts.lock [--upgrade]`, with the extra `upgrade` installed.

The lock is the folder `requirements/`: files in pip's own format, with the hash of every file of
every package, for Python 3.11 to 3.13 on any platform. `run.txt` holds what the program always
needs, `build.txt` what builds packages that come as source (`build-X.txt`: those of extra X). Each
extra of pyproject.toml has a file that includes (`-r`) the files it stands on and adds what those
do not have:

    pip install --require-hashes -r requirements/build.txt
    pip install --require-hashes --no-build-isolation -r requirements/cpu.txt -r requirements/ko.txt

Everything is resolved together, so a package has the same version in all files. Versions stay as
they are unless pyproject.toml asks for others; `--upgrade` takes the newest that it admits.
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
APART = "image-cuda12"
"""The one extra that pins a version of its own, of ONNX Runtime with CUDA."""
SIZES = FOLDER / "sizes.json"
"""File of the lock -> megabytes to download and on disk of what it adds to those it includes."""


@dataclass(frozen=True, slots=True)
class Pin:
    """One package of the lock."""

    name: str
    version: str
    marker: str
    """Where it is needed (PEP 508); empty: everywhere."""
    hashes: tuple[str, ...]
    """`sha256:...` of each file of this version."""

    def holds(self, environment: Mapping[str, str] | None = None) -> bool:
        """Whether it is needed in this environment, changed by `environment`."""
        return not self.marker or Marker(self.marker).evaluate(dict(environment or {}))

    def __str__(self) -> str:
        head = f"{self.name}=={self.version}" + (f" ; {self.marker}" if self.marker else "")
        return " \\\n    ".join([head, *(f"--hash={value}" for value in self.hashes)])


class Content(NamedTuple):
    """What one file of the lock says."""

    includes: list[str]
    pins: list[Pin]


def parse(text: str) -> Content:
    """A file of the lock, or one that uv wrote. Raises ValueError at a line that is no pin."""
    includes, pins = [], []
    for line in re.sub(r" *\\\n *", " ", text).splitlines():
        if line.startswith("-r "):
            includes.append(line.removeprefix("-r ").removesuffix(".txt"))
        elif line and not line.startswith("#"):
            head, *hashes = line.split(" --hash=")
            found = re.fullmatch(r"([a-z0-9-]+)==([^ ;]+)(?: ; (.+))?", head)
            if not found:
                raise ValueError(f"not a pinned package: {line[:80]}")
            pins.append(Pin(found[1], found[2], found[3] or "", tuple(hashes)))
    return Content(includes, pins)


def read(name: str, folder: Path = FOLDER) -> dict[str, Pin]:
    """Name -> pin of all that one file of the lock installs, those of included files among them."""
    includes, own = parse((folder / f"{name}.txt").read_text(encoding="utf-8"))
    found: dict[str, Pin] = {}
    for included in includes:
        found |= read(included, folder)
    return found | {pin.name: pin for pin in own}


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def files(pyproject: Mapping[str, Any]) -> dict[str, list[str]]:
    """File of the lock -> the files it includes. A file stands after those."""
    found: dict[str, list[str]] = {name: [] for name in (*pyproject["dependency-groups"], RUN)}
    for extra, lines in pyproject["project"]["optional-dependencies"].items():
        ours = [r for r in map(Requirement, lines) if r.name == pyproject["project"]["name"]]
        found[extra] = sorted({name for r in ours for name in r.extras}) or [RUN]
    return dict(sorted(found.items(), key=lambda file: len(file[1])))


def _selection(name: str, pyproject: Mapping[str, Any]) -> list[str]:
    """Options of uv that name what one file has to hold."""
    if name in pyproject["dependency-groups"]:
        return ["--group", name]
    return ["pyproject.toml", *([] if name == RUN else ["--extra", name])]


def _resolve(
    selection: Iterable[str], constraints: Iterable[str], preferred: Iterable[Pin] = ()
) -> list[Pin]:
    """All that `selection` needs, within `constraints`: the newest versions, but rather those that
    are `preferred`."""
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
    """What each file of the lock has to hold."""
    wanted = files(pyproject)
    options = {name: _selection(name, pyproject) for name in wanted}
    locked = [path for path in FOLDER.glob("*.txt") if path.stem != APART and not upgrade]
    old = [pin for path in locked for pin in parse(path.read_text(encoding="utf-8")).pins]
    # The CPU build has releases of its own, but tests have to run the code that the image runs.
    (cuda,) = [p for p in _resolve(options["gpu"], [], old) if p.name == "onnxruntime-gpu"]
    everything = [option for name in wanted if name != APART for option in options[name]]
    together = _resolve(everything, [f"onnxruntime=={cuda.version}"], old)

    needed: dict[str, list[Pin]] = {}
    found: dict[str, Content] = {}
    for name, includes in wanted.items():
        limits = [pin for pin in together if name != APART or pin.name != cuda.name]
        needed[name] = _resolve(options[name], [f"{pin.name}=={pin.version}" for pin in limits])
        there = {pin for included in includes for pin in needed[included]}
        found[name] = Content(includes, [pin for pin in needed[name] if pin not in there])
    return found


def write(contents: Mapping[str, Content], folder: Path = FOLDER) -> None:
    """Replace the files of the lock."""
    for path in folder.glob("*.txt"):
        path.unlink()
    for name, (includes, pins) in contents.items():
        head = "# Written by `python -m scripts.lock` from pyproject.toml."
        lines = [head, *(f"-r {included}.txt" for included in includes), *map(str, pins)]
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def measure(pins: Iterable[Pin]) -> tuple[int, int]:
    """Megabytes that packages cost on this machine: to download, and installed."""
    packages = [f"{pin.name}=={pin.version}" for pin in pins if pin.holds()]
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    with tempfile.TemporaryDirectory() as place:
        archives, installed = Path(place, "archives"), Path(place, "installed")
        if packages:
            run = partial(subprocess.run, check=True)
            run([*pip, "download", "--no-deps", "--dest", archives, *packages])
            run([*pip, "install", "--no-deps", "--target", installed, *packages])
        return _megabytes(archives), _megabytes(installed)


def _megabytes(folder: Path) -> int:
    return math.ceil(sum(path.lstat().st_blocks for path in folder.rglob("*")) * 512 / 1e6)


def changes(before: Path, after: Path = FOLDER) -> str:
    """What became of each package between two folders of a lock, one a line."""
    old, new = (
        {(pin.name, path.stem == APART): pin.version for path in sorted(folder.glob("*.txt"))
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
    options = parser.parse_args()
    if options.changes_since:
        if not any(options.changes_since.glob("*.txt")):
            parser.error(f"{options.changes_since} is not a folder with a lock")
        sys.stdout.write(changes(options.changes_since))
        return 0
    FOLDER.mkdir(exist_ok=True)
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    old = {path.stem: parse(path.read_text(encoding="utf-8")) for path in FOLDER.glob("*.txt")}
    new = resolve(pyproject, upgrade=options.upgrade)
    known = json.loads(SIZES.read_text(encoding="utf-8")) if SIZES.exists() else {}
    sizes = {
        name: known[name] if name in known and content == old.get(name) else measure(content.pins)
        for name, content in sorted(new.items())
    }
    write(new)
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(size)}" for name, size in sizes.items())
    SIZES.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
