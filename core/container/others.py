"""FLAC (RFC 9639), Ogg (RFC 3533), AIFF, AU, Wave64 and CAF."""

from __future__ import annotations

import struct

from core.container.source import STREAMED, Source, announced, sane_rate, sane_tags
from core.errors import Refused


def aiff(data: bytes) -> Source:
    if data[8:12] not in (b"AIFF", b"AIFC"):
        raise Refused("AUDIO_UNRECOGNIZED", "An IFF file, but not AIFF.")
    announced(data, 8 + int.from_bytes(data[4:8], "big"))
    return Source("aiff", data)


def au(data: bytes) -> Source:
    offset, size = struct.unpack(">II", data[4:12].ljust(8, b"\0"))
    if size < STREAMED:
        announced(data, offset + size)
    return Source("au", data)


def w64(data: bytes) -> Source:
    announced(data, max(40, int.from_bytes(data[16:24], "little")))
    return Source("w64", data)


def caf(data: bytes) -> Source:
    at = 8
    while at + 12 <= len(data):
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 12], "big", signed=True)
        if name == b"data" and size != -1:
            announced(data, at + 12 + size)
        if size < 0:
            break
        at += 12 + size
    return Source("caf", data)


def flac(data: bytes) -> Source:
    """Zero the announced length, so that decoding goes on to the true end."""
    if len(data) < 42 or data[4] & 0x7F:
        raise Refused("AUDIO_HEADER_INVALID", "The FLAC header is cut.")
    fields = int.from_bytes(data[18:26], "big")  # rate 20, channels 3, bits 5, frames 36
    sane_rate(fields >> 44)
    frames = fields & 0xF_FFFF_FFFF
    at, last = 4, False
    while not last and at + 4 <= len(data):
        last = bool(data[at] & 0x80)
        at += 4 + int.from_bytes(data[at + 1 : at + 4], "big")
    sane_tags(at)
    if not last or at > len(data):
        raise Refused("AUDIO_HEADER_INVALID", "The FLAC header is cut.")
    if at == len(data):
        raise Refused("AUDIO_NO_SAMPLES")
    endless = (fields ^ frames).to_bytes(8, "big")
    return Source("flac", data[:18] + endless + data[26:], frames or None)


def ogg(data: bytes) -> Source:
    at, ended = 0, False
    while data[at : at + 4] == b"OggS" and at + 27 <= len(data):
        lacing = data[at + 27 : at + 27 + data[at + 26]]
        size = 27 + data[at + 26] + sum(lacing)
        if len(lacing) < data[at + 26] or at + size > len(data):
            break
        ended = ended or bool(data[at + 5] & 4)
        at += size
    kinds = {b"\x01vorbis": "vorbis", b"OpusHead": "opus"}
    first = 27 + data[26] if len(data) > 26 else 0
    kind = next((k for magic, k in kinds.items() if data[first:].startswith(magic)), "")
    if not kind:
        raise Refused("AUDIO_CODEC_UNSUPPORTED", "Ogg, but neither Vorbis nor Opus: convert it.")
    if not ended:
        raise Refused("AUDIO_TRUNCATED", "The Ogg stream has no end: upload the file again.")
    return Source(kind, data, None, ("TRAILING_BYTES",) if at < len(data) else ())
