"""Ogg, AIFF, AU and CAF files with wrong headers."""

from __future__ import annotations

import struct

import numpy as np

from tests.support.recordings.containers import aiff, au, caf, float80, page, pages, with_field
from tests.support.recordings.files import pack, speech
from tests.support.recordings.hostile import Hostile, case, ogg, opus, pcm


def joined(*parts: bytes) -> bytes:
    return b"".join(parts)


def last_granule(file: bytes, granule: int) -> bytes:
    *before, last = pages(file)
    return joined(*before, with_field(last, 6, struct.pack("<q", granule)))


def crc_wrong(file: bytes) -> bytes:
    """Clear the checksum of a page in the middle."""
    all_ = pages(file)
    middle = len(all_) // 2
    all_[middle] = all_[middle][:22] + bytes(4) + all_[middle][26:]
    return joined(*all_)


def head_with(form: str, at: int, value: int, of: bytes = b"") -> bytes:
    """Change one field of the OpusHead packet."""
    first, *rest = pages(of or opus())
    return joined(with_field(first, 28 + at, struct.pack(form, value)), *rest)


def short_opus() -> bytes:
    return pack(speech().samples[:16_000], 16_000, "OGG", "OPUS")


def with_skeleton() -> bytes:
    """Return Ogg with a Skeleton stream, which describes the other streams, at the start."""
    bones = b"fishead\0" + struct.pack("<HH", 3, 0) + bytes(52)
    return page(bones, serial=99, flags=2) + ogg()


def muxed() -> bytes:
    first, *rest = pages(ogg())
    return joined(first, page(b"\x80theora" + bytes(35), serial=99, flags=2), *rest)


def alac() -> bytes:
    return pack(speech().samples, 16_000, "CAF", "ALAC_16")


