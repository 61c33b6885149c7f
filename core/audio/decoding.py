"""Decode audio files: untrusted ones in a confined process, our own in this process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from core.audio import sandbox
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
    """wav, flac, mp3, vorbis, opus, aiff, caf, au or w64."""
    codec: str
    """libsndfile's name of the sample format, lower case: pcm_16, float, alaw, gsm610 ..."""
    notices: tuple[Notice, ...] = ()

    @property
    def seconds(self) -> float:
        return int(self.channels.shape[1]) / self.rate


def decode(data: bytes, *, name: str, max_seconds: float = MAX_SECONDS) -> Decoded:
    """Decode an untrusted recording in a confined process.

    `name` (an object key) is the pointer of errors, and its extension is the expected format.
    Raises Refused with one of the AUDIO_ codes, and Failed AUDIO_DECODER_CRASHED.
    """
    bulk, answer = _run_sandboxed(
        "core.audio.libsndfile:decode_task", data, name=name, max_seconds=max_seconds
    )
    channels = np.frombuffer(bulk, np.float32).reshape(-1, answer["channels"]).T
    return Decoded(
        channels, answer["rate"], answer["format"], answer["codec"], _notices(answer, name)
    )


def decode_trusted(data: bytes) -> Audio:
    """Decode mono audio written by `encode`, in this process. Raises Refused like `decode`."""
    from core.audio import container, libsndfile

    source = container.inspect(data, "")
    with libsndfile.open_sound(source) as sound:
        parts = list(libsndfile.read_blocks(sound, source, 24 * 3600.0))
        return Audio(np.concatenate(parts)[:, 0], sound.samplerate)


def _run_sandboxed(task: str, data: bytes, **arguments: Any) -> tuple[bytearray, dict[str, Any]]:
    name = arguments["name"]
    if len(data) > BYTES_LIMIT:
        raise Refused(
            "AUDIO_TOO_LARGE",
            f"{len(data) >> 20} MiB: upload at most {BYTES_LIMIT >> 20} MiB.",
            pointer=name,
        )
    try:
        bulk, answer = sandbox.run(task, data, **arguments)
    except sandbox.Crashed as exc:
        raise Failed(
            "AUDIO_DECODER_CRASHED",
            f"The decoder failed on this file: {exc}. Convert it to WAV or FLAC.",
            pointer=name,
        ) from exc
    if refused := answer.get("refused"):
        raise Refused(refused, str(answer["message"]), pointer=name)
    return bulk, answer


def _notices(answer: dict[str, Any], name: str) -> tuple[Notice, ...]:
    return tuple(Notice(code, pointer=name) for code in answer["notices"])
