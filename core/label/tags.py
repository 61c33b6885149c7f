"""Read and add one text field in the metadata of an audio file; the audio is unchanged.

    WAV      a RIFF chunk named like the field (RIFF, Microsoft 1991)
    MP3      an ID3v2 TXXX frame (id3.org, ID3v2.3 and 2.4)
    FLAC     a Vorbis comment (RFC 9639, 8.6)
    Ogg      a Vorbis comment in the second packet: Opus (RFC 7845, 5.2); Vorbis is only read

`add_field` accepts files of our own encoders; `read_field` accepts any bytes and stops at the end
of a truncated file without an error. The libraries that edit all four formats are GPL or LGPL.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from core.errors import ExplainedError

_OPUS, _VORBIS = b"OpusTags", b"\x03vorbis"


def add_field(data: bytes, name: str, value: str) -> bytes:
    """Return the file with the field added. Raises ExplainedError for a container, or a form of its
    metadata, that is not supported, and ValueError for a name or value that is not ASCII."""
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        return _add_riff(data, name, value)
    if data[:4] == b"fLaC":
        return _add_flac(data, f"{name}={value}".encode("ascii"))
    if data[:4] == b"OggS":
        return _add_opus(data, f"{name}={value}".encode("ascii"))
    if data[:3] == b"ID3" or (data[:1] == b"\xff" and data[1:2] >= b"\xe0"):
        return _add_id3(data, name, value)
    raise ExplainedError("metadata can be added to WAV, FLAC, MP3 and Opus files only")


def read_field(data: bytes, name: str) -> list[bytes]:
    """Return every value of the field, in the order of the file."""
    if data[:4] == b"RIFF":
        return [
            data[at : at + size] for kind, at, size in _riff_chunks(data) if kind == name.encode()
        ]
    if data[:4] == b"fLaC":
        comments = [data[at : at + size] for kind, at, size in _flac_blocks(data) if kind == 4]
        return [value for block in comments for value in _find_comments(block, name)]
    if data[:4] == b"OggS":
        packet, _ = _read_second_packet(_ogg_pages(data))
        magic = next((m for m in (_OPUS, _VORBIS) if packet.startswith(m)), None)
        return _find_comments(packet[len(magic) :], name) if magic else []
    return [value for key, value in _id3_texts(data) if key == name.encode()]


# RIFF


def _riff_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield (name, offset of the content, size) of each chunk."""
    at = 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        yield data[at : at + 4], at + 8, size
        at += 8 + size + size % 2


def _add_riff(data: bytes, name: str, value: str) -> bytes:
    content = value.encode("ascii")
    body = data[12:] + bytes(len(data) % 2)
    body += name.encode("ascii") + struct.pack("<I", len(content)) + content
    body += bytes(len(content) % 2)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WAVE" + body


# Vorbis comments: vendor, count, comments; each string is preceded by its length


def _find_comments(block: bytes, name: str) -> list[bytes]:
    head = f"{name}=".encode().lower()
    comments = _parse_strings(block)[1:]
    return [text[len(head) :] for text in comments if text[: len(head)].lower() == head]


def _parse_strings(block: bytes) -> list[bytes]:
    """Return the vendor and every comment; fewer if the block is truncated."""
    strings, at, remaining = [], 0, 1
    while remaining and at + 4 <= len(block):
        size = int.from_bytes(block[at : at + 4], "little")
        strings.append(block[at + 4 : at + 4 + size])
        at += 4 + size
        remaining -= 1
        if len(strings) == 1:
            remaining = int.from_bytes(block[at : at + 4], "little")
            at += 4
    return strings


def _comment_block(strings: list[bytes]) -> bytes:
    vendor, *comments = [struct.pack("<I", len(text)) + text for text in strings]
    return vendor + struct.pack("<I", len(comments)) + b"".join(comments)


# FLAC


