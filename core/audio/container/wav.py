"""WAV and RF64 (RIFF/WAVE, Microsoft 1991; EBU Tech 3306)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from core.audio.container.source import UNKNOWN_SIZE, Source, at_most, check_channels, check_rate
from core.errors import Refused


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield (name, offset of the content, declared size) of each RIFF chunk."""
    at = 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        yield data[at : at + 4], at + 8, size
        at += 8 + size
        if size % 2 and data[at : at + 4] not in _CHUNK_NAMES:  # some writers omit the padding
            at += 1


_MAX_CHUNKS = 1_000
_CHUNK_NAMES = (b"fmt ", b"data", b"fact", b"LIST", b"bext", b"JUNK")


def inspect_wav(data: bytes) -> Source:
    if data[8:12] != b"WAVE":
        raise Refused("AUDIO_UNRECOGNIZED", "The file is RIFF, but not WAV.")
    fmt = fact = ds64 = b""
    for name, at, size in at_most(_chunks(data), _MAX_CHUNKS):
        if name == b"fmt ":
            fmt = data[at : at + min(size, 128)]
        elif name == b"fact":
            fact = data[at : at + 4]
        elif name == b"ds64":
            ds64 = data[at : at + 16]
        elif name == b"data":
            wave = _parse_format(fmt)
            is_streamed = size >= UNKNOWN_SIZE
            if ds64 and size == 0xFFFFFFFF:
                size, is_streamed = int.from_bytes(ds64[8:16], "little"), False
            samples = _cut_samples(data, at, size, is_streamed)
            notice = _check_riff_size(data, at + size + size % 2, is_streamed)
            repaired = _rebuild(wave, fmt, fact, samples)
            frames = len(samples) // wave.block if wave.has_fixed_sample_size else None
            return Source("wav", repaired, frames, notice)
    raise Refused("AUDIO_HEADER_INVALID", "The WAV header is incomplete: no audio follows it.")


def find_unclosed(data: bytes) -> int:
    """Return the offset of the size of the samples if it is 0 although samples follow, or else 0.

    Recorders write the size at the end, so it is 0 if they were stopped before. Players then read
    to the end of the file. `data`: the file, or its beginning. Raises Refused AUDIO_HEADER_INVALID.
    """
    for name, at, size in at_most(_chunks(data), _MAX_CHUNKS) if data[:4] == b"RIFF" else ():
        if name == b"data":
            return at - 4 if size == 0 and not _has_only_chunks(data, at) else 0
    return 0


@dataclass(frozen=True, slots=True)
class _Format:
    tag: int
    channels: int
    rate: int
    block: int
    bits: int

    @property
    def has_fixed_sample_size(self) -> bool:
        """True for PCM, float, A-law and mu-law, which need no state to decode."""
        return self.tag in (1, 3, 6, 7)


_SAMPLE_BITS = {1: (8, 16, 24, 32), 3: (32, 64), 6: (8,), 7: (8,)}
_GUID = bytes.fromhex("000000001000800000aa00389b71")
"""The bytes after the tag in KSDATAFORMAT_SUBTYPE (Windows, mmreg.h)."""
_BLOCK_CODECS = (0x02, 0x11, 0x31)  # MS ADPCM, IMA ADPCM, GSM 6.10


def _parse_format(fmt: bytes) -> _Format:
    if len(fmt) < 16:
        raise Refused("AUDIO_HEADER_INVALID", "The WAV header does not describe its samples.")
    tag, channels, rate, _, block, bits = struct.unpack("<HHIIHH", fmt[:16])
    if tag == 0xFFFE:
        if len(fmt) < 40:
            raise Refused("AUDIO_HEADER_INVALID", "The extensible WAV header is incomplete.")
        # With other bytes after it the tag belongs to a vendor format.
        tag = int.from_bytes(fmt[24:26], "little") if fmt[26:40] == _GUID else tag
    check_channels(channels)
    check_rate(rate)
    if bits not in _SAMPLE_BITS.get(tag, (bits,)) or tag not in (*_SAMPLE_BITS, *_BLOCK_CODECS):
        raise Refused(
            "AUDIO_CODEC_UNSUPPORTED",
            f"WAV codec {tag:#06x} with {bits} bits: export as 16-bit PCM.",
        )
    if tag in _SAMPLE_BITS:
        block = channels * bits // 8  # some encoders write a wrong value
    elif block == 0:
        raise Refused("AUDIO_HEADER_INVALID", "The WAV header gives a block size of 0.")
    return _Format(tag, channels, rate, block, bits)


def _cut_samples(data: bytes, at: int, size: int, is_streamed: bool) -> bytes:
    available = len(data) - at
    if size == 0 and available > 0:
        raise Refused(
            "AUDIO_NO_SAMPLES",
            "The header announces no audio although data follows: export the recording again.",
        )
    if available <= 0:
        raise Refused("AUDIO_NO_SAMPLES")
    if available < size and not is_streamed:
        raise Refused(
            "AUDIO_TRUNCATED",
            f"The header announces {size} bytes of audio, but the file has {available}.",
        )
    return data[at : at + size]


def _check_riff_size(data: bytes, sound_end: int, is_streamed: bool) -> tuple[str, ...]:
    """Return notices if the declared size of the file is wrong."""
    riff_end = 8 + int.from_bytes(data[4:8], "little")
    if data[riff_end : riff_end + 4] in (b"RIFF", b"RF64"):
        raise Refused("AUDIO_HEADER_INVALID", "Two WAV files in one object: upload one.")
    if data[:4] == b"RF64":
        return ()
    if is_streamed or riff_end > len(data) + 1 or riff_end < sound_end - 1:
        return ("RIFF_SIZE_FIXED",)
    if riff_end < len(data) - 1 or not _has_only_chunks(data, sound_end):
        return ("TRAILING_BYTES",)  # or the size of the samples is too small
    return ()


def _has_only_chunks(data: bytes, at: int) -> bool:
    """Return whether the rest of the file is a list of chunks with printable names."""
    for _ in range(_MAX_CHUNKS):
        if at + 8 > len(data):
            break
        if not all(0x20 <= byte < 0x7F for byte in data[at : at + 4]):
            return False
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + size + size % 2
    return at <= len(data) + 1


def _rebuild(wave: _Format, fmt: bytes, fact: bytes, samples: bytes) -> bytes:
    """Return the same audio in a minimal WAV file, which every decoder reads alike."""
    if wave.has_fixed_sample_size:
        fmt = struct.pack(
            "<HHIIHH",
            wave.tag,
            wave.channels,
            wave.rate,
            wave.rate * wave.block,
            wave.block,
            wave.bits,
        )
        samples = samples[: len(samples) // wave.block * wave.block]
    chunks = [(b"fmt ", fmt), *([(b"fact", fact)] if fact else []), (b"data", samples)]
    body = b"".join(
        name + struct.pack("<I", len(part)) + part + b"\0" * (len(part) % 2)
        for name, part in chunks
    )
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body
