"""Audio containers built field by field, so that any field can be wrong."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from core.label.tags import _ogg_crc as ogg_crc

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
GUID = b"\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71"
"""The bytes after the format tag in the GUIDs of KSDATAFORMAT_SUBTYPE."""


def int16(samples: NDArray[np.float32]) -> bytes:
    return (np.clip(samples, -1, 1) * 32_767).astype("<i2").tobytes()


def chunk(name: bytes, content: bytes, size: int | None = None) -> bytes:
    size = len(content) if size is None else size
    return name + struct.pack("<I", size) + content + bytes(len(content) % 2)


def fmt(
    tag: int = PCM,
    channels: int = 1,
    rate: int = 16_000,
    bits: int = 16,
    block: int | None = None,
    more: bytes = b"",
) -> bytes:
    block = channels * bits // 8 if block is None else block
    per_second = rate * block & 0xFFFFFFFF
    return chunk(
        b"fmt ", struct.pack("<HHIIHH", tag, channels, rate, per_second, block, bits) + more
    )


def extensible(sub: int = PCM, *, channels: int = 1, bits: int = 16, mask: int = 4, valid: int = 0,
               tail: bytes = GUID) -> bytes:  # fmt: skip
    more = struct.pack("<HHIH", 22, valid or bits, mask, sub) + tail
    return fmt(EXTENSIBLE, channels, bits=bits, more=more)


def riff(*chunks: bytes, name: bytes = b"RIFF", size: int | None = None) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return name + struct.pack("<I", len(body) if size is None else size) + body


def pages(data: bytes) -> list[bytes]:
    """Split an Ogg file into its pages."""
    found, at = [], 0
    while data[at : at + 4] == b"OggS":
        end = at + 27 + data[at + 26] + sum(data[at + 27 : at + 27 + data[at + 26]])
        found.append(data[at:end])
        at = end
    return found


def page(
    content: bytes, *, serial: int = 7, number: int = 0, flags: int = 0, granule: int = 0
) -> bytes:
    """Return an Ogg page with one packet."""
    lacing = b"\xff" * (len(content) // 255) + bytes([len(content) % 255])
    head = struct.pack("<4sBBqIII", b"OggS", 0, flags, granule, serial, number, 0)
    return with_checksum(head + bytes([len(lacing)]) + lacing + content)


def with_checksum(page: bytes) -> bytes:
    """Return the page with a correct checksum."""
    plain = page[:22] + bytes(4) + page[26:]
    return plain[:22] + struct.pack("<I", ogg_crc(plain)) + plain[26:]


def with_field(page: bytes, at: int, field: bytes) -> bytes:
    return with_checksum(page[:at] + field + page[at + len(field) :])


def flac_block(kind: int, content: bytes, *, last: bool = False) -> bytes:
    return bytes([kind | 0x80 * last]) + len(content).to_bytes(3, "big") + content


def flac_with(data: bytes, *blocks: bytes) -> bytes:
    """Insert metadata blocks after STREAMINFO."""
    first = bytes([data[4] & 0x7F])
    rest = data[42:] if not data[4] & 0x80 else b""
    return data[:4] + first + data[5:42] + b"".join(blocks) + rest


def mpeg_frames(head: bytes, size: int, count: int) -> bytes:
    """Return frames with one header and zeros as data, which is silence in every layer."""
    return (head + bytes(size - len(head))) * count


def float80(value: float) -> bytes:
    """Return IEEE 754 extended precision, big-endian: the sample rate in AIFF."""
    mantissa, exponent = np.frexp(value)
    return struct.pack(">HQ", 16_382 + int(exponent), int(mantissa * 2**64))


def aiff(rate: bytes, *, channels: int = 1, frames: int = 80_000, bits: int = 16, sound: bytes,
         form: bytes = b"AIFF", codec: bytes = b"", offset: int = 0) -> bytes:  # fmt: skip
    def part(name: bytes, content: bytes) -> bytes:
        return name + struct.pack(">I", len(content)) + content + bytes(len(content) % 2)

    common = struct.pack(">hIh", channels, frames, bits) + rate
    if codec:
        common += codec + b"\x00\x00"
    body = form + part(b"COMM", common) + part(b"SSND", struct.pack(">II", offset, 0) + sound)
    return b"FORM" + struct.pack(">I", len(body)) + body


def au(encoding: int, rate: int, channels: int, sound: bytes, *, offset: int = 24,
       size: int = 0xFFFFFFFF) -> bytes:  # fmt: skip
    return struct.pack(">4sIIIII", b".snd", offset, size, encoding, rate, channels) + sound


def caf(rate: float, sound: bytes, *, channels: int = 1, bits: int = 16, size: int | None = None,
        codec: bytes = b"lpcm", flags: int = 2, more: bytes = b"") -> bytes:  # fmt: skip
    block = channels * bits // 8
    described = struct.pack(">d4sIIIII", rate, codec, flags, block, 1, channels, bits)
    data = struct.pack(">I", 0) + sound
    return (
        b"caff\0\1\0\0"
        + b"desc" + struct.pack(">q", 32) + described
        + more
        + b"data" + struct.pack(">q", len(data) if size is None else size) + data
    )  # fmt: skip
