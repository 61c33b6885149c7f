"""The text of the Dockerfile. The image is not built here."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from cloud import machines
from core.audio import ffmpeg
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


def stage(name: str) -> list[tuple[str, str]]:
    """Return the instructions of a stage; the last one has no name."""
    found = [one for one in read_stages() if one[0][1].partition(" AS ")[2] == name]
    return found[-1]


def test_one_argument_selects_the_base_of_both_stages() -> None:
    arguments = dict(line.split("=") for name, line in read_stages()[0] if name == "ARG")
    assert arguments["DEVICE"] == "cuda"
    cuda = f"FROM nvidia/cuda:${{CUDA}}-cudnn-runtime-ubuntu24.04 AS {machines.GPU.image}"
    assert cuda in DOCKERFILE
    assert f"FROM ubuntu:24.04 AS {machines.CPU.image}" in DOCKERFILE
    assert stage("build")[0] == ("FROM", "${DEVICE} AS build")
    assert stage("")[0] == ("FROM", "${DEVICE}")


def test_the_driver_of_the_platform_covers_cuda() -> None:
    """Function Compute has driver 580.95.05, CUDA 13.0."""
    (cuda,) = [line for name, line in read_stages()[0] if name == "ARG" and "CUDA" in line]
    assert re.fullmatch(r"CUDA=13\.0\.\d", cuda)


def test_it_runs_the_server_and_not_as_root() -> None:
    final = stage("")
    users = [arguments for name, arguments in final if name == "USER"]
    assert users == ["10001:10001"]
    # The entry point of NVIDIA's image prints a banner, and the log is JSON.
    assert final[-2:] == [("ENTRYPOINT", "[]"), ("CMD", '["python", "-m", "handlers.server"]')]
    assert ("EXPOSE", "9000") in final


def test_every_package_of_the_project_is_copied() -> None:
    ours = {
        name.rstrip("*") for name in PYPROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    }
    assert ours <= copied_paths(stage("build"))
    assert all((ROOT / name).is_dir() for name in ours)


def test_copied_paths_exist_and_are_in_the_build_context() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    let_in = {line[1:] for line in ignored if line.startswith("!")}
    assert "*" in ignored
    assert set.union(*map(copied_paths, read_stages())) == let_in
    assert all((ROOT / name).exists() for name in let_in)


def test_nothing_comes_from_the_context_into_the_final_stage() -> None:
    assert copied_paths(stage("")) == set()


def test_no_secret_can_enter() -> None:
    assert not re.search(r"(?i)secret|password|token|_key", DOCKERFILE)
    assert "keys" not in copied_paths(stage("build"))


def test_the_build_proves_the_default_voice() -> None:
    runs = " ".join(arguments for name, arguments in stage("build") if name == "RUN")
    assert "KokoroVoice.load(Path('cache'))" in runs
    assert "chmod -R a+rX cache" in runs  # the copy is written 0600, by root
    environment = " ".join(arguments for name, arguments in stage("") if name == "ENV")
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
        [*hashed, "--no-build-isolation", "--requirement", '"requirements/$lock.txt"'],
        ["pip", "install", "--no-index", "--no-deps", "--no-build-isolation", "./source"],
    ]
    assert ("ARG", "CUDA_LOCK=image") in stage("build")
    for name in {"image", "image-cpu", *re.findall(r"--build-arg CUDA_LOCK=(\S+)", DOCKERFILE)}:
        assert lock.read_pins(name)


def test_the_build_commands_are_documented() -> None:
    assert "--platform linux/amd64 --provenance=false" in DOCKERFILE
    assert "--build-arg CUDA=12" in DOCKERFILE
    assert "--build-arg DEVICE=cpu" in DOCKERFILE


def test_ffmpeg_decodes_what_we_ask_of_it_and_is_not_under_the_gpl() -> None:
    script = (ROOT / "cloud" / "build-ffmpeg").read_text(encoding="utf-8")
    assert "--enable-gpl" not in script.replace("(without --enable-gpl)", "")
    demuxers = re.findall(r"--enable-demuxer=(\S+)", script)[0].split(",")
    assert set(demuxers) == {form.demuxer for form in ffmpeg.FORMATS.values()}
    decoders = set(re.findall(r"decoders=(\S+)", script)[0].split(","))
    assert decoders <= set(ffmpeg._DECODERS.split(","))


def test_what_numba_compiled_is_in_the_image_for_any_processor_and_for_its_user() -> None:
    build, final = stage("build"), stage("")
    for one in (build, final):
        (variables,) = (arguments for name, arguments in one if name == "ENV")
        assert "NUMBA_CACHE_DIR=/app/cache/numba NUMBA_CPU_NAME=generic" in variables
    assert any("warm_up()" in arguments for name, arguments in build if name == "RUN")
    copied = "--from=build --chown=10001:10001 /app/cache/numba /app/cache/numba"
    assert ("COPY", copied) in final
