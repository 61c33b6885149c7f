"""Create .venv and install voicedrop into it, in the versions of requirements/ (scripts/setup).

Installed extras stay installed and are updated. If everything is current, nothing is done.
PYTHON=/path/to/python selects the Python for .venv.
"""

# This file must run on Python 3.8, so that old versions reach the message that asks for another.
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
PROJECT_RECORD = VENV / "made-in"
"""Contains the project folder for which .venv was created, because the scripts in .venv name it."""
INSTALLED = VENV / "installed"
"""Has a file for each installed file of the lock, which contains its `lock_checksum`."""

EXTRAS = {
    "cpu": "ONNX Runtime for the CPU (the default)",
    "gpu": "ONNX Runtime with CUDA 13, in place of cpu",
    "oss": "buckets of Alibaba Cloud; needs a C compiler",
    "ko": "Korean",
    "yue": "Cantonese",
    "asr": "whisper, which checks the spoken words",
    "redis": "limits shared by several instances",
    "metrics": "Prometheus metrics",
    "bench": "libraries that benchmarks compare with",
    "fuzz": "guided fuzzing",
    "upgrade": "tools that update the lock",
    "dev": "everything for contributors",
}
ONNX_RUNTIMES = ("cpu", "gpu")
"""The two builds of ONNX Runtime install into the same folder, so only one can be installed."""


def main() -> int:
    requested = parse_arguments()
    first, end = (int(minor) for minor in re.findall(r"3\.(\d+)", requires_python()))
    if not first <= sys.version_info.minor < end:
        return run_other_python([f"python3.{minor}" for minor in reversed(range(first, end))])
    if not is_usable(range(first, end)):
        create_venv()
    extras = choose_extras(requested, [name for name in EXTRAS if (INSTALLED / name).exists()])
    files = with_included(extras)
    if {*ONNX_RUNTIMES} <= {*files}:
        say("cpu and gpu cannot be installed together, and bench needs cpu.")
        return 2
    missing = [name for name in files if read_text(INSTALLED / name) != lock_checksum()]
    if not missing:
        say("Everything is installed. To use it: . .venv/bin/activate")
        return 0
    added = [name for name in missing if not (INSTALLED / name).exists()]
    if added:
        download, disk = estimate_size(added)
        say(f"Installing voicedrop ({', '.join(extras)}) into .venv:")
        say(f"at most {download} MB to download and about {disk} MB on disk ...")
    else:
        say("Bringing .venv up to date with requirements/ ...")
    install(files)
    say("Done. To use it: . .venv/bin/activate")
    return 0


def choose_extras(requested: list[str], installed: list[str]) -> list[str]:
    """Return the requested and the installed extras, with one of `ONNX_RUNTIMES`: the requested
    one, or else the installed one, or else the first."""
    names = [*requested, *installed]
    runtime = next((name for name in names if name in ONNX_RUNTIMES), ONNX_RUNTIMES[0])
    return [runtime, *dict.fromkeys(name for name in names if name not in ONNX_RUNTIMES)]


