"""FLAC and MP3 files with wrong headers."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np

from tests.support.recordings.cases import wav
from tests.support.recordings.containers import flac_block, flac_with, mpeg_frames, page
from tests.support.recordings.files import id3, pack, random_bytes, speech
from tests.support.recordings.hostile import Hostile, case, flac, mp3


def flac_fields(change: Callable[[int], int]) -> bytes:
    """Change rate (20 bits), channels (3), bits (5) and frames (36) of STREAMINFO."""
    fields = change(int.from_bytes(flac()[18:26], "big"))
    return flac()[:18] + fields.to_bytes(8, "big") + flac()[26:]


def with_xing_frames(frames: int) -> bytes:
    at = mp3().index(b"Xing") + 8
    return mp3()[:at] + struct.pack(">I", frames) + mp3()[at + 4 :]


CASES: list[Hostile] = [
    case("flac md5", lambda: flac()[:26] + bytes(range(16)) + flac()[42:], "ok", name="a.flac"),
    case(
        "flac 32 bit claim",
        lambda: flac_fields(lambda v: v | (31 << 36)),
        "AUDIO_CODEC_UNSUPPORTED",
        name="a.flac",
    ),
    case(
        "flac 4 bit claim",
        lambda: flac_fields(lambda v: v & ~(31 << 36) | (3 << 36)),
        "AUDIO_CODEC_UNSUPPORTED",
        name="a.flac",
    ),
    case(
        "flac 8 channels claim",
        lambda: flac_fields(lambda v: v | (7 << 41)),
        "AUDIO_CORRUPT",
        name="a.flac",
    ),
    case(
        "flac rate claim 8k",
        lambda: flac_fields(lambda v: v & ((1 << 44) - 1) | (8000 << 44)),
        "AUDIO_HEADER_INVALID",
        name="a.flac",
    ),
    case(
        "flac total claims too many",
        lambda: flac_fields(lambda v: v >> 36 << 36 | 10**6),
        "AUDIO_CORRUPT",
        name="a.flac",
    ),
    case(
        "flac total claims 2^36-1",
        lambda: flac_fields(lambda v: v | (2**36 - 1)),
        "AUDIO_TOO_LONG",
        name="a.flac",
    ),
    case(
        "flac total claims few",
        lambda: flac_fields(lambda v: v >> 36 << 36 | 10),
        "AUDIO_DECODE_LIMIT",
        name="a.flac",
    ),
    case(
        "flac padding 15 MB",
        lambda: flac_with(flac(), flac_block(1, bytes(15 << 20))),
        "ok",
        name="a.flac",
    ),
    case(
        "flac picture 16 MB",
        lambda: flac_with(flac(), flac_block(6, bytes(16777215)), flac_block(1, bytes(100))),
        "AUDIO_TOO_LARGE",
        name="a.flac",
    ),
    case(
        "flac picture lies",
        lambda: flac_with(flac(), flac_block(6, b"\xff" * 64)),
        "AUDIO_HEADER_INVALID",
        name="a.flac",
    ),
    case(
        "flac comment lies",
        lambda: flac_with(flac(), flac_block(4, b"\xff" * 64)),
        "AUDIO_HEADER_INVALID",
        name="a.flac",
    ),
    case(
        "flac seektable lies",
        lambda: flac_with(flac(), flac_block(3, b"\x7f" * 18 * 50)),
        "ok",
        name="a.flac",
    ),
    case(
        "flac reserved block",
        lambda: flac_with(flac(), flac_block(126, b"x" * 10)),
        "ok",
        name="a.flac",
    ),
    case(
        "flac block 127", lambda: flac_with(flac(), flac_block(127, b"x" * 10)), "ok", name="a.flac"
    ),
    case(
        "flac blocks bomb",
        lambda: flac_with(flac(), bytes([1, 0, 0, 0]) * (15 << 20)),
        "AUDIO_HEADER_INVALID",
        name="a.flac",
    ),
    case(
        "flac min block lies",
        lambda: flac()[:8] + struct.pack(">HH", 65535, 1) + flac()[12:],
        "ok",
        name="a.flac",
    ),
    case("flac twice", lambda: flac() + flac(), "AUDIO_CORRUPT", name="a.flac"),
    case("flac then zeros", lambda: flac() + bytes(100000), "AUDIO_CORRUPT", name="a.flac"),
    case(
        "ogg flac",
        lambda: page(b"\x7fFLAC\x01\0\0\1" + flac()[:42], flags=2) + flac()[42:],
        "AUDIO_CODEC_UNSUPPORTED",
        name="a.ogg",
    ),
    case(
        "mp3 free format",
        lambda: mpeg_frames(b"\xff\xfb\x00\xc0", 400, 200),
        "AUDIO_CODEC_UNSUPPORTED",
        name="a.mp3",
    ),
    case(
        "mp3 xing claims 2^32-1",
        lambda: with_xing_frames(2**32 - 1),
        "AUDIO_TRUNCATED",
        name="a.mp3",
    ),
    case("mp3 xing claims 1", lambda: with_xing_frames(1), "AUDIO_DECODE_LIMIT", name="a.mp3"),
    case("mp3 xing claims 0", lambda: with_xing_frames(0), "AUDIO_DECODE_LIMIT", name="a.mp3"),
    case(
        "mp3 id3 unsync",
        lambda: id3(3000)[:5] + b"\x80" + id3(3000)[6:10] + b"\xff\x00" * 1500 + mp3(),
        "ok",
        name="a.mp3",
    ),
    case(
        "mp3 id3 beyond file",
        lambda: id3(0)[:6] + b"\x00\x7f\x7f\x7f" + mp3(),
        "AUDIO_TRUNCATED",
        name="a.mp3",
    ),
    case(
        "mp3 id3 256 MB",
        lambda: id3(0)[:6] + b"\x7f\x7f\x7f\x7f" + mp3(),
        "AUDIO_TOO_LARGE",
        name="a.mp3",
    ),
    case("mp3 id3 only", lambda: id3(500), "AUDIO_NO_SAMPLES", name="a.mp3"),
    case(
        "mp3 id3 then 20 MB zeros",
        lambda: id3(10) + bytes(20 << 20),
        "AUDIO_NO_SAMPLES",
        name="a.mp3",
    ),
    case("mp3 id3 chain", lambda: id3(0) * (1 << 20) + mp3(), "AUDIO_UNRECOGNIZED", name="a.mp3"),
    case(
        "mp3 ape front", lambda: b"APETAGEX" + bytes(24) + mp3(), "AUDIO_UNRECOGNIZED", name="a.mp3"
    ),
    case(
        "mp3 ape end", lambda: mp3() + b"APETAGEX" + bytes(500), "ok TRAILING_BYTES", name="a.mp3"
    ),
    case("mp3 mpeg2.5", lambda: mp3(8000), "ok LOW_BANDWIDTH", name="a.mp3"),
    case(
        "mp3 layer ii silence",
        lambda: mpeg_frames(b"\xff\xfd\x80\xc4", 417, 250),
        "AUDIO_SILENT",
        name="a.mp3",
    ),
    case(
        "mp3 layer i silence",
        lambda: mpeg_frames(b"\xff\xff\x80\xc4", 276, 600),
        "AUDIO_SILENT",
        name="a.mp3",
    ),
    case("mp3 mid frame", lambda: mp3()[:-50], "AUDIO_TRUNCATED", name="a.mp3"),
    case("mp3 rate change", lambda: mp3() + mp3(44100), "AUDIO_DECODE_LIMIT", name="a.mp3"),
    case(
        "mp3 channel change",
        lambda: mp3() + pack(np.stack([speech().samples] * 2, 1), 16000, "MP3"),
        "AUDIO_DECODE_LIMIT",
        name="a.mp3",
    ),
    case(
        "mp3 frames bomb",
        lambda: mpeg_frames(b"\xff\xe3\x18\xc4", 24, (63 << 20) // 24),
        "AUDIO_TOO_LONG",
        name="a.mp3",
    ),
    case(
        "mp3 zero frames",
        lambda: mpeg_frames(b"\xff\xfb\x90\xc4", 417, 300),
        "AUDIO_SILENT",
        name="a.mp3",
    ),
    case(
        "mp3 ff bodies",
        lambda: (b"\xff\xfb\x90\xc4" + b"\xff" * 413) * 300,
        "AUDIO_SILENT",
        name="a.mp3",
    ),
    case(
        "mp3 junk in front", lambda: random_bytes(320) + mp3(), "AUDIO_UNRECOGNIZED", name="a.mp3"
    ),
    case("mp3 then wav", lambda: mp3() + wav(), "ok TRAILING_BYTES", name="a.mp3"),
    case(
        "flac with ID3v1", lambda: flac() + b"TAG" + bytes(125), "ok TRAILING_BYTES", name="a.flac"
    ),
]