CASES: list[Hostile] = [
    case("ogg chained opus", lambda: opus() + opus(), "ok TRAILING_BYTES", name="a.opus"),
    case("ogg chained vorbis", lambda: ogg() + ogg(), "ok TRAILING_BYTES", name="a.ogg"),
    case("ogg chained different", lambda: ogg() + opus(), "ok TRAILING_BYTES", name="a.ogg"),
    case("ogg skeleton", with_skeleton, "AUDIO_CODEC_UNSUPPORTED", name="a.ogg"),
    case("ogg muxed", muxed, "ok", name="a.ogg"),
    case(
        "ogg no eos",
        lambda: joined(*pages(ogg())[:-1], with_field(pages(ogg())[-1], 5, b"\0")),
        "AUDIO_TRUNCATED",
        name="a.ogg",
    ),
    case(
        "ogg eos at the first page",
        lambda: joined(with_field(pages(ogg())[0], 5, b"\6"), *pages(ogg())[1:]),
        "ok",
        name="a.ogg",
    ),
    case("opus crc", lambda: crc_wrong(opus()), "AUDIO_CORRUPT", name="a.opus"),
    case("vorbis crc", lambda: crc_wrong(ogg()), "AUDIO_CORRUPT", name="a.ogg"),
    case("opus preskip", lambda: head_with("<H", 10, 65535), "ok", name="a.opus"),
    case(
        "opus preskip beyond the end",
        lambda: head_with("<H", 10, 65_535, of=short_opus()),
        "AUDIO_NO_SAMPLES",
        name="a.opus",
    ),
    case(
        "opus 255 channels",
        lambda: head_with("<B", 18, 255, of=head_with("<B", 9, 255)),
        "AUDIO_HEADER_INVALID",
        name="a.opus",
    ),
    case("opus 0 channels", lambda: head_with("<B", 9, 0), "AUDIO_HEADER_INVALID", name="a.opus"),
    case("opus 2 channels claim", lambda: head_with("<B", 9, 2), "ok", name="a.opus"),
    case("opus rate 655350", lambda: head_with("<I", 12, 655350), "ok", name="a.opus"),
    case("opus rate 1", lambda: head_with("<I", 12, 1), "ok LOW_BANDWIDTH", name="a.opus"),
    case("opus gain max", lambda: head_with("<h", 16, 32767), "AUDIO_RANGE", name="a.opus"),
    case(
        "ogg pages bomb",
        lambda: pages(ogg())[0] + page(b"x") * (2 << 20),
        "AUDIO_HEADER_INVALID",
        name="a.ogg",
    ),
    case(
        "ogg 255 lacing cut",
        lambda: ogg()[:26] + b"\xff" + ogg()[27:100],
        "AUDIO_CODEC_UNSUPPORTED",
        name="a.ogg",
    ),
    case(
        "ogg tags huge",
        lambda: (
            pages(ogg())[0]
            + page(b"\x03vorbis" + struct.pack("<I", 0xFFFFFFFF) + bytes(100), number=1)
            + joined(*pages(ogg())[2:])
        ),
        "AUDIO_HEADER_INVALID",
        name="a.ogg",
    ),
    case(
        "aiff good",
        lambda: aiff(
            float80(16000.0),
            frames=len(pcm()) // 2,
            sound=np.frombuffer(pcm(), "<i2").astype(">i2").tobytes(),
        ),
        "ok",
        name="a.aiff",
    ),
    case(
        "aiff frames lie",
        lambda: aiff(float80(16000.0), frames=2**31, sound=pcm()),
        "AUDIO_NO_SPEECH",
        name="a.aiff",
    ),
    case(
        "aiff rate inf",
        lambda: aiff(b"\x7f\xff" + bytes(8), sound=pcm()),
        "AUDIO_HEADER_INVALID",
        name="a.aiff",
    ),
    case(
        "aiff rate nan",
        lambda: aiff(b"\x7f\xff" + b"\xff" * 8, sound=pcm()),
        "AUDIO_HEADER_INVALID",
        name="a.aiff",
    ),
    case(
        "aiff rate negative",
        lambda: aiff(b"\xc0\x0c\xfa" + bytes(7), sound=pcm()),
        "AUDIO_HEADER_INVALID",
        name="a.aiff",
    ),
    case(
        "aiff channels -1",
        lambda: aiff(float80(16000.0), channels=-1, sound=pcm()),
        "AUDIO_HEADER_INVALID",
        name="a.aiff",
    ),
    case(
        "aiff bits 0",
        lambda: aiff(float80(16000.0), bits=0, sound=pcm()),
        "AUDIO_CODEC_UNSUPPORTED",
        name="a.aiff",
    ),
    case(
        "aiff ssnd offset",
        lambda: aiff(float80(16000.0), sound=pcm(), offset=2**31),
        "AUDIO_NO_SAMPLES",
        name="a.aiff",
    ),
    case(
        "aifc sowt",
        lambda: aiff(
            float80(16000.0), frames=len(pcm()) // 2, form=b"AIFC", codec=b"sowt", sound=pcm()
        ),
        "ok",
        name="a.aiff",
    ),
    case(
        "aifc MAC3",
        lambda: aiff(float80(16000.0), form=b"AIFC", codec=b"MAC3", sound=pcm()),
        "AUDIO_CODEC_UNSUPPORTED",
        name="a.aiff",
    ),
    case(
        "aifc ima4",
        lambda: aiff(float80(16000.0), form=b"AIFC", codec=b"ima4", sound=pcm()),
        "AUDIO_NO_SPEECH",
        name="a.aiff",
    ),
    case(
        "iff 8svx", lambda: b"FORM\0\0\0\x108SVX" + bytes(20), "AUDIO_UNRECOGNIZED", name="a.aiff"
    ),
    case(
        "au ok",
        lambda: au(3, 16000, 1, np.frombuffer(pcm(), "<i2").astype(">i2").tobytes()),
        "ok",
        name="a.au",
    ),
    case("au encoding 99", lambda: au(99, 16000, 1, pcm()), "AUDIO_HEADER_INVALID", name="a.au"),
    case(
        "au offset 0", lambda: au(3, 16000, 1, pcm(), offset=0), "AUDIO_HEADER_INVALID", name="a.au"
    ),
    case(
        "au offset huge",
        lambda: au(3, 16000, 1, pcm(), offset=2**31),
        "AUDIO_HEADER_INVALID",
        name="a.au",
    ),
    case("au rate 0", lambda: au(3, 0, 1, pcm()), "AUDIO_HEADER_INVALID", name="a.au"),
    case(
        "au channels 2^31", lambda: au(3, 16000, 2**31, pcm()), "AUDIO_HEADER_INVALID", name="a.au"
    ),
    case("au g721", lambda: au(23, 8000, 1, pcm()), "ok LOW_BANDWIDTH TRIMMED", name="a.au"),
    case("au cut", lambda: b".snd\0\0", "AUDIO_HEADER_INVALID", name="a.au"),
    case("caf ok le", lambda: caf(16000.0, pcm()), "ok", name="a.caf"),
    case("caf size -1", lambda: caf(16000.0, pcm(), size=-1), "ok", name="a.caf"),
    case(
        "caf size beyond", lambda: caf(16000.0, pcm(), size=2**40), "AUDIO_TRUNCATED", name="a.caf"
    ),
    case("caf rate nan", lambda: caf(float("nan"), pcm()), "AUDIO_HEADER_INVALID", name="a.caf"),
    case("caf rate 1e300", lambda: caf(1e300, pcm()), "AUDIO_HEADER_INVALID", name="a.caf"),
    case(
        "caf channels 0",
        lambda: caf(16000.0, pcm(), channels=0),
        "AUDIO_HEADER_INVALID",
        name="a.caf",
    ),
    case(
        "caf aac",
        lambda: caf(16000.0, pcm(), codec=b"aac "),
        "AUDIO_CODEC_UNSUPPORTED",
        name="a.caf",
    ),
    case(
        "caf chunks bomb",
        lambda: caf(16000.0, pcm(), more=(b"free" + bytes(8)) * (5 << 20)),
        "AUDIO_HEADER_INVALID",
        name="a.caf",
    ),
    case(
        "caf chunk negative",
        lambda: caf(16000.0, pcm(), more=b"free" + struct.pack(">q", -5)),
        "AUDIO_HEADER_INVALID",
        name="a.caf",
    ),
    case("caf alac", lambda: alac(), "ok", name="a.caf"),
    case("caf alac cut", lambda: alac()[:-40_000], "AUDIO_TRUNCATED", name="a.caf"),
    case("opus granule 0", lambda: last_granule(opus(), 0), "ok", name="a.ogg"),
    case("opus granule -1", lambda: last_granule(opus(), -1), "ok", name="a.ogg"),
    case("opus granule 2^62", lambda: last_granule(opus(), 2**62), "ok", name="a.ogg"),
    case("opus granule -2^63", lambda: last_granule(opus(), -(2**63)), "ok", name="a.ogg"),
    case(
        "opus granule 48000", lambda: last_granule(opus(), 48_000), "AUDIO_TOO_SHORT", name="a.ogg"
    ),
    case("vorbis granule 0", lambda: last_granule(ogg(), 0), "AUDIO_NO_SAMPLES", name="a.ogg"),
    case("vorbis granule -1", lambda: last_granule(ogg(), -1), "ok", name="a.ogg"),
    case("vorbis granule 2^62", lambda: last_granule(ogg(), 2**62), "ok", name="a.ogg"),
    case(
        "vorbis granule -2^63",
        lambda: last_granule(ogg(), -(2**63)),
        "AUDIO_HEADER_INVALID",
        name="a.ogg",
    ),
    case(
        "vorbis granule 16000", lambda: last_granule(ogg(), 16_000), "AUDIO_TOO_SHORT", name="a.ogg"
    ),
    case("vorbis granule 10^7", lambda: last_granule(ogg(), 10**7), "AUDIO_TOO_LONG", name="a.ogg"),
]
