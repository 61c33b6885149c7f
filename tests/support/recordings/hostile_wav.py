"""Unusual WAV, RF64 and W64 files, files within files, and recordings with hardly any speech."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np

from tests.support.recordings.cases import wav
from tests.support.recordings.containers import FLOAT, chunk, extensible, fmt, int16, riff
from tests.support.recordings.files import (
    id3,
    noise,
    pack,
    patched,
    random_bytes,
    speech,
    speech_as,
)
from tests.support.recordings.hostile import Hostile, case, data, mp3, ogg, pcm


def fact_of(file: bytes, frames: int) -> bytes:
    """Set the number of frames in the chunk `fact`."""
    return patched(file, file.index(b"fact") + 8, "I", frames) if b"fact" in file else file


def w64_chunk(name: bytes, size: int) -> bytes:
    file = speech_as("W64")
    return patched(file, file.index(name) + 16, "Q", size)


def cut_adpcm() -> bytes:
    """Return MS ADPCM without the coefficients of its format chunk."""
    file = speech_as("WAV", "MS_ADPCM")
    return riff(chunk(b"fmt ", file[20:36]), chunk(b"data", file[file.index(b"data") + 8 :]))


def stereo(right: float) -> bytes:
    """Return a stereo recording whose right channel is the left one times `right`."""
    both = int16(np.stack([speech().samples, speech().samples * right], 1).ravel())
    return riff(fmt(channels=2), chunk(b"data", both))


def click() -> bytes:
    samples = np.zeros(80_000, np.float32)
    samples[40_000] = 0.9
    return pack(samples)


def one_nan() -> bytes:
    samples = speech().samples.copy()
    samples[777] = np.nan
    return pack(samples, subtype="FLOAT")


def noisy() -> bytes:
    """Return speech at a signal-to-noise ratio of 0 dB."""
    clean = speech().samples
    hiss = np.random.default_rng(0).standard_normal(len(clean)).astype(np.float32)
    return pack((clean + hiss * np.sqrt((clean**2).mean() / (hiss**2).mean())) * 0.5)


def quiet(peak_db: float, subtype: str = "PCM_16") -> Callable[[], bytes]:
    gain = 10 ** (peak_db / 20) / np.abs(speech().samples).max()
    return lambda: pack(speech().samples * np.float32(gain), subtype=subtype)


CASES: list[Hostile] = [
    case("extensible pcm", lambda: riff(extensible(), data()), "ok"),
    case(
        "extensible weird guid",
        lambda: riff(extensible(tail=bytes(14)), data()),
        "AUDIO_CODEC_UNSUPPORTED",
    ),
    case(
        "extensible unknown guid",
        lambda: riff(extensible(0x1234), data()),
        "AUDIO_CODEC_UNSUPPORTED",
    ),
    case("extensible cut fmt", lambda: riff(fmt(0xFFFE), data()), "AUDIO_HEADER_INVALID"),
    case(
        "extensible 20 of 24 bits",
        lambda: riff(
            extensible(bits=24, valid=20),
            chunk(b"data", b"".join(b"\0" + pcm()[i : i + 2] for i in range(0, len(pcm()), 2))),
        ),
        "ok",
    ),
    case(
        "odd chunk without padding",
        lambda: riff(fmt(), b"LIST" + struct.pack("<I", 5) + b"INFOx", data()),
        "ok",
    ),
    case("odd chunk with padding", lambda: riff(fmt(), chunk(b"LIST", b"INFOx"), data()), "ok"),
    case(
        "LIST before fmt", lambda: riff(chunk(b"LIST", b"INFO" + bytes(100)), fmt(), data()), "ok"
    ),
    case(
        "bext junk cue",
        lambda: riff(
            chunk(b"JUNK", bytes(28)),
            chunk(b"bext", bytes(602)),
            fmt(),
            chunk(b"cue ", bytes(28)),
            data(),
            chunk(b"LIST", bytes(10)),
        ),
        "ok",
    ),
    case(
        "junk of 2 GB",
        lambda: riff(chunk(b"JUNK", b"", 2 << 30), fmt(), data()),
        "AUDIO_HEADER_INVALID",
    ),
    case(
        "junk of 4 GB",
        lambda: riff(fmt(), chunk(b"JUNK", b"", 0xFFFFFFFF), data()),
        "AUDIO_HEADER_INVALID",
    ),
    case(
        "fact lies small", lambda: riff(fmt(), chunk(b"fact", struct.pack("<I", 3)), data()), "ok"
    ),
    case(
        "fact lies large",
        lambda: riff(
            fmt(FLOAT, bits=32),
            chunk(b"fact", struct.pack("<I", 2**31)),
            chunk(b"data", speech().samples.tobytes()),
        ),
        "ok",
    ),
    case(
        "gsm fact lies",
        lambda: fact_of(speech_as("WAV", "GSM610", 8000), 2**31),
        "ok LOW_BANDWIDTH LOSSY_TELEPHONY",
    ),
    case("ima fact lies", lambda: fact_of(speech_as("WAV", "IMA_ADPCM"), 7), "ok LOSSY_TELEPHONY"),
    case(
        "ima fact lies large",
        lambda: fact_of(speech_as("WAV", "IMA_ADPCM"), 2**32 - 1),
        "ok LOSSY_TELEPHONY",
    ),
    case(
        "ima block 1",
        lambda: patched(speech_as("WAV", "IMA_ADPCM"), 32, "H", 1),
        "AUDIO_HEADER_INVALID",
    ),
    case(
        "ima block 65535",
        lambda: patched(speech_as("WAV", "IMA_ADPCM"), 32, "H", 65535),
        "AUDIO_HEADER_INVALID",
    ),
    case(
        "ima samples per block 65535",
        lambda: patched(speech_as("WAV", "IMA_ADPCM"), 38, "H", 65535),
        "AUDIO_HEADER_INVALID",
    ),
    case(
        "ima channels 8",
        lambda: patched(speech_as("WAV", "IMA_ADPCM"), 22, "H", 8),
        "AUDIO_HEADER_INVALID",
    ),
    case(
        "ms adpcm coefs 65535",
        lambda: patched(speech_as("WAV", "MS_ADPCM"), 40, "H", 65535),
        "ok LOSSY_TELEPHONY",
    ),
    case("ms adpcm fmt cut", cut_adpcm, "AUDIO_HEADER_INVALID"),
    case(
        "gsm block 64",
        lambda: patched(speech_as("WAV", "GSM610", 8000), 32, "H", 64),
        "AUDIO_HEADER_INVALID",
    ),
    case(
        "gsm stereo",
        lambda: patched(speech_as("WAV", "GSM610", 8000), 22, "H", 2),
        "AUDIO_HEADER_INVALID",
    ),
    case(
        "data 0 then junk",
        lambda: riff(fmt(), chunk(b"data", b""), chunk(b"JUNK", pcm())),
        "AUDIO_NO_SAMPLES",
    ),
    case("rifx", lambda: speech_as("WAV").replace(b"RIFF", b"RIFX", 1), "AUDIO_CODEC_UNSUPPORTED"),
    case(
        "rf64 ds64 beyond", lambda: patched(speech_as("RF64"), 28, "Q", 1 << 40), "AUDIO_TRUNCATED"
    ),
    case("rf64 ds64 zero", lambda: patched(speech_as("RF64"), 28, "Q", 0), "AUDIO_NO_SAMPLES"),
    case(
        "rf64 ds64 short",
        lambda: riff(
            chunk(b"ds64", struct.pack("<QQQI", 0, 100_000, 0, 0)),
            fmt(),
            chunk(b"data", pcm(), 0xFFFFFFFF),
            name=b"RF64",
        ),
        "ok",
    ),
    case(
        "rf64 without ds64",
        lambda: riff(fmt(), chunk(b"data", pcm(), 0xFFFFFFFF), name=b"RF64", size=0xFFFFFFFF),
        "ok",
    ),
    case(
        "w64 riff size lies",
        lambda: patched(speech_as("W64"), 16, "Q", 1 << 60),
        "AUDIO_TRUNCATED",
        name="a.w64",
    ),
    case(
        "w64 data size lies", lambda: w64_chunk(b"data", 1 << 50), "AUDIO_TRUNCATED", name="a.w64"
    ),
    case("w64 fmt size lies", lambda: w64_chunk(b"fmt ", 3), "AUDIO_HEADER_INVALID", name="a.w64"),
    case("12 bit", lambda: riff(fmt(bits=12, block=2), data()), "AUDIO_CODEC_UNSUPPORTED"),
    case("0 bit float", lambda: riff(fmt(FLOAT, bits=0), data()), "AUDIO_CODEC_UNSUPPORTED"),
    case("16 bit float", lambda: riff(fmt(FLOAT, bits=16), data()), "AUDIO_CODEC_UNSUPPORTED"),
    case(
        "3 channels mask",
        lambda: riff(
            extensible(channels=3, mask=7),
            chunk(
                b"data",
                int16(
                    np.stack(
                        [speech().samples * 0.2, speech().samples * 0.2, speech().samples], 1
                    ).ravel()
                ),
            ),
        ),
        "ok DOWNMIXED",
    ),
    case("block align mismatch", lambda: riff(fmt(block=7), data()), "ok"),
    case(
        "channels 2 block of mono",
        lambda: riff(fmt(channels=2, block=2), data()),
        "AUDIO_TOO_SHORT",
    ),
    case(
        "wav of mp3",
        lambda: riff(fmt(0x55, bits=0, block=1), chunk(b"data", mp3())),
        "AUDIO_CODEC_UNSUPPORTED",
    ),
    case("wav of aac", lambda: riff(fmt(0xFF, bits=0, block=1), data()), "AUDIO_CODEC_UNSUPPORTED"),
    case("two fmt", lambda: riff(fmt(rate=8000), fmt(), data()), "ok"),
    case("data before fmt", lambda: riff(data(), fmt()), "AUDIO_HEADER_INVALID"),
    case("two data", lambda: riff(fmt(), data(), data()), "ok"),
    case("wavl", lambda: riff(fmt(), chunk(b"LIST", b"wavl" + data())), "AUDIO_HEADER_INVALID"),
    case("odd data bytes", lambda: riff(fmt(), chunk(b"data", pcm()[:-1])), "ok"),
    case(
        "chunk bomb",
        lambda: riff(fmt(), (b"JUNK" + bytes(4)) * (7 << 20), data()),
        "AUDIO_HEADER_INVALID",
    ),
    case("riff avi", lambda: b"RIFF\0\0\0\0AVI LIST" + bytes(100), "AUDIO_UNRECOGNIZED"),
    case("riff 8 bytes", lambda: b"RIFF\0\0\0\0", "AUDIO_UNRECOGNIZED"),
    case(
        "float denormals",
        lambda: pack(np.full(80000, 1e-42, np.float32), subtype="FLOAT"),
        "AUDIO_SILENT",
    ),
    case("wav + mp3", lambda: wav() + mp3(), "ok TRAILING_BYTES"),
    case("wav + zip", lambda: wav() + b"PK\x03\x04" + random_bytes(640), "ok TRAILING_BYTES"),
    case("ogg + wav", lambda: ogg() + wav(), "ok TRAILING_BYTES", name="a.ogg"),
    case(
        "html in id3",
        lambda: id3(40)[:10] + b"<html><script>alert(1)</script>".ljust(40) + mp3(),
        "ok",
        name="a.mp3",
    ),
    case(
        "pdf polyglot", lambda: riff(chunk(b"JUNK", b"%PDF-1.4 " + bytes(500)), fmt(), data()), "ok"
    ),
    case("bom in front", lambda: b"\xef\xbb\xbf" + wav(), "AUDIO_UNRECOGNIZED"),
    case("zip m4a name", lambda: b"PK\x05\x06" + bytes(18), "AUDIO_UNRECOGNIZED", name="a.m4a"),
    case("one click", click, "AUDIO_NO_SPEECH"),
    case("reversed polarity", lambda: stereo(-1), "AUDIO_PHASE_CANCEL"),
    case("dead right", lambda: stereo(0), "ok DOWNMIXED"),
    case(
        "7 s mu-law",
        lambda: pack(
            np.tile(speech("ref_1688.flac").samples, 3)[:112000][::2], 8000, "WAV", "ULAW"
        ),
        "ok LOW_BANDWIDTH LOSSY_TELEPHONY",
    ),
    case("quiet -50", quiet(-50), "ok LOW_LEVEL"),
    case("quiet -60 of 16 bits", quiet(-60), "AUDIO_SILENT"),
    case("quiet -60 float", quiet(-60, "FLOAT"), "ok LOW_LEVEL"),
    case("quiet -80 24", quiet(-80, "PCM_24"), "AUDIO_SILENT"),
    case("one sample is not a number", one_nan, "AUDIO_NONFINITE"),
    case("snr 0", noisy, "AUDIO_TOO_SHORT"),
    case(
        "dc only float",
        lambda: pack(np.full(80000, 0.2, np.float32), subtype="FLOAT"),
        "AUDIO_SILENT",
    ),
    case(
        "dc step", lambda: pack(np.repeat(np.array([0, 0.5], np.float32), 40000)), "AUDIO_NO_SPEECH"
    ),
    case(
        "square 1 Hz",
        lambda: pack(np.tile(np.repeat(np.array([0.5, -0.5], np.float32), 8000), 5)),
        "AUDIO_NO_SPEECH",
    ),
    case(
        "sweep",
        lambda: pack(
            (0.5 * np.sin(2 * np.pi * np.cumsum(np.linspace(20, 7000, 80000)) / 16000)).astype(
                np.float32
            )
        ),
        "AUDIO_NO_SPEECH",
    ),
    case(
        "am noise",
        lambda: pack(
            noise(6)
            * (1 + np.sin(2 * np.pi * 4 * np.arange(96000) / 16000)).astype(np.float32)
            / np.float32(2)
        ),
        "AUDIO_NO_SPEECH",
    ),
    case("9 channels", lambda: riff(fmt(channels=9), data()), "AUDIO_CHANNELS_UNSUPPORTED"),
]
