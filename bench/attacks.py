"""Attacks that leaked speech commonly undergoes: (samples, rate) -> samples, mono float32.

Codecs are real: PyAV encodes and decodes in memory. Every attack is deterministic.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from fractions import Fraction
from functools import partial

import av
import numpy as np
from numpy.typing import NDArray
from scipy import signal

Samples = NDArray[np.float32]
Attack = Callable[[Samples, int], Samples]

MUXERS = {
    "libmp3lame": "mp3",
    "aac": "mp4",
    "libopus": "ogg",
    "g722": "wav",
    "pcm_mulaw": "wav",
    "pcm_alaw": "wav",
    "libopencore_amrnb": "amr",
    "ac3": "ac3",
    "wmav2": "asf",
    "mp2": "mp2",
    "g726": "wav",
}
CODEC_RATES = {
    "libopus": 48_000,
    "g722": 16_000,
    "pcm_mulaw": 8_000,
    "pcm_alaw": 8_000,
    "libopencore_amrnb": 8_000,
    "ac3": 32_000,
    "wmav2": 32_000,
    "g726": 8_000,
}
"""Sample rate of a codec in Hz; other codecs use the rate of the clip."""


def resample(samples: Samples, old: int, new: int) -> Samples:
    if old == new:
        return np.asarray(samples, np.float32)
    ratio = Fraction(new, old)
    out = signal.resample_poly(samples.astype(np.float64), ratio.numerator, ratio.denominator)
    return np.asarray(out, np.float32)


def chain(*attacks: Attack) -> Attack:
    def run(samples: Samples, rate: int) -> Samples:
        for attack in attacks:
            samples = attack(samples, rate)
        return samples

    return run


def codec(name: str, kbps: float = 0, **options: str) -> Attack:
    def run(samples: Samples, rate: int) -> Samples:
        codec_rate = CODEC_RATES.get(name, rate)
        coded = io.BytesIO()
        with av.open(coded, "w", format=MUXERS[name]) as out:
            stream = out.add_stream(name, rate=codec_rate, options=options)
            stream.codec_context.layout = "mono"
            if kbps:
                stream.codec_context.bit_rate = int(kbps * 1000)
            audio = np.rint(np.clip(resample(samples, rate, codec_rate), -1, 1) * 32767)
            frame = av.AudioFrame.from_ndarray(audio.astype(np.int16)[None], "s16", "mono")
            frame.sample_rate, frame.pts = codec_rate, 0
            out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
        return _decode(coded, rate)

    return run


def _decode(coded: io.BytesIO, rate: int) -> Samples:
    coded.seek(0)
    with av.open(coded) as source:
        to_float = av.AudioResampler("flt", "mono", source.streams.audio[0].rate)
        frames = [*source.decode(audio=0), None]
        pieces = [out.to_ndarray()[0] for frame in frames for out in to_float.resample(frame)]
        return resample(np.concatenate(pieces), source.streams.audio[0].rate, rate)


def ffmpeg_filter(name: str, arguments: str) -> Attack:
    """Apply a filter of ffmpeg."""

    def run(samples: Samples, rate: int) -> Samples:
        graph = av.filter.Graph()
        source = graph.add_abuffer(
            sample_rate=rate, format="flt", layout="mono", time_base=Fraction(1, rate)
        )
        middle, sink = graph.add(name, arguments), graph.add("abuffersink")
        last = graph.add("aformat", f"sample_fmts=flt:sample_rates={rate}:channel_layouts=mono")
        for node, next_node in ((source, middle), (middle, last), (last, sink)):
            node.link_to(next_node)
        graph.configure()
        frame = av.AudioFrame.from_ndarray(np.asarray(samples, np.float32)[None], "flt", "mono")
        frame.sample_rate, frame.pts = rate, 0
        source.push(frame)
        source.push(None)
        out = []
        while True:
            try:
                out.append(sink.pull().to_ndarray()[0])
            except (av.error.EOFError, av.error.BlockingIOError):
                # `vibrato` sometimes reads uninitialised memory.
                return np.asarray(np.nan_to_num(np.concatenate(out)), np.float32)

    return run


def change_tempo(factor: float, samples: Samples, rate: int) -> Samples:
    """Change the tempo at the same pitch (ffmpeg's atempo, WSOLA)."""
    return ffmpeg_filter("atempo", str(factor))(samples, rate)


def change_speed(factor: float, samples: Samples, rate: int) -> Samples:
    """Change tempo and pitch by the same factor."""
    ratio = Fraction(factor).limit_denominator(1000)
    out = signal.resample_poly(samples.astype(np.float64), ratio.denominator, ratio.numerator)
    return np.asarray(out, np.float32)


def change_pitch(semitones: float) -> Attack:
    """Change the pitch at the same tempo."""
    ratio = 2 ** (semitones / 12)
    return chain(partial(change_tempo, 1 / ratio), partial(change_speed, ratio))


def seeded_rng(label: str, samples: Samples) -> np.random.Generator:
    """Return a generator seeded by the label and the length of the clip."""
    return np.random.default_rng([zlib.crc32(label.encode()), len(samples)])


def add_noise(decibels: float, samples: Samples, rate: int, *, pink: bool = False) -> Samples:
    """Add noise at a signal-to-noise ratio in dB."""
    wave = seeded_rng(f"noise{decibels}", samples).standard_normal(len(samples))
    if pink:
        spectrum = np.fft.rfft(wave)
        spectrum /= np.sqrt(np.maximum(np.fft.rfftfreq(len(wave), 1 / rate), 20))
        wave = np.fft.irfft(spectrum, len(wave))
    scale = np.sqrt(np.mean(samples**2) / np.mean(wave**2)) * 10 ** (-decibels / 20)
    return np.asarray(samples + scale * wave, np.float32)


def band_filter(kind: str, hertz: float | tuple[float, float], order: int = 6) -> Attack:
    def run(samples: Samples, rate: int) -> Samples:
        edges = np.minimum(hertz, 0.49 * rate)
        sections = signal.butter(order, edges, kind, fs=rate, output="sos")
        return np.asarray(signal.sosfilt(sections, samples), np.float32)

    return run


def resample_via(rate_between: int) -> Attack:
    return lambda samples, rate: resample(resample(samples, rate, rate_between), rate_between, rate)


def reverberate(seconds: float, samples: Samples, rate: int, *, wet: float = 0.5) -> Samples:
    """Add an exponentially decaying noise tail, `wet` times the level of the direct sound."""
    count = int(seconds * rate)
    tail = np.random.default_rng(5).standard_normal(count) * 10 ** (-3 * np.arange(count) / count)
    tail[: rate // 500] = 0
    tail *= wet / np.sqrt(np.sum(tail**2))
    tail[0] = 1
    return np.asarray(signal.fftconvolve(samples, tail)[: len(samples)], np.float32)


def add_echo(samples: Samples, rate: int) -> Samples:
    out = samples.copy()
    out[rate // 10 :] += 0.3 * samples[: -(rate // 10)]
    return out


def crop(seconds: float, at: float, samples: Samples, rate: int) -> Samples:
    start = int(max(len(samples) - seconds * rate, 0) * at)
    return samples[start : start + int(seconds * rate)]


def cut_pieces(share: float, samples: Samples, rate: int) -> Samples:
    """Delete a share of all pieces of 0.2 s and join the others."""
    pieces = np.array_split(samples, max(len(samples) // (rate // 5), 1))
    count = round(share * len(pieces))
    deleted = seeded_rng(f"cut{share}", samples).permutation(len(pieces))[:count]
    return np.concatenate([piece for at, piece in enumerate(pieces) if at not in deleted])


def mute_pieces(share: float, samples: Samples, rate: int) -> Samples:
    out = samples.copy()
    pieces = np.array_split(out, max(len(out) // (rate // 10), 1))
    count = round(share * len(pieces))
    for at in seeded_rng(f"mute{share}", out).permutation(len(pieces))[:count]:
        pieces[at][:] = 0
    return out


def reorder(parts: int, samples: Samples, rate: int) -> Samples:
    return np.concatenate(np.array_split(samples, parts)[::-1])


def quantise(bits: int, samples: Samples, rate: int) -> Samples:
    steps = 2 ** (bits - 1)
    stepped = np.rint(samples / np.abs(samples).max() * 0.9 * steps) / steps
    return np.asarray(stepped, np.float32)


def clip(share: float, samples: Samples, rate: int) -> Samples:
    limit = share * np.abs(samples).max()
    return np.asarray(np.clip(samples, -limit, limit), np.float32)


def compress(samples: Samples, rate: int) -> Samples:
    """Compress by a ratio of 4:1 above -25 dB."""
    smooth = np.exp(-100 / rate)
    power = signal.lfilter([1 - smooth], [1, -smooth], (samples / np.abs(samples).max()) ** 2)
    over = np.maximum(10 * np.log10(power + 1e-12) + 25, 0)
    return np.asarray(samples * 10 ** (-over * 0.75 / 20), np.float32)


def denoise(samples: Samples, rate: int) -> Samples:
    """Reduce noise by spectral subtraction."""
    _, _, bins = signal.stft(samples, rate, nperseg=512)
    level = np.abs(bins)
    floor = np.quantile(level, 0.15, axis=1, keepdims=True)
    bins *= np.maximum(1 - floor / (level + 1e-12), 0.08)
    return np.asarray(signal.istft(bins, rate, nperseg=512)[1][: len(samples)], np.float32)


def tilt_spectrum(samples: Samples, rate: int) -> Samples:
    spectrum = np.fft.rfft(samples)
    octaves = np.log2(np.maximum(np.fft.rfftfreq(len(samples), 1 / rate), 60) / 1000)
    return np.fft.irfft(spectrum * 10 ** (3 * octaves / 20), len(samples)).astype(np.float32)


MP3_64, OPUS_16 = codec("libmp3lame", 64), codec("libopus", 16)
PHONE = chain(band_filter("bandpass", (300, 3400), 4), resample_via(8_000))
RERECORD = chain(
    band_filter("bandpass", (150, 7000), 2),
    partial(reverberate, 0.25),
    partial(add_noise, 25, pink=True),
    partial(change_speed, 1.001),
)

ATTACKS: dict[str, Attack] = {
    "none": lambda samples, rate: samples,
    **{f"mp3 {k}k": codec("libmp3lame", k) for k in (96, 64, 48, 32, 24)},
    **{f"aac {k}k": codec("aac", k) for k in (64, 32, 24)},
    **{f"opus {k}k": codec("libopus", k) for k in (32, 24, 16, 12)},
    "opus 20k voip": codec("libopus", 20, application="voip"),
    "amr-nb 12.2k": codec("libopencore_amrnb", 12.2),
    "g.722": codec("g722"),
    "a-law": codec("pcm_alaw"),
    "mu-law": codec("pcm_mulaw"),
    "ac3 64k": codec("ac3", 64),
    "wma 48k": codec("wmav2", 48),
    "via 8 kHz": resample_via(8_000),
    "via 11.025 kHz": resample_via(11_025),
    "via 44.1 kHz": resample_via(44_100),
    **{f"white noise {d} dB": partial(add_noise, d) for d in (30, 20, 15, 10)},
    "pink noise 15 dB": partial(add_noise, 15, pink=True),
    "telephone": PHONE,
    "low-pass 2.8 kHz": band_filter("lowpass", 2800),
    "high-pass 1 kHz": band_filter("highpass", 1000),
    "equaliser tilt": tilt_spectrum,
    "gain -15 dB": lambda samples, rate: samples * np.float32(0.18),
    "polarity": lambda samples, rate: -samples,
    "clipped": partial(clip, 0.3),
    "8 bit": partial(quantise, 8),
    "compressor": compress,
    "denoiser": denoise,
    "echo": add_echo,
    "room 0.3 s": partial(reverberate, 0.3),
    "room 0.6 s": partial(reverberate, 0.6),
    "re-recorded": RERECORD,
    **{f"speed {f}": partial(change_speed, f) for f in (0.9, 0.97, 1.03, 1.1)},
    **{f"tempo {f}": partial(change_tempo, f) for f in (0.9, 0.96, 1.04, 1.1)},
    **{f"pitch {s:+} st": change_pitch(s) for s in (-1.5, -0.5, 1)},
    "crop 3 s": partial(crop, 3, 0.6),
    "crop 2 s": partial(crop, 2, 0.3),
    "cut 10 %": partial(cut_pieces, 0.1),
    "cut 20 %": partial(cut_pieces, 0.2),
    "mute 25 %": partial(mute_pieces, 0.25),
    "reorder 3": partial(reorder, 3),
    "reorder 5": partial(reorder, 5),
    "mp3 64k, 4 s, speed 1.03": chain(MP3_64, partial(crop, 4, 0.5), partial(change_speed, 1.03)),
    "opus 16k, 3 s": chain(OPUS_16, partial(crop, 3, 0.4)),
    "phone, opus 12k": chain(PHONE, codec("libopus", 12)),
    "8 kHz, opus 12k, noise 25 dB": chain(
        resample_via(8_000), codec("libopus", 12), partial(add_noise, 25)
    ),
    "noise 20 dB, aac 32k, 5 s": chain(
        partial(add_noise, 20), codec("aac", 32), partial(crop, 5, 0.5)
    ),
}
