"""Decode audio files: untrusted ones in a confined process, our own in this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from core.audio import container, ffmpeg, sandbox
from core.audio.waveform import Audio, Samples
from core.errors import Failed, Notice, Refused

BYTES_LIMIT: Final = 64 << 20
MAX_SECONDS: Final = 600.0
"""Default limit of `decode`."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A decoded recording."""

    channels: Samples
    """Shape (channels, n), float32, finite, nominally in [-1, 1]; channel order as in WAV."""
    rate: int
    """Sample rate in Hz."""
    format: str
    """wav, flac, mp3, vorbis, opus, aiff, caf, au or w64; au, too, if ffmpeg converted it."""
    codec: str
    """libsndfile's name of the sample format, lower case: pcm_16, float, alaw, gsm610 ..."""
    notices: tuple[Notice, ...] = ()

    @property
    def seconds(self) -> float:
        return int(self.channels.shape[1]) / self.rate


def decode(
    data: bytes, *, name: str, max_seconds: float = MAX_SECONDS, first_seconds: float | None = None
) -> Decoded:
    """Decode an untrusted recording, or its first seconds, in a confined process.

    `name` (an object key) is the pointer of errors, and its extension is the expected format.
    Raises Refused with one of the AUDIO_ codes, and Failed AUDIO_DECODER_CRASHED.
    """
    task = "core.audio.libsndfile:decode_task"
    limits = {"max_seconds": max_seconds, "first_seconds": first_seconds}
    bulk, answer = run_sandboxed(sandbox.run, task, data, name=name, **limits)
    return _to_decoded(bulk, answer, name)


def decode_confined(data: bytes, *, name: str, first_seconds: float | None = None) -> Decoded:
    """Do the same inside a confined process, for the whole recording or its first seconds. Raises
    Refused as `decode` does."""
    from core.audio.libsndfile import decode_task

    bulk = bytearray()

    def write(part: Any) -> None:
        nonlocal bulk
        bulk += memoryview(part).cast("B")

    answer = decode_task(
        data, write, name=name, max_seconds=MAX_SECONDS, first_seconds=first_seconds
    )
    if refused := answer.get("refused"):
        raise Refused(refused, answer["message"], pointer=name)
    return _to_decoded(bulk, answer, name)


def _to_decoded(bulk: bytearray, answer: dict[str, Any], name: str) -> Decoded:
    channels = np.frombuffer(bulk, np.float32).reshape(-1, answer["channels"]).T
    notices = tuple(Notice(code, pointer=name) for code in answer["notices"])
    return Decoded(channels, answer["rate"], answer["format"], answer["codec"], notices)


def decode_trusted(data: bytes) -> Audio:
    """Decode mono audio written by `encode`, in this process. Raises Refused like `decode`."""
    from core.audio import libsndfile

    source = container.inspect(data, "")
    with libsndfile.open_sound(source) as sound:
        parts = list(libsndfile.read_blocks(sound, source, 24 * 3600.0))
        return Audio(np.concatenate(parts)[:, 0], sound.samplerate)


def run_sandboxed(
    run: Callable[..., tuple[bytearray, dict[str, Any]]],
    task: str,
    data: bytes,
    *,
    name: str,
    **arguments: Any,
) -> tuple[bytearray, dict[str, Any]]:
    """Run a task on an untrusted recording and return its output and its answer.

    run: `Sandbox.run` of the server that the task needs. `name` is the pointer of errors. Raises
    Refused with the code in the answer, AUDIO_TOO_LARGE, and Failed AUDIO_DECODER_CRASHED.
    """
    if len(data) > BYTES_LIMIT:
        raise Refused(
            "AUDIO_TOO_LARGE",
            f"{len(data) >> 20} MiB: upload at most {BYTES_LIMIT >> 20} MiB.",
            pointer=name,
        )
    kind = container.find_convertible(data)
    if kind:
        data = ffmpeg.convert(data, kind, max_seconds=MAX_SECONDS, name=name)
    try:
        bulk, answer = run(task, data, name=f"{kind}.au" if kind else name, **arguments)
    except sandbox.Crashed as exc:
        raise Failed(
            "AUDIO_DECODER_CRASHED",
            f"The decoder failed on this file: {exc}. Convert it to WAV or FLAC.",
            pointer=name,
        ) from exc
    if refused := answer.get("refused"):
        raise Refused(refused, str(answer["message"]), pointer=name)
    if kind:
        answer["notices"] += ffmpeg.list_notices(kind, name)
    return bulk, answer
