"""MPEG audio (ISO 11172-3, ISO 13818-3 and the unofficial MPEG-2.5)."""

from __future__ import annotations

from dataclasses import dataclass

from core.audio.container.source import Source
from core.errors import Refused

_BIT_RATES = {  # kbit/s by (MPEG-1, layer)
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MAX_FRAMES = 100_000
"""At least a quarter of an hour."""
_MPEG_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}


@dataclass(frozen=True, slots=True)
class _FrameHeader:
    size: int
    samples: int
    rate: int


def parse_header(data: bytes, at: int) -> _FrameHeader | None:
    """Parse the frame header at an offset (section 2.4.2.3); None if there is none."""
    head = int.from_bytes(data[at : at + 4], "big")
    version, layer = head >> 19 & 3, 4 - (head >> 17 & 3)
    bit_rate, rate, padding = head >> 12 & 15, head >> 10 & 3, head >> 9 & 1
    valid = head >> 21 == 0x7FF and version != 1 and layer != 4 and rate != 3
    if not valid or bit_rate in (0, 15):
        return None
    hertz = _MPEG_RATES[version][rate]
    bits = _BIT_RATES[version == 3, layer][bit_rate - 1] * 1000
    if layer == 1:
        return _FrameHeader((12 * bits // hertz + padding) * 4, 384, hertz)
    samples = 576 if layer == 3 and version != 3 else 1152
    return _FrameHeader(samples // 8 * bits // hertz + padding, samples, hertz)


def is_free_format(data: bytes) -> bool:
    """Return True for a frame whose header does not give its size; few decoders read those."""
    head = int.from_bytes(data[:4], "big")
    return head >> 12 & 15 == 0 and parse_header((head | 0x1000).to_bytes(4, "big"), 0) is not None


def inspect_mp3(data: bytes) -> Source:
    """Count the frames, because decoders trust the frame count in the Xing header."""
    first = parse_header(data, 0)
    count, at, frame = 0, 0, first
    while frame and at + frame.size <= len(data):
        count, at = count + 1, at + frame.size
        if count > _MAX_FRAMES:
            raise Refused("AUDIO_TOO_LONG", f"More than {_MAX_FRAMES} MP3 frames.")
        frame = parse_header(data, at)
    if first is None or count == 0:
        raise Refused("AUDIO_UNRECOGNIZED")
    if count * first.samples < first.rate // 4:
        raise Refused("AUDIO_TOO_SHORT", f"Only {count} MP3 frames: upload at least three seconds.")
    announced = _xing_frames(data[: first.size])
    if frame or (announced is not None and count < announced):
        raise Refused("AUDIO_TRUNCATED", f"The MP3 ends after {count} frames: upload it again.")
    if announced is not None and (count - 1 - announced) * first.samples > first.rate:
        raise Refused("AUDIO_DECODE_LIMIT")
    notices = ("TRAILING_BYTES",) if at + 128 + 32 < len(data) else ()  # ID3v1 and APE are common
    return Source("mp3", data, None, notices)


def _xing_frames(frame: bytes) -> int | None:
    """Return the number of frames in a Xing or Info header, which does not count itself."""
    at = max(frame.find(b"Xing", 0, 64), frame.find(b"Info", 0, 64))
    if at < 0 or not frame[at + 7] & 1:
        return None
    return int.from_bytes(frame[at + 8 : at + 12], "big")
