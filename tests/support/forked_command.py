"""Run `voicedrop` in a process forked from one that has imported it, which saves a second each."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import coverage

_TIMEOUT_SECONDS = 400
_forking = multiprocessing.get_context("forkserver")
_forking.set_forkserver_preload(
    ["handlers.cli.watch", "handlers.wiring", "core.pipeline", "core.voice.kokoro", __name__]
)


def run_command(
    arguments: Sequence[str], folder: Path, environ: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run `voicedrop ARGUMENTS` in a folder, wait for its end, and return what it printed."""
    with tempfile.TemporaryDirectory() as outputs:
        files = tuple(Path(outputs, name) for name in ("stdout", "stderr"))
        process = _forking.Process(target=_run, args=(arguments, folder, environ, files))
        process.start()
        process.join(_TIMEOUT_SECONDS)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(list(arguments), _TIMEOUT_SECONDS)
        printed = (file.read_text() for file in files)
        return subprocess.CompletedProcess(arguments, process.exitcode, *printed)


def _run(
    arguments: Sequence[str], folder: Path, environ: Mapping[str, str], files: tuple[Path, Path]
) -> None:
    """Do what `python -m handlers.cli` does."""
    for descriptor, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_CREAT | os.O_WRONLY, 0o600), descriptor)
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(folder)
    sys.argv = ["voicedrop", *arguments]
    if measurement := coverage.Coverage.current():
        measurement.stop()
        coverage.process_startup(force=True)
    from handlers.cli.app import main

    try:
        main()
    finally:
        atexit._run_exitfuncs()  # which a forked process of multiprocessing does not do