def parse_arguments() -> list[str]:
    parser = argparse.ArgumentParser(
        prog="scripts/setup",
        description=__doc__,
        epilog="\n".join(f"  {name:9}{meaning}" for name, meaning in EXTRAS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("extras", nargs="*", metavar="EXTRA", help="one or more of the list below")
    extras = [name for word in parser.parse_args().extras for name in word.split(",") if name]
    for name in extras:
        if name not in EXTRAS:
            parser.error(f"unknown extra {name!r}; choose from {', '.join(EXTRAS)}")
    if {*ONNX_RUNTIMES} <= {*extras}:
        parser.error("cpu and gpu cannot be installed together: choose one")
    return extras


def requires_python() -> str:
    pyproject = read_text(ROOT / "pyproject.toml")
    match = re.search('^requires-python = "(.+)"', pyproject, re.MULTILINE)
    assert match
    return match[1]


def run_other_python(names: list[str]) -> int:
    """Run this script with the first of `names` that is installed, or ask for another Python."""
    for name in names if "PYTHON" not in os.environ else []:
        path = shutil.which(name)
        if path and subprocess.run([path, "-c", ""], capture_output=True).returncode == 0:
            return subprocess.run([path, *sys.argv]).returncode
    say(f"This is Python {python_version()}; voicedrop needs Python {requires_python()}.")
    say("Select one: PYTHON=/path/to/python3 scripts/setup")
    return 1


def is_usable(minors: range) -> bool:
    """Return whether .venv works, has not been moved, and has a suitable Python: the version of
    this one if PYTHON is set, or else any of these minor versions."""
    if read_text(PROJECT_RECORD) != str(ROOT) or not PYTHON.exists():
        return False
    code = "import pip, sys; print(sys.version_info[1])"
    done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True)
    suitable = [sys.version_info.minor] if "PYTHON" in os.environ else minors
    return done.returncode == 0 and int(done.stdout) in suitable


def create_venv() -> None:
    """Create .venv with this Python, replacing an unusable one."""
    say("Creating .venv ...")
    if VENV.is_symlink() or VENV.is_file():
        VENV.unlink()
    elif VENV.exists():
        say("Recreating .venv: it does not work, was moved, or has another Python.")
        shutil.rmtree(VENV)
    if subprocess.run([sys.executable, "-m", "venv", VENV]).returncode:
        sys.exit("python -m venv failed: see above. On Debian and Ubuntu: apt install python3-venv")
    PROJECT_RECORD.write_text(str(ROOT), encoding="utf-8")


def with_included(names: list[str]) -> list[str]:
    """Return these files of the lock, each after the files that it includes."""
    files: list[str] = []
    for name in names:
        included = re.findall(r"^-r (.+)\.txt$", read_text(LOCK / f"{name}.txt"), re.MULTILINE)
        files += [file for file in [*with_included(included), name] if file not in files]
    return files


def lock_checksum() -> str:
    """Return a checksum of the files that determine what is installed."""
    sources = [ROOT / "pyproject.toml", *sorted(LOCK.glob("*.txt"))]
    return f"{zlib.crc32(b''.join(path.read_bytes() for path in sources)):08x}"


def estimate_size(names: list[str]) -> tuple[int, int]:
    """Return the megabytes to download and on disk, measured when the lock was written."""
    sizes = json.loads(read_text(LOCK / "sizes.json"))
    return sum(sizes[name][0] for name in names), sum(sizes[name][1] for name in names)


def install(files: list[str]) -> None:
    other = "onnxruntime-gpu" if "cpu" in files else "onnxruntime"
    if any(VENV.glob(f"lib/python*/site-packages/{other.replace('-', '_')}-*.dist-info")):
        say(f"Removing {other}, because the other build of ONNX Runtime uses the same folder.")
        pip("uninstall", "--yes", "onnxruntime", "onnxruntime-gpu")
        for runtime in ONNX_RUNTIMES:
            (INSTALLED / runtime).unlink(missing_ok=True)
    locked = ("install", "--require-hashes", "--no-build-isolation")
    say("Installing the tools that build packages ...")
    for builders in ("build", *(f"build-{name}" for name in files)):
        if (LOCK / f"{builders}.txt").exists():
            pip(*locked, "--requirement", LOCK / f"{builders}.txt")
    count = sum(len(re.findall(r"^\S+==", read_text(LOCK / f"{name}.txt"), re.M)) for name in files)
    say(f"Installing {count} packages, which takes some minutes ...")
    pip(*locked, *(f"--requirement={LOCK / name}.txt" for name in files))
    pip("install", "--no-build-isolation", "--no-deps", "--editable", ROOT)
    INSTALLED.mkdir(exist_ok=True)
    for name in files:
        (INSTALLED / name).write_text(lock_checksum())


def pip(*words: str | Path) -> None:
    """Run pip, with its progress bars only on a terminal."""
    quiet = [] if sys.stderr.isatty() else ["--quiet"]
    command = [PYTHON, "-m", "pip", "--disable-pip-version-check", *quiet, *words]
    if subprocess.run(command, stdout=sys.stderr).returncode:
        say("pip failed: see above. Fix the cause, then run scripts/setup again.")
        sys.exit(1)


def read_text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def python_version() -> str:
    return "{}.{}".format(*sys.version_info)


def say(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
