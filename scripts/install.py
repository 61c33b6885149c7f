"""Make .venv and install voicedrop into it, in the versions of requirements/ (scripts/setup).

Extras that are installed stay and are kept current; when all is current, nothing is done.
PYTHON=/path/to/python names the Python that .venv is made with.
"""

# Python 3.8 and later get as far as the message that asks for another one.
from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements"
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
PLACE = VENV / "made-in"
"""Holds the folder of the project as it was then: the scripts in .venv name it."""
INSTALLED = VENV / "installed"
"""For each file of the lock that is installed, a file that holds the checksum of `current`."""

EXTRAS = {
    "cpu": "ONNX Runtime for the CPU (the default)",
    "gpu": "ONNX Runtime with CUDA 13, in place of cpu",
    "oss": "buckets of Alibaba Cloud; needs a C compiler",
    "ko": "Korean",
    "yue": "Cantonese",
    "asr": "whisper, which checks the words that were spoken",
    "redis": "limits that several instances share",
    "bench": "what benchmarks compare with",
    "fuzz": "guided fuzzing",
    "upgrade": "what updates the lock",
    "dev": "everything that a contributor needs",
}
RUNTIMES = ("cpu", "gpu")
"""Both builds of ONNX Runtime install into one folder: there is one of them."""


def main() -> int:
    asked = arguments()
    first, end = (int(minor) for minor in re.findall(r"3\.(\d+)", requires_python()))
    if not first <= sys.version_info.minor < end:
        return other_python([f"python3.{minor}" for minor in reversed(range(first, end))])
    if not usable(range(first, end)):
        make()
    extras = chosen(asked, [name for name in EXTRAS if (INSTALLED / name).exists()])
    files = closure(extras)
    if {*RUNTIMES} <= {*files}:
        say("cpu and gpu replace each other, and bench needs cpu.")
        return 2
    missing = [name for name in files if text(INSTALLED / name) != current()]
    if not missing:
        return 0
    added = [name for name in missing if not (INSTALLED / name).exists()]
    if added:
        download, disk = size(added)
        say(f"Installing voicedrop ({', '.join(extras)}) into .venv:")
        say(f"about {download} MB to download, less what pip has kept, and {disk} MB on disk ...")
    else:
        say("Bringing .venv up to date with requirements/ ...")
    install(files)
    say("Done. To use it: . .venv/bin/activate")
    return 0


def chosen(asked: list[str], installed: list[str]) -> list[str]:
    """What to install: the extras that are asked for and those that are there already, and of
    `RUNTIMES` the one that is asked for, else the one that is there, else the first."""
    runtime = next((name for name in [*asked, *installed] if name in RUNTIMES), RUNTIMES[0])
    extras = [name for name in [*asked, *installed] if name not in RUNTIMES]
    return [runtime, *dict.fromkeys(extras)]


def arguments() -> list[str]:
    parser = argparse.ArgumentParser(
        prog="scripts/setup",
        description=__doc__,
        epilog="\n".join(f"  {name:9}{meaning}" for name, meaning in EXTRAS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("extras", nargs="*", metavar="EXTRA", help="one or more of those below")
    extras = [name for word in parser.parse_args().extras for name in word.split(",") if name]
    for name in extras:
        if name not in EXTRAS:
            parser.error(f"there is no extra {name!r}; there are {', '.join(EXTRAS)}")
    if {*RUNTIMES} <= {*extras}:
        parser.error("cpu and gpu replace each other: ask for one of them")
    return extras


def requires_python() -> str:
    found = re.search('^requires-python = "(.+)"', text(ROOT / "pyproject.toml"), re.MULTILINE)
    assert found
    return found[1]


def other_python(names: list[str]) -> int:
    """Start again with the newest of the Pythons that are named, or ask for one."""
    for name in names if "PYTHON" not in os.environ else []:
        path = shutil.which(name)
        if path and subprocess.run([path, "-c", ""], capture_output=True).returncode == 0:
            return subprocess.run([path, *sys.argv]).returncode
    say(f"This is Python {version()}; voicedrop needs Python {requires_python()}.")
    say("Name one: PYTHON=/path/to/python3 scripts/setup")
    return 1


def usable(minors: range) -> bool:
    """Whether .venv works, is where it was made, and has a Python that fits: the version of this
    one if PYTHON names it, else Python 3 of any of these minor versions."""
    if text(PLACE) != str(ROOT) or not PYTHON.exists():
        return False
    code = "import pip, sys; print(sys.version_info[1])"
    done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True)
    fitting = [sys.version_info.minor] if "PYTHON" in os.environ else minors
    return done.returncode == 0 and int(done.stdout) in fitting


def make() -> None:
    """Make .venv with this Python, in place of one that cannot be used."""
    if VENV.is_symlink() or VENV.is_file():
        VENV.unlink()
    elif VENV.exists():
        say("Recreating .venv: it does not work, was moved, or has another Python.")
        shutil.rmtree(VENV)
    if subprocess.run([sys.executable, "-m", "venv", VENV]).returncode:
        sys.exit("python -m venv failed: see above. On Debian and Ubuntu: apt install python3-venv")
    PLACE.write_text(str(ROOT), encoding="utf-8")


def closure(names: list[str]) -> list[str]:
    """The files of the lock that these stand on, and they themselves."""
    found: list[str] = []
    for name in names:
        included = re.findall(r"^-r (.+)\.txt$", text(LOCK / f"{name}.txt"), re.MULTILINE)
        found += [one for one in [*closure(included), name] if one not in found]
    return found


def current() -> str:
    """Checksum of everything that says what to install."""
    sources = [ROOT / "pyproject.toml", *sorted(LOCK.glob("*.txt"))]
    return f"{zlib.crc32(b''.join(path.read_bytes() for path in sources)):08x}"


def size(names: list[str]) -> tuple[int, int]:
    """Megabytes to download and on disk, as measured when the lock was written."""
    sizes = json.loads(text(LOCK / "sizes.json"))
    return sum(sizes[name][0] for name in names), sum(sizes[name][1] for name in names)


def install(files: list[str]) -> None:
    other = "onnxruntime-gpu" if "cpu" in files else "onnxruntime"
    if any(VENV.glob(f"lib/python*/site-packages/{other.replace('-', '_')}-*.dist-info")):
        say(f"{other} goes, because the other build of ONNX Runtime comes into its folder.")
        pip("uninstall", "--yes", "onnxruntime", "onnxruntime-gpu")
        for runtime in RUNTIMES:
            (INSTALLED / runtime).unlink(missing_ok=True)
    locked = ("install", "--require-hashes", "--no-build-isolation")
    for builders in ("build", *(f"build-{name}" for name in files)):
        if (LOCK / f"{builders}.txt").exists():
            pip(*locked, "--requirement", LOCK / f"{builders}.txt")
    pip(*locked, *(f"--requirement={LOCK / name}.txt" for name in files))
    pip("install", "--no-build-isolation", "--no-deps", "--editable", ROOT)
    INSTALLED.mkdir(exist_ok=True)
    for name in files:
        (INSTALLED / name).write_text(current())


def pip(*words: str | Path) -> None:
    """Run pip. Its progress is shown to people, not written into logs."""
    quiet = [] if sys.stderr.isatty() else ["--quiet"]
    command = [PYTHON, "-m", "pip", "--disable-pip-version-check", *quiet, *words]
    if subprocess.run(command, stdout=sys.stderr).returncode:
        say("pip failed: see above. Correct that, then run scripts/setup again.")
        sys.exit(1)


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def version() -> str:
    return "{}.{}".format(*sys.version_info)


def say(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
