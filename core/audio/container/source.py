"""The result of reading headers, and the checks that all formats share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from core.errors import Refused

TAGS_LIMIT = 16 << 20
"""Bytes of tags and cover art in front of the sound."""
UNKNOWN_SIZE = 0x7FFF_0000
"""Sizes from here up are what encoders write that cannot seek back: they mean "unknown"."""


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Source:
    format: str
    """wav, flac, mp3, vorbis, opus, aiff, caf, au or w64."""
    data: bytes
    """Bytes for the decoder: the file's own, or the same sound under a repaired header."""
    frames: int | None = None
    """Samples per channel that the header promises; None if only the decoder can tell."""
    notices: tuple[str, ...] = ()


def check_sample_rate(rate: int) -> None:
    if not 0 < rate <= 10_000_000:
        raise Refused("AUDIO_HEADER_INVALID", f"The header names a sample rate of {rate} Hz.")
    if not 8_000 <= rate <= 192_000:
        raise Refused("AUDIO_RATE_UNSUPPORTED", f"{rate} Hz: use a sample rate from 8 to 192 kHz.")


def check_channels(channels: int) -> None:
    if not 1 <= channels <= 8:
        raise Refused(
            "AUDIO_CHANNELS_UNSUPPORTED", f"{channels} channels: use one to eight channels."
        )


def check_announced_size(data: bytes, size: int) -> None:
    if size > len(data):
        raise Refused(
            "AUDIO_TRUNCATED", f"The header announces {size} bytes, {len(data)} are there."
        )


def at_most(parts: Iterable[T], most: int) -> Iterator[T]:
    """The parts, unless there are more than any recorder writes: ten million empty ones fit into a
    file that we accept, and walking them would take many seconds."""
    for count, part in enumerate(parts):
        if count == most:
            raise Refused("AUDIO_HEADER_INVALID", f"The file has more than {most} parts.")
        yield part


def check_tag_size(size: int) -> None:
    if size > TAGS_LIMIT:
        raise Refused("AUDIO_TOO_LARGE", f"Tags and cover art fill {size >> 20} MiB: remove them.")