def _flac_blocks(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (type, offset of the content, size) of each metadata block."""
    at, last = 4, False
    while not last and at + 4 <= len(data):
        last = bool(data[at] & 0x80)
        size = int.from_bytes(data[at + 1 : at + 4], "big")
        yield data[at] & 0x7F, at + 4, size
        at += 4 + size


def _add_flac(data: bytes, comment: bytes) -> bytes:
    head, start = build_flac_head(data, [comment])
    return head + data[start:]


def build_flac_head(data: bytes, comments: list[bytes]) -> tuple[bytes, int]:
    """Return all metadata with the comments added, and the offset of the audio in `data`.
    Raises ExplainedError for a file without metadata."""
    blocks = [(kind, data[at : at + size], at + size) for kind, at, size in _flac_blocks(data)]
    if not blocks:
        raise ExplainedError("the FLAC file has no header")
    comment_block = next((content for kind, content, _ in blocks if kind == 4), b"")
    strings = _parse_strings(comment_block) or [b""]
    others = [(kind, content) for kind, content, _ in blocks if kind != 4]
    # The format requires STREAMINFO to be the first block.
    written = [*others[:1], (4, _comment_block([*strings, *comments])), *others[1:]]
    head = b"".join(
        bytes([kind | (0x80 if i == len(written) - 1 else 0)])
        + len(content).to_bytes(3, "big")
        + content
        for i, (kind, content) in enumerate(written)
    )
    return b"fLaC" + head, blocks[-1][2]


# Ogg (RFC 3533)


class _Page(NamedTuple):
    serial: bytes
    lacing: bytes
    content: bytes
    end: int
    """Offset of the next page."""


def _ogg_pages(data: bytes) -> Iterator[_Page]:
    at = 0
    while data[at : at + 4] == b"OggS" and at + 27 <= len(data):
        start = at + 27 + data[at + 26]
        lacing = data[at + 27 : start]
        end = start + sum(lacing)
        yield _Page(data[at + 14 : at + 18], lacing, data[start:end], end)
        at = end


def _read_second_packet(pages: Iterable[_Page]) -> tuple[bytes, _Page | None]:
    """Return the packet that starts on the second page, and the page that ends with it, or None."""
    packet = b""
    for page in itertools.islice(pages, 1, None):
        at = 0
        for i, size in enumerate(page.lacing, 1):
            packet += page.content[at : at + size]
            at += size
            if size < 255:
                return packet, page if i == len(page.lacing) else None
    return packet, None


def _add_opus(data: bytes, comment: bytes) -> bytes:
    head, start = build_opus_head(data, [comment])
    return head + data[start:]


def build_opus_head(data: bytes, comments: list[bytes]) -> tuple[bytes, int]:
    """Return the first two pages with the comments added, and the offset of the third in `data`.
    Raises ExplainedError for a stream that our encoder would not write."""
    first = next(_ogg_pages(data), None)
    packet, page = _read_second_packet(_ogg_pages(data))
    strings = _parse_strings(packet.removeprefix(_OPUS))
    tags = _OPUS + _comment_block([*strings, *comments])
    lacing = b"\xff" * (len(tags) // 255) + bytes([len(tags) % 255])
    # The comments must fill one page before and after, so that later pages keep their numbers.
    fills_page = page is not None and page.content == packet
    if (
        first is None
        or page is None
        or not fills_page
        or not packet.startswith(_OPUS)
        or len(lacing) > 255
    ):
        raise ExplainedError("the Ogg stream is not an Opus stream of this encoder")
    head = b"OggS" + bytes(10) + first.serial + struct.pack("<I", 1)
    tail = bytes([len(lacing)]) + lacing + tags
    checksum = struct.pack("<I", _ogg_crc(head + bytes(4) + tail))
    return data[: first.end] + head + checksum + tail, page.end


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1) ^ (0x04C11DB7 if value & 0x80000000 else 0)
        table.append(value & 0xFFFFFFFF)
    return table


_CRC = _crc_table()


def _ogg_crc(data: bytes) -> int:
    """Return the CRC-32 of Ogg: not reflected, initial value 0."""
    value = 0
    for byte in data:
        value = (value << 8 & 0xFFFFFFFF) ^ _CRC[value >> 24 ^ byte]
    return value


# ID3v2


def _decode_syncsafe(data: bytes) -> int:
    return data[0] << 21 | data[1] << 14 | data[2] << 7 | data[3]


def _id3_texts(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (description, value) in UTF-8 of each TXXX frame of a plain ID3v2.3 or 2.4 tag."""
    if data[:3] != b"ID3" or len(data) < 10 or data[3] not in (3, 4) or data[5] & 0xC0:
        return
    at, end = 10, 10 + _decode_syncsafe(data[6:10])
    while at + 10 <= min(end, len(data)) and data[at]:
        size = data[at + 4 : at + 8]
        length = _decode_syncsafe(size) if data[3] == 4 else int.from_bytes(size, "big")
        content = data[at + 10 : at + 10 + length]
        if data[at : at + 4] == b"TXXX" and content:
            encoding = ("latin-1", "utf-16", "utf-16-be", "utf-8")[content[0] & 3]
            text = content[1:].decode(encoding, errors="replace")
            description, _, value = text.partition("\0")
            yield description.encode(), value.removeprefix("\ufeff").rstrip("\0").encode()
        at += 10 + length


def _add_id3(data: bytes, name: str, value: str) -> bytes:
    if data[:3] == b"ID3":
        raise ExplainedError("the MP3 file already has an ID3 tag")
    frame = id3_text_frame(name, value)
    return b"ID3\4\0\0" + encode_syncsafe(len(frame)) + frame + data


def id3_text_frame(name: str, value: str) -> bytes:
    """Return a TXXX frame. Raises ValueError for text that is not ASCII."""
    content = b"\0" + name.encode("ascii") + b"\0" + value.encode("ascii")
    return b"TXXX" + encode_syncsafe(len(content)) + b"\0\0" + content


def encode_syncsafe(size: int) -> bytes:
    return bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
