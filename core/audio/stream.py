"""Decode untrusted recordings of any length block by block in a confined process.

It serves tracing: files that are refused as reference recordings (truncated, with a wrong header or
a damaged end) are decoded as far as possible. Neither process holds more than a few blocks.
"""

from __future__ import annotations

import io
import math
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, BinaryIO, Final

import msgspec
import numpy as np

from core.audio import sandbox
from core.audio.waveform import Samples
from core.errors import Failed, Refused

MAX_SECONDS: Final = 10 * 3600.0
_HEAD_BYTES: Final = 17 << 20
"""Bytes read to identify a file: more than the accepted size of tags and cover art."""
_FATAL_CODES: Final = frozenset(
    {
        "AUDIO_EMPTY",
        "AUDIO_NOT_AUDIO",
        "AUDIO_UNRECOGNIZED",
        "AUDIO_CODEC_UNSUPPORTED",
        "AUDIO_RATE_UNSUPPORTED",
        "AUDIO_CHANNELS_UNSUPPORTED",
    }
)
"""Codes for files that cannot be decoded even in part."""
_RANGE: Final = 16.0
_HEADER: Final = struct.Struct("<II")
LIMITS: Final = sandbox.Limits(cpu_s=3600, wall_s=24 * 3600.0, stream=True)


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """The properties of a recording, or of its beginning as long as it was not read to the end."""

    seconds: float
    channels: int
    channel_difference: float
    """Share of the power in which channels differ; 0 if they are equal, if there is only one, or if
    the recording was not read to the end."""
    damaged: bool
    """True if decoding stopped before the end of the file."""
    peak: float = math.inf
    """Largest absolute sample of any channel; infinite if the recording was not read to the end."""


class Recording:
    """One pass over a file. Iterate once over float32 blocks of shape (n,); then read `facts`. The
    iteration may end early.

    file: must have a descriptor. channel: index of a channel, or None for the mean of all. Raises
    Refused with an AUDIO_ code, possibly after some blocks, and Failed AUDIO_DECODER_CRASHED.
    """

    def __init__(
        self,
        file: BinaryIO,
        *,
        name: str,
        channel: int | None = None,
        max_seconds: float = MAX_SECONDS,
        limits: sandbox.Limits = LIMITS,
    ) -> None:
        self.rate = 0
        self.facts = Facts(seconds=0.0, channels=0, channel_difference=0.0, damaged=False)
        self._name, self._limits = name, limits
        arguments = {"name": name, "channel": channel, "max_seconds": max_seconds}
        self._blocks = self._read(file.fileno(), arguments)
        self._first = next(self._blocks, np.zeros(0, np.float32))

    def __iter__(self) -> Iterator[Samples]:
        yield self._first
        yield from self._blocks

    def _read(self, source: int, arguments: dict[str, Any]) -> Iterator[Samples]:
        pending, count = b"", 0
        for part in self._receive(source, arguments):
            pending += part
            if not self.rate and len(pending) >= _HEADER.size:
                self.rate, channels = _HEADER.unpack(pending[: _HEADER.size])
                self.facts = msgspec.structs.replace(self.facts, channels=channels)
                pending = pending[_HEADER.size :]
            whole = len(pending) // 4 * 4
            if self.rate and whole:
                count += whole // 4
                self.facts = msgspec.structs.replace(self.facts, seconds=count / self.rate)
                yield np.frombuffer(pending[:whole], np.float32)
                pending = pending[whole:]

    def _receive(self, source: int, arguments: dict[str, Any]) -> Iterator[bytes]:
        try:
            answer = yield from sandbox.stream(
                "core.audio.stream:stream_task", source, self._limits, **arguments
            )
        except sandbox.Crashed as exc:
            message = f"The decoder failed on this file: {exc}. Convert it to WAV or FLAC."
            raise Failed("AUDIO_DECODER_CRASHED", message, pointer=self._name) from exc
        if refused := answer.get("refused"):
            raise Refused(refused, str(answer["message"]), pointer=self._name)
        self.facts = msgspec.convert(answer, Facts)


