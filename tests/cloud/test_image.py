"""The text of the Dockerfile. The image is not built here."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from scripts import lock

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def read_stages() -> list[list[tuple[str, str]]]:
    """Return the instructions (name, arguments) of each stage, with continuation lines joined."""
    lines = [line for line in DOCKERFILE.splitlines() if not line.startswith("#")]
    found: list[list[tuple[str, str]]] = [[]]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            name, _, arguments = line.partition(" ")
            if name == "FROM":
                found.append([])
            found[-1].append((name, " ".join(arguments.split())))
    return found


def copied_paths(stage: list[tuple[str, str]]) -> set[str]:
    """Return the paths that a stage copies from the build context."""
    found: set[str] = set()
    for name, arguments in stage:
        if name == "COPY" and not arguments.startswith("--from"):
            found |= set(arguments.split()[:-1])
    return found


def test_both_stages_use_the_same_cuda_and_cudnn() -> None:
    _, build, final = read_stages()
    base = "nvidia/cuda:${CUDA}-cudnn-runtime-ubuntu24.04"
    assert build[0] == ("FROM", f"{base} AS build")
    assert final[0] == ("FROM", base)


def test_it_runs_the_server_and_not_as_root() -> None:
    final = read_stages()[2]
    users = [arguments for name, arguments in final if name == "USER"]
    assert users == ["10001:10001"]
    assert final[-1] == ("CMD", '["python", "-m", "handlers.server"]')
    assert ("EXPOSE", "9000") in final


def test_every_package_of_the_project_is_copied() -> None:
    ours = {
        name.rstrip("*") for name in PYPROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    }
    assert ours <= copied_paths(read_stages()[1])
    assert all((ROOT / name).is_dir() for name in ours)


def test_copied_paths_exist_and_are_in_the_build_context() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    let_in = {line[1:] for line in ignored if line.startswith("!")}
    assert "*" in ignored
    assert copied_paths(read_stages()[1]) == let_in
    assert all((ROOT / name).exists() for name in let_in)


def test_nothing_comes_from_the_context_into_the_final_stage() -> None:
    assert copied_paths(read_stages()[2]) == set()


def test_no_secret_can_enter() -> None:
    assert not re.search(r"(?i)secret|password|token|_key", DOCKERFILE)
    assert "keys" not in copied_paths(read_stages()[1])


def test_the_build_proves_the_default_voice() -> None:
    runs = " ".join(arguments for name, arguments in read_stages()[1] if name == "RUN")
    assert "KokoroVoice.load(Path('cache'))" in runs
    assert "chmod -R a+rX cache" in runs  # the copy is written 0600, by root
    environment = " ".join(arguments for name, arguments in read_stages()[2] if name == "ENV")
    assert "VOICEDROP_CACHE=/app/cache" in environment


def test_it_installs_the_lock_and_nothing_else() -> None:
    runs = " && ".join(line for stage in read_stages() for name, line in stage if name == "RUN")
    installs = re.findall(r"[^&;|]*\b(?:install|add|sync)\b[^&;|]*", runs)
    system = [line for line in installs if line.split()[0] == "apt-get"]
    assert [line.split()[3:] for line in system] == [
        ["--no-install-recommends", "gcc", "libc6-dev", "python3-dev", "python3-venv"],
        ["--no-install-recommends", "python3"],
    ]
    hashed = ["pip", "install", "--require-hashes"]
    assert [line.split() for line in installs if line not in system] == [
        [*hashed, "--requirement", "requirements/build.txt"],
        [*hashed, "--no-build-isolation", "--requirement", "requirements/${LOCK}.txt"],
    ]
    assert ("ARG", "LOCK=image") in read_stages()[1]
    for name in {"image", *re.findall(r"--build-arg LOCK=(\S+)", DOCKERFILE)}:
        assert lock.read_pins(name)


def test_the_build_commands_are_documented() -> None:
    assert "--platform linux/amd64 --provenance=false" in DOCKERFILE
    assert "--build-arg CUDA=12" in DOCKERFILE


def test_what_numba_compiled_is_in_the_image_for_any_processor_and_for_its_user() -> None:
    _, build, final = read_stages()
    for stage in (build, final):
        (variables,) = (arguments for name, arguments in stage if name == "ENV")
        assert "NUMBA_CACHE_DIR=/app/cache/numba NUMBA_CPU_NAME=generic" in variables
    assert any("warm_up()" in arguments for name, arguments in build if name == "RUN")
    copied = "--from=build --chown=10001:10001 /app/cache/numba /app/cache/numba"
    assert ("COPY", copied) in final
