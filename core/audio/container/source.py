"""The result of inspecting headers, and the checks common to all formats."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from core.errors import Refused

TAGS_LIMIT = 16 << 20
"""Most bytes of tags and cover art before the audio."""
UNKNOWN_SIZE = 0x7FFF_0000
"""Sizes from here up mean "unknown": encoders that cannot seek back write them."""


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Source:
    format: str
    """wav, flac, mp3, vorbis, opus, aiff, caf, au or w64."""
    data: bytes
    """Bytes for the decoder: the file itself, or the same audio with a repaired header."""
    frames: int | None = None
    """Samples per channel according to the header; None if only decoding can tell."""
    notices: tuple[str, ...] = ()


def check_rate(rate: int) -> None:
    if not 0 < rate <= 10_000_000:
        raise Refused("AUDIO_HEADER_INVALID", f"The header gives a sample rate of {rate} Hz.")
    if not 8_000 <= rate <= 192_000:
        raise Refused("AUDIO_RATE_UNSUPPORTED", f"{rate} Hz: use a sample rate from 8 to 192 kHz.")


def check_channels(channels: int) -> None:
    if not 1 <= channels <= 8:
        raise Refused(
            "AUDIO_CHANNELS_UNSUPPORTED", f"{channels} channels: use one to eight channels."
        )


def check_size(data: bytes, size: int) -> None:
    if size > len(data):
        raise Refused(
            "AUDIO_TRUNCATED", f"The header announces {size} bytes, but the file has {len(data)}."
        )


def at_most(parts: Iterable[T], most: int) -> Iterator[T]:
    """Yield the parts of a file. Raises Refused AUDIO_HEADER_INVALID for more than `most`: millions
    of empty ones fit into a file of the accepted size, and parsing them takes many seconds."""
    for count, part in enumerate(parts):
        if count == most:
            raise Refused("AUDIO_HEADER_INVALID", f"The file has more than {most} parts.")
        yield part


def check_tags(size: int) -> None:
    if size > TAGS_LIMIT:
        raise Refused("AUDIO_TOO_LARGE", f"{size >> 20} MiB of tags and cover art: remove them.")