# The rest runs in the confined process, where coverage is not measured.


def stream_task(
    source: int,
    write: Callable[[Any], object],
    *,
    name: str,
    channel: int | None,
    max_seconds: float,
) -> dict[str, Any]:  # pragma: no cover
    """Sandbox task: write the sample rate and the number of channels in four bytes each, then
    float32 samples of one channel."""
    try:
        sound, header_problem = _open(source, name)
        return _decode_blocks(sound, write, channel, max_seconds, header_problem)
    except Refused as exc:
        return {"refused": exc.code, "message": exc.message}


def _find_header_problem(head: bytes, name: str) -> Refused | None:  # pragma: no cover
    """Return the error of a file that can perhaps be decoded nevertheless, or None."""
    from core.audio.container import inspect

    try:
        inspect(head, name)
    except Refused as exc:
        if exc.code in _FATAL_CODES:
            raise
        return exc
    return None


def _open(source: int, name: str) -> tuple[Any, Refused | None]:  # pragma: no cover
    """Open a file, and return it as a `Sound`, and what is wrong with its header."""
    import soundfile

    from core.audio.container.wav import find_unclosed
    from core.audio.libsndfile import Sound

    head, at = os.pread(source, _HEAD_BYTES, 0), 0
    problem = _find_header_problem(head, name)
    with suppress(Refused):  # it is `problem`
        at = find_unclosed(head)
    os.lseek(source, 0, os.SEEK_SET)
    try:
        # libsndfile itself would ask for the status of the file, a call that takes paths, too.
        return Sound(_Unclosed(source, at) if at else io.FileIO(source, closefd=False)), problem
    except soundfile.SoundFileError as exc:
        raise problem or Refused("AUDIO_HEADER_INVALID") from exc


def _decode_blocks(
    sound: Any,
    write: Callable[[Any], object],
    channel: int | None,
    max_seconds: float,
    header_problem: Refused | None,
) -> dict[str, Any]:  # pragma: no cover
    import soundfile

    from core.audio.container import check_channels, check_rate

    check_rate(sound.samplerate)
    check_channels(sound.channels)
    write(_HEADER.pack(sound.samplerate, sound.channels))
    frames, total, channel_difference, peak, damaged = 0, 1e-12, 0.0, 0.0, False
    try:
        for block in _read_blocks(sound):
            frames += len(block)
            if frames > max_seconds * sound.samplerate:
                raise Refused(
                    "AUDIO_TOO_LONG", f"It is longer than {max_seconds / 3600:g} hours: split it."
                )
            peak = max(peak, float(block.max()), -float(block.min()))
            mean = block.mean(axis=1, dtype=np.float32)
            total += float(np.square(block).sum())
            channel_difference += float(np.square(block - mean[:, None]).sum())
            write(np.ascontiguousarray(mean if channel is None else block[:, channel]))
    except soundfile.SoundFileError:
        damaged = True
    if frames == 0:
        raise header_problem or Refused("AUDIO_CORRUPT" if damaged else "AUDIO_NO_SAMPLES")
    return {
        "seconds": frames / sound.samplerate,
        "channels": sound.channels,
        "channel_difference": channel_difference / total,
        "damaged": damaged,
        "peak": peak,
    }


class _Unclosed(io.FileIO):  # pragma: no cover
    """A WAV file whose samples are read to its end, because their size is missing at `at`."""

    def __init__(self, source: int, at: int) -> None:
        super().__init__(source, closefd=False)
        self._at = at

    def readinto(self, buffer: Any) -> int:
        start = self.tell()
        count = super().readinto(buffer) or 0
        for offset in range(max(self._at - start, 0), min(self._at + 4 - start, count)):
            buffer[offset : offset + 1] = b"\xff"
        return count


def _read_blocks(sound: Any) -> Iterator[Samples]:  # pragma: no cover
    """Yield finite blocks of shape (n, channels)."""
    while len(block := sound.read(1 << 16, dtype="float32", always_2d=True)):
        clean = np.nan_to_num(block, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
        yield np.clip(clean, -_RANGE, _RANGE)
