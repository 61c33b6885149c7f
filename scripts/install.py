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
    "upgrade": "what raises the lock",
    "dev": "everything that a contributor needs",
}
RUNTIMES = ("cpu", "gpu")
"""Both builds of ONNX Runtime install into one folder: there is one of them."""


def main() -> int:
    asked = arguments()
    first, end = (int(minor) for minor in re.findall(r"3\.(\d+)", requires_python()))
    if not first <= sys.version_info.minor < end:
        return other_python([f"python3.{minor}" for minor in reversed(range(first, end))])
    if not made_with_this_python():
        if VENV.exists():
            say("Making .venv anew: it is damaged, or was made with another Python.")
            shutil.rmtree(VENV)
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    extras = chosen(asked, [name for name in EXTRAS if (INSTALLED / name).exists()])
    files = closure(extras)
    missing = [name for name in files if text(INSTALLED / name) != current()]
    if not missing:
        return 0
    added = [name for name in missing if not (INSTALLED / name).exists()]
    if added:
        download, disk = size(added)
        say(f"Installing voicedrop ({', '.join(extras)}) into .venv, with Python {version()}:")
        say(f"about {download} MB to download, less what pip has kept, and {disk} MB on disk ...")
    else:
        say("Bringing .venv up to date with requirements/ ...")
    install(files)
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


def made_with_this_python() -> bool:
    """Whether .venv is there and works; if PYTHON names a Python, with that version."""
    if not PYTHON.exists():
        return False
    print_version = "import pip, sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([PYTHON, "-c", print_version], capture_output=True, text=True)
    return done.returncode == 0 and ("PYTHON" not in os.environ or done.stdout.strip() == version())


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
    for runtime in RUNTIMES:
        if runtime not in files and (INSTALLED / runtime).exists():
            pip("uninstall", "--yes", "onnxruntime", "onnxruntime-gpu")
            (INSTALLED / runtime).unlink()
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
