"""The Dockerfile, read: no engine builds it here."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cloud import image, pins

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
CONSTRAINTS = ROOT / "cloud" / "constraints.txt"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def stages() -> list[list[tuple[str, str]]]:
    """Instructions (name, arguments) of each stage, continuation lines joined."""
    lines = [line for line in DOCKERFILE.splitlines() if not line.startswith("#")]
    found: list[list[tuple[str, str]]] = [[]]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            name, _, arguments = line.partition(" ")
            if name == "FROM":
                found.append([])
            found[-1].append((name, " ".join(arguments.split())))
    return found


def copied(stage: list[tuple[str, str]]) -> set[str]:
    """What a stage takes from the build context."""
    found: set[str] = set()
    for name, arguments in stage:
        if name == "COPY" and not arguments.startswith("--from"):
            found |= set(arguments.split()[:-1])
    return found


def pinned() -> dict[str, str]:
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def test_both_stages_stand_on_the_same_cuda_and_cudnn():
    _, build, final = stages()
    base = "nvidia/cuda:${CUDA}-cudnn-runtime-ubuntu24.04"
    assert build[0] == ("FROM", f"{base} AS build")
    assert final[0] == ("FROM", base)


def test_it_runs_the_server_and_not_as_root():
    final = stages()[2]
    users = [arguments for name, arguments in final if name == "USER"]
    assert users == ["10001:10001"]
    assert final[-1] == ("CMD", '["python", "-m", "handlers.server"]')
    assert ("EXPOSE", "9000") in final


def test_every_package_of_ours_is_copied():
    ours = {
        name.rstrip("*") for name in PYPROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    }
    assert ours <= copied(stages()[1])
    assert all((ROOT / name).is_dir() for name in ours)


def test_nothing_is_copied_that_does_not_exist_or_is_kept_out_of_the_context():
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    let_in = {line[1:] for line in ignored if line.startswith("!")}
    assert "*" in ignored
    assert copied(stages()[1]) == let_in
    assert all((ROOT / name).exists() for name in let_in)


def test_nothing_comes_from_the_context_into_the_final_stage():
    assert copied(stages()[2]) == set()


def test_no_secret_can_enter():
    assert not re.search(r"(?i)secret|password|token|_key", DOCKERFILE)
    assert "keys" not in copied(stages()[1])


def test_the_build_proves_one_onnxruntime_and_the_default_voice():
    runs = " ".join(arguments for name, arguments in stages()[1] if name == "RUN")
    assert "image.py one-onnxruntime" in runs
    assert "KokoroVoice.load(Path('cache'))" in runs
    assert "chmod -R a+rX cache" in runs  # the copy is written 0600, by root
    environment = " ".join(arguments for name, arguments in stages()[2] if name == "ENV")
    assert "VOICEDROP_CACHE=/app/cache" in environment


def test_its_way_of_building_is_written_down():
    assert "--platform linux/amd64 --provenance=false" in DOCKERFILE
    assert "--build-arg CUDA=12" in DOCKERFILE


def test_every_dependency_of_the_image_is_pinned_within_its_range():
    found = pinned()
    for requirement in pins.needed(PYPROJECT["project"]["dependencies"]):
        name = canonicalize_name(requirement.name)
        assert name in found, f"{name}: run `python -m cloud.pins > cloud/constraints.txt`"
        assert found[name] in requirement.specifier


def test_the_pins_hold_one_onnxruntime_and_no_torch():
    assert {name for name in pinned() if name.startswith("onnxruntime")} == {"onnxruntime-gpu"}
    assert not {"torch", "torchaudio"} & set(pinned())


def test_pins_follow_dependencies_of_dependencies():
    found = pins.pins(["starlette", "nothing; sys_platform == 'win32'"])
    assert {"starlette", "anyio", "idna"} <= set(found)
    assert "nothing" not in found


def test_pins_are_printed_as_constraints(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    pins.main()
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith("#")
    assert all(Requirement(line).specifier for line in lines)


def test_requirements_are_those_of_the_project(capsys):
    assert image.main(["requirements", str(ROOT / "pyproject.toml")], []) == 0
    assert capsys.readouterr().out.splitlines() == PYPROJECT["project"]["dependencies"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["onnxruntime_gpu"], ["onnxruntime-gpu"]),
        (["onnxruntime", "onnxruntime_gpu"], ["onnxruntime", "onnxruntime-gpu"]),
        (["onnxruntimetools"], []),
    ],
    ids=["one", "both", "another"],
)
def test_exactly_one_onnxruntime_passes(tmp_path, capsys, names, expected):
    for name in names:
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    assert image.onnxruntimes([str(tmp_path)]) == expected
    assert image.main(["one-onnxruntime"], [str(tmp_path)]) == (expected != ["onnxruntime-gpu"])
    assert ("need exactly" in capsys.readouterr().err) is (expected != ["onnxruntime-gpu"])


def test_this_environment_has_one_onnxruntime():
    assert len(image.onnxruntimes(sys.path)) == 1


def test_a_wrong_word_shows_the_usage(capsys):
    assert image.main(["what"], []) == 2
    assert "one-onnxruntime" in capsys.readouterr().err
