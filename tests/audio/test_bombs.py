"""Decompression bombs: small files with hours of audio are refused within two seconds and 300 MB.

Each file is read in a separate process. The figures are what the file costs it and its descendants,
server and decoder, beyond the server at rest. Time is CPU time, so that other load on the machine
does not matter.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.recordings.cases import understated_flac, understated_mp3
from tests.support.recordings.files import flac_announcing, id3, minutes_of_silence, speech_as

PROBE = """
import json, os, resource, sys, time
from pathlib import Path
from core.errors import JobError
from core.speech import reference
from core.speech.reference import prepare
try:
    prepare(b"not audio", "refs/a.wav")
except JobError:
    pass
server = Path("/proc", str(reference._sandbox._server.pid))
ticks = (server / "stat").read_text().rpartition(")")[2].split()[11:15]
resting_s = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
resting_kb = int((server / "status").read_text().partition("VmRSS:")[2].split()[0])
data = open(sys.argv[1], "rb").read()
start, code = time.process_time(), ""
try:
    prepare(data, "refs/a.wav")
except JobError as error:
    code = error.code
seconds = time.process_time() - start
reference._sandbox.close()
children = resource.getrusage(resource.RUSAGE_CHILDREN)
seconds += children.ru_utime + children.ru_stime - resting_s
# RUSAGE_SELF would include the memory of the test runner before it started this program.
own = int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0])
peak = own + children.ru_maxrss - resting_kb
print(json.dumps({"code": code, "seconds": seconds, "peak_mb": peak * 1024 / 1e6}))
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
    "eleven minutes of opus": (lambda: minutes_of_silence(11, "OGG", "OPUS"), "AUDIO_TOO_LONG"),
    "eleven minutes of mp3": (lambda: minutes_of_silence(11, "MP3"), "AUDIO_TOO_LONG"),
    "tags of 50 MB": (lambda: id3(50_000_000) + speech_as("MP3"), "AUDIO_TOO_LARGE"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("make", "code"), BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_refused_in_two_seconds_and_300_mb(
    tmp_path: Path, make: Callable[[], bytes], code: str
) -> None:
    path = tmp_path / "bomb"
    path.write_bytes(make())
    run = subprocess.run(
        [sys.executable, "-c", PROBE, str(path)],
        check=True,
        capture_output=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )
    result = json.loads(run.stdout)
    assert result["code"] == code
    assert result["seconds"] < 2
    assert result["peak_mb"] < 300
