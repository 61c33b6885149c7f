"""FLAC (RFC 9639), Ogg (RFC 3533), AIFF, AU, Wave64 and CAF."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from core.audio.container.source import (
    UNKNOWN_SIZE,
    Source,
    at_most,
    check_rate,
    check_size,
    check_tags,
)
from core.errors import Refused

_MAX_CHUNKS = 1_000
_MAX_PAGES = 200_000


def inspect_aiff(data: bytes) -> Source:
    if data[8:12] not in (b"AIFF", b"AIFC"):
        raise Refused("AUDIO_UNRECOGNIZED", "The file is IFF, but not AIFF.")
    check_size(data, 8 + int.from_bytes(data[4:8], "big"))
    return Source("aiff", data)


def inspect_au(data: bytes) -> Source:
    offset, size = struct.unpack(">II", data[4:12].ljust(8, b"\0"))
    if offset < 24:
        raise Refused("AUDIO_HEADER_INVALID", "The AU header is incomplete.")
    if size < UNKNOWN_SIZE:
        check_size(data, offset + size)
    return Source("au", data)


def inspect_w64(data: bytes) -> Source:
    check_size(data, max(40, int.from_bytes(data[16:24], "little")))
    for name, at, size in at_most(_w64_chunks(data), _MAX_CHUNKS):
        if name == b"data":
            check_size(data, at + size)
            break
    return Source("w64", data)


def _w64_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield (start of the GUID, offset, size) of each chunk; sizes include its 24-byte header."""
    at = 40
    while at + 24 <= len(data):
        size = int.from_bytes(data[at + 16 : at + 24], "little")
        yield data[at : at + 4], at, size
        at += max(24, -(-size // 8) * 8)


def inspect_caf(data: bytes) -> Source:
    for name, at, size in at_most(_caf_chunks(data), _MAX_CHUNKS):
        if name == b"data" and size == -1:  # up to the end of the file; decoders cannot read this
            actual = (len(data) - at).to_bytes(8, "big")
            return Source("caf", data[: at - 8] + actual + data[at:])
        if name == b"data":
            check_size(data, at + size)
    return Source("caf", data)


def _caf_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield (name, offset of the content, size) of each chunk; the last may have the size -1."""
    at, size = 8, 0
    while size >= 0 and at + 12 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 12], "big", signed=True)
        yield data[at : at + 4], at + 12, size
        at += 12 + size


def inspect_flac(data: bytes) -> Source:
    """Set the announced length to 0 (unknown), so that a decoder reads to the true end."""
    if len(data) < 42 or data[4] & 0x7F:
        raise Refused("AUDIO_HEADER_INVALID", "The FLAC header is incomplete.")
    fields = int.from_bytes(data[18:26], "big")  # rate 20, channels 3, bits 5, frames 36
    check_rate(fields >> 44)
    frames = fields & 0xF_FFFF_FFFF
    at = max(at_most(_flac_block_ends(data), _MAX_CHUNKS))
    check_tags(at)
    if at > len(data):
        raise Refused("AUDIO_HEADER_INVALID", "The FLAC header is incomplete.")
    if at == len(data):
        raise Refused("AUDIO_NO_SAMPLES")
    code = int.from_bytes(data[at + 2 : at + 3]) & 15
    if _FLAC_RATES.get(code, fields >> 44) != fields >> 44:
        raise Refused("AUDIO_HEADER_INVALID", "FLAC header and frames differ in sample rate.")
    without_length = (fields ^ frames).to_bytes(8, "big")
    has_id3v1 = data[-128:-125] == b"TAG"  # a decoder would report it as a damaged frame
    rest = data[26:-128] if has_id3v1 else data[26:]
    notices = ("TRAILING_BYTES",) if has_id3v1 else ()
    return Source("flac", data[:18] + without_length + rest, frames or None, notices)


_FLAC_RATES = dict(
    enumerate(
        (88_200, 176_400, 192_000, 8_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000), 1
    )
)
"""Sample rates by the code in a frame header (RFC 9639, 9.1.2)."""


def _flac_block_ends(data: bytes) -> Iterator[int]:
    """Yield the end of each metadata block; beyond the file if none is marked as the last."""
    at, last = 4, False
    while not last and at + 4 <= len(data):
        last = bool(data[at] & 0x80)
        at += 4 + int.from_bytes(data[at + 1 : at + 4], "big")
        yield at
    if not last:
        yield len(data) + 1


def inspect_ogg(data: bytes) -> Source:
    end, has_ended, is_chained = 0, False, False
    for flags, end in at_most(_ogg_pages(data), _MAX_PAGES):  # noqa: B007 - used after the loop
        is_chained = is_chained or (has_ended and bool(flags & 2))
        has_ended = has_ended or bool(flags & 4)
    codecs = {b"\x01vorbis": "vorbis", b"OpusHead": "opus"}
    first = 27 + data[26] if len(data) > 26 else 0
    codec = next((c for magic, c in codecs.items() if data[first:].startswith(magic)), "")
    if not codec:
        raise Refused("AUDIO_CODEC_UNSUPPORTED", "Ogg, but neither Vorbis nor Opus: convert it.")
    if not has_ended:
        raise Refused("AUDIO_TRUNCATED", "The Ogg stream has no end: upload the file again.")
    # Only the first of several chained streams is read.
    return Source(codec, data, None, ("TRAILING_BYTES",) if is_chained or end < len(data) else ())


def _ogg_pages(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield (flags, end offset) of each whole page; flag 2 starts a stream, flag 4 ends it."""
    at = 0
    while data[at : at + 4] == b"OggS" and at + 27 <= len(data):
        lacing = data[at + 27 : at + 27 + data[at + 26]]
        end = at + 27 + data[at + 26] + sum(lacing)
        if len(lacing) < data[at + 26] or end > len(data):
            return
        yield data[at + 5], end
        at = end
