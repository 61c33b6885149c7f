"""Decompression bombs: small files with hours of audio are refused within two seconds and 300 MB.

One separate process reads all files. The figures are what they cost it and its descendants, the
server and the decoders, beyond the server at rest. Time is CPU time, so that other load does not
matter.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.recordings.cases import understated_flac, understated_mp3
from tests.support.recordings.files import (
    eleven_minutes_of_opus,
    flac_announcing,
    id3,
    minutes_of_silence,
    speech_as,
)
from tests.support.untraced import environ_without_coverage

PROBE = """
import json, os, resource, sys, time
from pathlib import Path
from core.errors import JobError
from core.speech import reference
from core.speech.reference import prepare

def refuse(data):
    try:
        prepare(data, "refs/a.wav")
    except JobError as error:
        return error.code

def cpu_seconds():
    # of this process, the server, and the decoders that the server has waited for
    ticks = (server / "stat").read_text().rpartition(")")[2].split()[11:15]
    return time.process_time() + sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")

refuse(b"not audio")
server = Path("/proc", str(reference._sandbox._server.pid))
resting_kb = int((server / "status").read_text().partition("VmRSS:")[2].split()[0])
bombs = {}
for path in map(Path, sys.argv[1:]):
    data, start = path.read_bytes(), cpu_seconds()
    bombs[path.name] = {"code": refuse(data), "seconds": cpu_seconds() - start}
reference._sandbox.close()
decoders_kb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
# RUSAGE_SELF would include the memory of the test runner before it started this program.
own_kb = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
peak_mb = (own_kb + decoders_kb - resting_kb) * 1024 / 1e6
print(json.dumps({"bombs": bombs, "peak_mb": peak_mb}))
"""

BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "one hour of flac": (lambda: minutes_of_silence(60, "FLAC"), "AUDIO_TOO_LONG"),
    "one hour of flac of unannounced length": (
        lambda: flac_announcing(minutes_of_silence(60, "FLAC"), 0),
        "AUDIO_TOO_LONG",
    ),
    "flac that announces 5 s and holds 600": (understated_flac, "AUDIO_DECODE_LIMIT"),
    "mp3 that announces 4 s and holds 60": (understated_mp3, "AUDIO_DECODE_LIMIT"),
    "eleven minutes of vorbis": (lambda: minutes_of_silence(11, "OGG", "VORBIS"), "AUDIO_TOO_LONG"),
    "eleven minutes of opus": (eleven_minutes_of_opus, "AUDIO_TOO_LONG"),
    "eleven minutes of mp3": (lambda: minutes_of_silence(11, "MP3"), "AUDIO_TOO_LONG"),
    "tags of 50 MB": (lambda: id3(50_000_000) + speech_as("MP3"), "AUDIO_TOO_LARGE"),
}


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The code and the seconds for each bomb, and the peak memory for all of them."""
    folder = tmp_path_factory.mktemp("bombs")
    for name, (make, _) in BOMBS.items():
        (folder / name).write_bytes(make())
    run = subprocess.run(
        [sys.executable, "-c", PROBE, *map(str, folder.iterdir())],
        check=True,
        capture_output=True,
        timeout=120,
        cwd=Path(__file__).parents[2],
        env=environ_without_coverage(),
    )
    return json.loads(run.stdout)


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_in_two_seconds(figures: Any, name: str) -> None:
    assert figures["bombs"][name]["code"] == BOMBS[name][1]
    assert figures["bombs"][name]["seconds"] < 2


def test_no_bomb_needs_300_mb(figures: Any) -> None:
    assert 0 < figures["peak_mb"] < 300
