"""The bad and good reference recordings of docs/bad-input.md, by their numbers there."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from tests.support.recordings.files import (
    data_size,
    eleven_minutes_of_opus,
    flac_announcing,
    id3,
    minutes_of_silence,
    noise,
    pack,
    patched,
    random_bytes,
    speech,
    speech_as,
)


@dataclass(frozen=True)
class Case:
    number: int
    what: str
    make: Callable[[], bytes]
    code: str = ""
    """Code of the expected refusal; empty if the recording is accepted."""
    notices: tuple[str, ...] = ()
    """Notices expected on acceptance."""
    name: str = "refs/alice.wav"

    @property
    def id(self) -> str:
        return f"{self.number:02d}-{self.what}"


@cache
def wav() -> bytes:
    return pack(speech().samples)


def shaped(change: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> Callable[[], bytes]:
    """Return a function that makes a float WAV of the changed speech."""
    return lambda: pack(change(speech().samples.copy()), subtype="FLOAT")


def mp3() -> bytes:
    return speech_as("MP3")


def long_speech() -> NDArray[np.float32]:
    """Return fourteen seconds: two speakers with pauses between."""
    gap = np.zeros(8_000, np.float32)
    one, two = speech().samples, speech("ref_1688.flac").samples
    return np.concatenate([gap, one, gap, two, gap, one, gap])


def hum() -> NDArray[np.float32]:
    t = np.arange(16_000 * 5) / 16_000
    partials = (np.sin(2 * np.pi * 50 * h * t + h) / h for h in range(1, 12))
    tones = sum(partials, np.zeros_like(t))
    return (0.1 * tones).astype(np.float32)


def melody() -> NDArray[np.float32]:
    """Return decaying chords of three notes of a scale."""
    rng = np.random.default_rng(0)
    scale = 220 * 2 ** (np.array([0, 2, 4, 5, 7, 9, 11, 12]) / 12)
    t = np.arange(4_000) / 16_000
    notes = []
    for _ in range(24):
        chord = rng.choice(scale, 3, replace=False)
        partials = (np.sin(2 * np.pi * f * h * t) / h for f in chord for h in range(1, 7))
        notes.append(sum(partials) * np.exp(-3 * t) * np.minimum(1, 100 * t))
    return (0.1 * np.concatenate(notes)).astype(np.float32)


def stereo(left: float, right: float) -> Callable[[], bytes]:
    return lambda: pack(np.stack([speech().samples * left, speech().samples * right], 1))


def surround(centre: float, others: float) -> bytes:
    channels = np.stack([noise(speech().seconds, seed=i) * others for i in range(6)], 1)
    channels[:, 2] = speech().samples * centre
    return pack(channels)


def not_audio(magic: bytes) -> Callable[[], bytes]:
    return lambda: magic + random_bytes(640)


def cut(make: Callable[[], bytes]) -> Callable[[], bytes]:
    return lambda: make()[: len(make()) // 2]


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return patched(data, middle, "B", data[middle] ^ 0xFF)


def spiked(value: float) -> Callable[[], bytes]:
    def change(samples: NDArray[np.float32]) -> NDArray[np.float32]:
        samples[20_000:20_010] = value
        return samples

    return shaped(change)


def understated_flac() -> bytes:
    """Return FLAC that announces five seconds and decodes to ten minutes."""
    return flac_announcing(pack(np.zeros(8_000 * 600, np.int16), 8_000, "FLAC"), 40_000)


def understated_mp3() -> bytes:
    data = pack(np.zeros(16_000 * 60, np.int16), 16_000, "MP3")
    return patched(
        data, data.index(b"Xing") + 8, "I", int.from_bytes(struct.pack(">I", 100), "little")
    )


M4A = b"\0\0\0\x20ftypM4A \0\0\0\0M4A mp42isom\0\0\0\0"
ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
TOO_LARGE = "AUDIO_TOO_LARGE"

CASES = [
    Case(1, "no bytes", lambda: b"", "AUDIO_EMPTY"),
    Case(2, "one byte", lambda: b"R", "AUDIO_UNRECOGNIZED"),
    Case(2, "random bytes", lambda: random_bytes(6_400), "AUDIO_UNRECOGNIZED"),
    Case(3, "html", not_audio(b"<!DOCTYPE html><html>"), "AUDIO_NOT_AUDIO"),
    Case(3, "json", lambda: b'\xef\xbb\xbf {"error": "expired"}', "AUDIO_NOT_AUDIO"),
    Case(3, "xml", not_audio(b'\n<?xml version="1.0"?><Error>'), "AUDIO_NOT_AUDIO"),
    Case(4, "png", not_audio(b"\x89PNG\r\n\x1a\n"), "AUDIO_NOT_AUDIO"),
    Case(4, "zip", not_audio(b"PK\x03\x04"), "AUDIO_NOT_AUDIO"),
    Case(4, "gzip", not_audio(b"\x1f\x8b\x08"), "AUDIO_NOT_AUDIO"),
    Case(4, "pdf", not_audio(b"%PDF-1.7"), "AUDIO_NOT_AUDIO"),
    Case(5, "mp3 named wav", mp3, notices=("EXTENSION_MISMATCH",)),
    Case(6, "wav header only", lambda: wav()[:44], "AUDIO_NO_SAMPLES"),
    Case(7, "wav header cut", lambda: wav()[:20], "AUDIO_HEADER_INVALID"),
    Case(8, "wav cut in half", cut(wav), "AUDIO_TRUNCATED"),
    Case(9, "riff size 0", lambda: patched(wav(), 4, "I", 0), notices=("RIFF_SIZE_FIXED",)),
    Case(
        9,
        "riff size FFFFFFFF",
        lambda: patched(wav(), 4, "I", 0xFFFFFFFF),
        notices=("RIFF_SIZE_FIXED",),
    ),
    Case(
        10, "data size FFFFFFFF", lambda: data_size(wav(), 0xFFFFFFFF), notices=("RIFF_SIZE_FIXED",)
    ),
    Case(10, "data size 2 GiB", lambda: data_size(wav(), 1 << 31), notices=("RIFF_SIZE_FIXED",)),
    Case(10, "data size too small", lambda: data_size(wav(), 128_000), notices=("TRAILING_BYTES",)),
    Case(11, "data size 0", lambda: data_size(wav(), 0), "AUDIO_NO_SAMPLES"),
    Case(12, "rate 0", lambda: patched(wav(), 24, "I", 0), "AUDIO_HEADER_INVALID"),
    Case(12, "rate 4e9", lambda: patched(wav(), 24, "I", 4_000_000_000), "AUDIO_HEADER_INVALID"),
    Case(13, "rate 1 Hz", lambda: patched(wav(), 24, "I", 1), "AUDIO_RATE_UNSUPPORTED"),
    Case(14, "channels 0", lambda: patched(wav(), 22, "H", 0), "AUDIO_CHANNELS_UNSUPPORTED"),
    Case(
        14, "channels 65535", lambda: patched(wav(), 22, "H", 65_535), "AUDIO_CHANNELS_UNSUPPORTED"
    ),
    Case(15, "bits 0", lambda: patched(wav(), 34, "H", 0), "AUDIO_CODEC_UNSUPPORTED"),
    Case(15, "unknown tag", lambda: patched(wav(), 20, "H", 0x1234), "AUDIO_CODEC_UNSUPPORTED"),
    Case(16, "telephone", lambda: speech_as("WAV", rate=8_000), notices=("LOW_BANDWIDTH",)),
    *(
        Case(17, f"{rate} Hz", partial(speech_as, "WAV", rate=rate))
        for rate in (16_000, 22_050, 24_000, 44_100, 48_000, 96_000, 192_000)
    ),
    Case(18, "equal channels", stereo(1, 1)),
    Case(18, "unequal channels", stereo(1, 0.3), notices=("DOWNMIXED",)),
    Case(18, "one dead channel", stereo(0, 1), notices=("DOWNMIXED",)),
    Case(18, "channels in anti-phase", stereo(1, -1), "AUDIO_PHASE_CANCEL"),
    Case(19, "5.1", lambda: surround(1, 0.1), notices=("DOWNMIXED",)),
    Case(20, "8 bit", lambda: speech_as("WAV", "PCM_U8")),
    Case(20, "24 bit", lambda: speech_as("WAV", "PCM_24")),
    Case(20, "32 bit", lambda: speech_as("WAV", "PCM_32")),
    Case(20, "float", lambda: speech_as("WAV", "FLOAT")),
    Case(20, "double", lambda: speech_as("WAV", "DOUBLE")),
    *(
        Case(
            21,
            codec,
            partial(speech_as, "WAV", codec, 8_000),
            notices=("LOW_BANDWIDTH", "LOSSY_TELEPHONY"),
        )
        for codec in ("ALAW", "ULAW", "GSM610")
    ),
    *(
        Case(21, codec, partial(speech_as, "WAV", codec), notices=("LOSSY_TELEPHONY",))
        for codec in ("IMA_ADPCM", "MS_ADPCM")
    ),
    Case(22, "not a number", spiked(float("nan")), "AUDIO_NONFINITE"),
    Case(23, "infinite", spiked(float("inf")), "AUDIO_NONFINITE"),
    Case(24, "amplitude 1e6", shaped(lambda x: x * 1e6), "AUDIO_RANGE"),
    Case(25, "constant offset", shaped(lambda x: x + 0.5), notices=("DC_OFFSET",)),
    Case(26, "clipped", shaped(lambda x: np.clip(x * 30, -0.9, 0.9)), "AUDIO_CLIPPED"),
    Case(
        26,
        "a little clipped",
        shaped(lambda x: np.clip(x, *np.quantile(x, [0.002, 0.999]))),
        notices=("CLIPPING",),
    ),
    Case(27, "silence", lambda: pack(np.zeros(80_000, np.float32)), "AUDIO_SILENT"),
    Case(27, "constant", lambda: pack(np.full(80_000, 0.4, np.float32)), "AUDIO_SILENT"),
    Case(28, "white noise", lambda: pack(noise(5)), "AUDIO_NO_SPEECH"),
    Case(28, "hum", lambda: pack(hum()), "AUDIO_NO_SPEECH"),
    Case(29, "music", lambda: pack(melody()), "AUDIO_NO_SPEECH"),
    Case(31, "one sample", lambda: pack(speech().samples[:1]), "AUDIO_TOO_SHORT"),
    Case(31, "two seconds", lambda: pack(speech().samples[:32_000]), "AUDIO_TOO_SHORT"),
    Case(32, "long speech", lambda: pack(long_speech()), notices=("TRIMMED",)),
    Case(33, "mp3", mp3, name="a.mp3"),
    Case(33, "mp3 cut", cut(mp3), "AUDIO_TRUNCATED", name="a.mp3"),
    Case(34, "mp3 of two frames", lambda: mp3()[:800], "AUDIO_TOO_SHORT", name="a.mp3"),
    Case(35, "flac cut", cut(lambda: speech_as("FLAC")), "AUDIO_CORRUPT", name="a.flac"),
    Case(35, "flac bit flip", lambda: flipped(speech_as("FLAC")), "AUDIO_CORRUPT", name="a.flac"),
    Case(36, "vorbis", lambda: speech_as("OGG"), name="a.ogg"),
    Case(36, "opus", lambda: speech_as("OGG", "OPUS"), name="a.opus"),
    Case(37, "vorbis cut", cut(lambda: speech_as("OGG")), "AUDIO_TRUNCATED", name="a.ogg"),
    Case(37, "opus cut", cut(lambda: speech_as("OGG", "OPUS")), "AUDIO_TRUNCATED", name="a.ogg"),
    Case(38, "m4a", not_audio(M4A), "AUDIO_CODEC_UNSUPPORTED", name="a.m4a"),
    Case(38, "adts", not_audio(b"\xff\xf1\x50\x80\x02\x1f\xfc"), "AUDIO_CODEC_UNSUPPORTED"),
    Case(38, "amr", not_audio(b"#!AMR\n"), "AUDIO_CODEC_UNSUPPORTED"),
    Case(38, "webm", not_audio(b"\x1a\x45\xdf\xa3"), "AUDIO_CODEC_UNSUPPORTED"),
    Case(38, "wma", not_audio(ASF), "AUDIO_CODEC_UNSUPPORTED"),
    Case(39, "two wavs", lambda: wav() + wav(), "AUDIO_HEADER_INVALID"),
    Case(40, "trailing bytes", lambda: wav() + random_bytes(4_992), notices=("TRAILING_BYTES",)),
    Case(41, "id3 before riff", lambda: id3(10) + wav(), notices=("TRAILING_BYTES",)),
    Case(42, "rf64", lambda: speech_as("RF64")),
    Case(42, "w64", lambda: speech_as("W64"), name="a.w64"),
    Case(42, "aiff", lambda: speech_as("AIFF"), name="a.aiff"),
    Case(42, "caf", lambda: speech_as("CAF"), name="a.caf"),
    Case(42, "au", lambda: speech_as("AU"), name="a.au"),
    Case(43, "flac bomb", lambda: minutes_of_silence(60, "FLAC"), "AUDIO_TOO_LONG"),
    Case(
        44,
        "flac at 655 kHz",
        lambda: pack(np.zeros(655_350, np.int16), 655_350, "FLAC"),
        "AUDIO_RATE_UNSUPPORTED",
    ),
    Case(45, "vorbis bomb", lambda: minutes_of_silence(11, "OGG", "VORBIS"), "AUDIO_TOO_LONG"),
    Case(45, "opus bomb", eleven_minutes_of_opus, "AUDIO_TOO_LONG"),
    Case(45, "mp3 bomb", lambda: minutes_of_silence(11, "MP3"), "AUDIO_TOO_LONG"),
    Case(46, "lying flac", understated_flac, "AUDIO_DECODE_LIMIT"),
    Case(46, "lying mp3", understated_mp3, "AUDIO_DECODE_LIMIT"),
    Case(
        46,
        "flac of unannounced length",
        lambda: flac_announcing(minutes_of_silence(60, "FLAC"), 0),
        "AUDIO_TOO_LONG",
    ),
    Case(47, "64 MiB and one byte", lambda: bytes((64 << 20) + 1), TOO_LARGE),
    Case(49, "cover art of 50 MB", lambda: id3(50 << 20) + mp3(), TOO_LARGE, name="a.mp3"),
]
