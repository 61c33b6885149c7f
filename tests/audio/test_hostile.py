"""Hostile files: each is refused with its code or accepted with its notices."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from core.errors import JobError
from core.speech import reference
from core.speech.reference import prepare
from tests.support.recordings import hostile_flac_mp3, hostile_others, hostile_wav
from tests.support.recordings.hostile import Hostile

CASES = [*hostile_wav.CASES, *hostile_flac_mp3.CASES, *hostile_others.CASES]


def outcome(data: bytes, name: str) -> tuple[str, str]:
    """Return the code or the notices, and the pointer of the error."""
    try:
        notices = (notice.code for notice in prepare(data, name).notices)
        return " ".join(["ok", *notices]), name
    except JobError as error:
        return error.code, error.pointer


def cpu_seconds() -> float:
    """Return the CPU time of this process, the sandbox server and all decoders that exited. Unlike
    wall-clock time it does not depend on other load; a decoder that hangs fails by its limit."""
    server = reference._sandbox._server
    assert server
    fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
    return time.process_time() + sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    """Start the server before its CPU time is measured."""
    assert outcome(b"", "a.wav")[0] == "AUDIO_EMPTY"


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_a_hostile_file_ends_in_its_code_within_two_seconds(case: Hostile) -> None:
    data, start = case.make(), cpu_seconds()
    assert outcome(data, case.name) == (case.outcome, case.name)
    assert cpu_seconds() - start < 2
