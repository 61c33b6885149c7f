"""Attacks harsher than the mark was designed for: old telephone codecs, chains, mixtures.

bench/attacks.py has the common ones; `python -m bench.watermark robust --suite harsh` runs these.
"""

from __future__ import annotations

import io
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import librosa
import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy import signal

from bench.attacks import (
    MP3_64,
    OPUS_16,
    PHONE,
    Attack,
    Samples,
    add_noise,
    band_filter,
    chain,
    change_pitch,
    change_speed,
    change_tempo,
    clip,
    codec,
    crop,
    cut_pieces,
    ffmpeg_filter,
    mute_pieces,
    quantise,
    reorder,
    resample,
    resample_via,
    reverberate,
    seeded_rng,
)

VOICES = sorted((Path(__file__).parents[1] / "tests" / "data" / "speech").glob("*.6s.flac"))


def libsndfile_codec(
    container: str, subtype: str, hertz: int = 0, level: float | None = None
) -> Attack:
    """Encode and decode with a codec of libsndfile."""

    def run(samples: Samples, rate: int) -> Samples:
        codec_rate, file = hertz or rate, io.BytesIO()
        sound = np.clip(resample(samples, rate, codec_rate), -1, 1)
        soundfile.write(
            file, sound, codec_rate, format=container, subtype=subtype, compression_level=level
        )
        file.seek(0)
        return resample(soundfile.read(file, dtype="float32")[0], codec_rate, rate)

    return run


def packet_codec(encoder: str, decoder: str, kbps: float = 0) -> Attack:
    """Encode and decode with a telephone codec of ffmpeg at 8 kHz, without a container."""

    def run(samples: Samples, rate: int) -> Samples:
        sender = av.CodecContext.create(encoder, "w")
        receiver = av.CodecContext.create(decoder, "r")
        for side in (sender, receiver):
            side.sample_rate, side.layout = 8_000, "mono"
            if kbps:
                side.bit_rate = int(kbps * 1000)
        sender.format, sender.time_base = sender.codec.audio_formats[0], Fraction(1, 8_000)
        sender.open()
        if sender.extradata:
            receiver.extradata = sender.extradata
        size = sender.frame_size or 320
        sound = np.rint(np.clip(resample(samples, rate, 8_000), -1, 1) * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(sound[None], "s16", "mono")
        frame.sample_rate, frame.pts = 8_000, 0
        splitter = av.AudioResampler(sender.format.name, "mono", 8_000, frame_size=size)
        to_float = av.AudioResampler("flt", "mono", 8_000)
        frames = [part for part in splitter.resample(frame) if part.samples == size]
        packets = [packet for part in [*frames, None] for packet in sender.encode(part)]
        decoded = [part for packet in packets for part in receiver.decode(packet)]
        pieces = [out.to_ndarray()[0] for part in decoded for out in to_float.resample(part)]
        return resample(np.concatenate(pieces), 8_000, rate)

    return run


def _mix(samples: Samples, other: Samples | NDArray[np.float64], decibels: float) -> Samples:
    scale = np.sqrt(np.mean(samples**2) / np.mean(other**2)) * 10 ** (-decibels / 20)
    return np.asarray(samples + scale * np.resize(other, len(samples)), np.float32)


def add_talkers(count: int, decibels: float, samples: Samples, rate: int) -> Samples:
    """Add other people talking, at a signal-to-noise ratio in dB."""
    total = np.zeros(6 * rate, np.float32)
    for number, path in enumerate((VOICES * count)[:count]):
        sound, recorded_at = soundfile.read(path, dtype="float32")
        voice = resample(sound, recorded_at, rate)[: len(total)]
        total += np.roll(voice / np.sqrt(np.mean(voice**2)), number * rate)
    return _mix(samples, total, decibels)


def add_music(decibels: float, samples: Samples, rate: int) -> Samples:
    """Add plucked chords and a drum, four beats per second."""
    random, at = seeded_rng(f"music{decibels}", samples), np.arange(rate) / rate
    total = np.zeros(len(samples) + rate)
    for beat in range(0, len(samples), rate // 4):
        for step in random.choice([0, 3, 5, 7, 10, 12, 15, 17, 19, 22], 3, replace=False):
            tones = 2 * np.pi * 110 * 2 ** (step / 12) * at
            pluck = np.minimum(at * 200, 1) * np.exp(-at / 0.4)
            total[beat : beat + rate] += pluck * sum(np.sin(n * tones) / n for n in range(1, 9))
        total[beat : beat + rate] += 1.5 * random.standard_normal(rate) * np.exp(-at / 0.03)
    return _mix(samples, total[: len(samples)], decibels)


def add_wow(depth: float, hertz: float, samples: Samples, rate: int) -> Samples:
    """Add wow or flutter: modulate the speed by +- `depth`."""
    time = np.arange(int(1.1 * len(samples))) / rate
    place = np.cumsum(1 + depth * np.sin(2 * np.pi * hertz * time))
    fine = signal.resample_poly(samples.astype(np.float64), 4, 1)
    place = 4 * place[place < len(samples) - 2]
    return np.asarray(np.interp(place, np.arange(len(fine)), fine), np.float32)


def drift_speed(first: float, last: float, samples: Samples, rate: int) -> Samples:
    """Change the speed linearly from `first` to `last`."""
    place = np.cumsum(np.linspace(first, last, int(len(samples) * 2 / (first + last)) - 2))
    place = place[place < len(samples) - 1]
    return np.interp(place, np.arange(len(samples)), samples).astype(np.float32)


def lose_packets(share: float, samples: Samples, rate: int, *, concealed: bool = False) -> Samples:
    """Replace packets of 20 ms by silence or, if concealed, by the previous packet."""
    out, size = samples.copy(), rate // 50
    random = seeded_rng(f"lost{share}", samples)
    for at in np.sort(random.permutation(len(out) // size)[: int(share * len(out) // size)]):
        if not concealed or at == 0:
            out[at * size : (at + 1) * size] = 0
        else:
            out[at * size : (at + 1) * size] = 0.7 * out[(at - 1) * size : at * size]
    return out


def vocoder_stretch(factor: float, samples: Samples, rate: int) -> Samples:
    """Change the tempo with librosa's phase vocoder (windows of 2048 samples)."""
    return librosa.effects.time_stretch(samples, rate=factor)


def vocoder_shift(semitones: float, samples: Samples, rate: int) -> Samples:
    """Change the pitch with librosa's phase vocoder."""
    return librosa.effects.pitch_shift(samples, sr=rate, n_steps=semitones)


def change_both(tempo_factor: float, semitones: float) -> Attack:
    """Change tempo and pitch independently (ffmpeg's atempo and resampling)."""
    return chain(partial(change_tempo, tempo_factor), change_pitch(semitones))


def random_equaliser(decibels: float, samples: Samples, rate: int) -> Samples:
    """Apply an equaliser with random gains per half octave."""
    spectrum = np.fft.rfft(samples)
    octaves = np.log2(np.maximum(np.fft.rfftfreq(len(samples), 1 / rate), 50) / 100)
    gains = np.random.default_rng(2).uniform(-decibels, decibels, 15)
    shape = np.interp(octaves, np.arange(15) / 2, gains)
    return np.fft.irfft(spectrum * 10 ** (shape / 20), len(samples)).astype(np.float32)


def remove_pauses(samples: Samples, rate: int) -> Samples:
    pieces = np.array_split(samples, len(samples) // (rate // 20))
    level = [float(np.sqrt(np.mean(piece**2))) for piece in pieces]
    least = 0.1 * np.quantile(level, 0.9)
    return np.concatenate([p for p, rms in zip(pieces, level, strict=True) if rms > least])


def insert_pauses(samples: Samples, rate: int) -> Samples:
    random = seeded_rng("pauses", samples)
    pieces = np.split(samples, np.sort(random.integers(rate, len(samples) - rate, 4)))
    silent = (np.zeros(int(rate * length), np.float32) for length in random.uniform(0.1, 0.5, 5))
    return np.concatenate([part for pair in zip(pieces, silent, strict=True) for part in pair])


def wiener_filter(samples: Samples, rate: int) -> Samples:
    return np.asarray(np.nan_to_num(signal.wiener(samples.astype(np.float64), 9)), np.float32)


def invert_second_half(samples: Samples, rate: int) -> Samples:
    return np.concatenate([samples[: len(samples) // 2], -samples[len(samples) // 2 :]])


def drop_samples(every: float, samples: Samples, rate: int) -> Samples:
    """Drop one sample every `every` milliseconds."""
    return np.delete(samples, np.arange(1, len(samples), int(rate * every / 1000)))


AAC_32, MP3_32, MP3_48 = codec("aac", 32), codec("libmp3lame", 32), codec("libmp3lame", 48)
OPUS_24, AMR_12 = codec("libopus", 24), codec("libopencore_amrnb", 12.2)
GSM = libsndfile_codec("WAV", "GSM610", 8_000)

HARSH: dict[str, Attack] = {
    **{f"aac {k}k": codec("aac", k) for k in (48, 20)},
    **{f"mp3 {k}k": codec("libmp3lame", k) for k in (40, 16)},
    **{f"opus {k}k": codec("libopus", k) for k in (20, 14, 10)},
    "opus 12k, frames of 60 ms": codec("libopus", 12, frame_duration="60"),
    "opus 24k, 10 % lost": chain(OPUS_24, partial(lose_packets, 0.1)),
    "vorbis, worst": libsndfile_codec("OGG", "VORBIS", level=1.0),
    "wma 24k": codec("wmav2", 24),
    "mp2 48k": codec("mp2", 48),
    "g.726 24k": codec("g726", 24),
    "ima adpcm at 8 kHz": libsndfile_codec("WAV", "IMA_ADPCM", 8_000),
    "nms adpcm 16k": libsndfile_codec("WAV", "NMS_ADPCM_16", 8_000),
    "nellymoser": packet_codec("nellymoser", "nellymoser"),
    **{f"amr-nb {k}k": codec("libopencore_amrnb", k) for k in (10.2, 7.95, 6.7, 5.9, 4.75)},
    "gsm 6.10": GSM,
    "g.723.1": packet_codec("g723_1", "g723_1", 6.3),
    "realaudio 14.4": packet_codec("real_144", "ra_144", 8),
    "opus 16k twice": chain(OPUS_16, OPUS_16),
    "opus 24k, mp3 32k": chain(OPUS_24, MP3_32),
    "aac 32k, mp3 48k, opus 32k": chain(AAC_32, MP3_48, codec("libopus", 32)),
    "mp3 32k, 22 kHz, noise 25 dB": chain(MP3_32, resample_via(22_050), partial(add_noise, 25)),
    "gsm, opus 16k": chain(GSM, OPUS_16),
    "amr-nb 12.2k, mp3 32k": chain(AMR_12, MP3_32),
    "phone, gsm": chain(PHONE, GSM),
    "phone, amr-nb 12.2k, 4 s": chain(PHONE, AMR_12, partial(crop, 4, 0.3)),
    "8 kHz, opus 16k": chain(resample_via(8_000), OPUS_16),
    "noise 15 dB, mp3 64k": chain(partial(add_noise, 15), MP3_64),
    "room, mp3 48k": chain(partial(reverberate, 0.5, wet=0.7), MP3_48),
    "4 s, opus 24k": chain(partial(crop, 4, 0.5), OPUS_24),
    "speed 1.05, mp3 48k": chain(partial(change_speed, 1.05), MP3_48),
    "speed 0.95, aac 32k": chain(partial(change_speed, 0.95), AAC_32),
    "speed 1.04, opus 16k": chain(partial(change_speed, 1.04), OPUS_16),
    "speed 1.02, noise 20 dB": chain(partial(change_speed, 1.02), partial(add_noise, 20)),
    "speed 1.03, 4 s, mp3 32k": chain(partial(change_speed, 1.03), partial(crop, 4, 0.5), MP3_32),
    "tempo 1.07, opus 24k": chain(partial(change_tempo, 1.07), OPUS_24),
    "pitch +0.7 st, opus 24k": chain(change_pitch(0.7), OPUS_24),
    "pitch -0.8 st, mp3 48k": chain(change_pitch(-0.8), MP3_48),
    **{
        f"tempo {t}, pitch {p:+} st": change_both(t, p)
        for t, p in ((1.1, 0.5), (0.92, 1), (1.05, -1), (0.95, -0.5), (1.08, 1.5))
    },
    "speed 1.07, tempo 0.97": chain(partial(change_speed, 1.07), partial(change_tempo, 0.97)),
    "tempo 0.94, pitch +0.7 st, mp3 48k": chain(change_both(0.94, 0.7), MP3_48),
    "tempo 1.06, pitch -0.6 st, opus 24k": chain(change_both(1.06, -0.6), OPUS_24),
    "tempo 1.05, pitch +0.5 st, noise 25 dB": chain(change_both(1.05, 0.5), partial(add_noise, 25)),
    "tempo 1.04, pitch -1 st, 5 s": chain(change_both(1.04, -1), partial(crop, 5, 0.5)),
    **{f"vocoder, tempo {f}": partial(vocoder_stretch, f) for f in (0.9, 0.95, 1.05, 1.1)},
    **{f"vocoder, pitch {s:+} st": partial(vocoder_shift, s) for s in (-1, -0.5, 0.5, 1)},
    "vocoder, tempo 1.04, mp3 64k": chain(partial(vocoder_stretch, 1.04), MP3_64),
    "denoised (afftdn)": ffmpeg_filter("afftdn", "nr=20:nf=-40"),
    "denoised (anlmdn)": ffmpeg_filter("anlmdn", "s=0.001"),
    "wiener filter": wiener_filter,
    "500 to 3000 Hz": band_filter("bandpass", (500, 3000), 4),
    "low-pass 1.5 kHz": band_filter("lowpass", 1500),
    "high-pass 3 kHz": band_filter("highpass", 3000),
    "without 1 to 2 kHz": band_filter("bandstop", (1000, 2000), 4),
    "equaliser 12 dB": partial(random_equaliser, 12),
    "bass +15 dB": ffmpeg_filter("bass", "g=15"),
    **{f"four talkers {d} dB": partial(add_talkers, 4, d) for d in (15, 10)},
    "a talker 10 dB": partial(add_talkers, 1, 10),
    **{f"music {d} dB": partial(add_music, d) for d in (15, 10)},
    "white noise 12 dB": partial(add_noise, 12),
    "wow 0.5 %": partial(add_wow, 0.005, 0.8),
    "wow 2 %": partial(add_wow, 0.02, 0.3),
    "flutter 0.3 %": partial(add_wow, 0.003, 6),
    "drift -2 to +2 %": partial(drift_speed, 0.98, 1.02),
    "vibrato": ffmpeg_filter("vibrato", "f=5:d=0.1"),
    "15 % lost": partial(lose_packets, 0.15),
    "10 % lost and concealed": partial(lose_packets, 0.1, concealed=True),
    "a sample lost every 2 ms": partial(drop_samples, 2),
    "without pauses": remove_pauses,
    "with more pauses": insert_pauses,
    "cut 30 %": partial(cut_pieces, 0.3),
    "cut 15 %, mp3 48k": chain(partial(cut_pieces, 0.15), MP3_48),
    "reorder 5, mp3 64k": chain(partial(reorder, 5), MP3_64),
    "mute 40 %": partial(mute_pieces, 0.4),
    **{f"clipped at {s:.0%}": partial(clip, s) for s in (0.1, 0.03)},
    **{f"{b} bit": partial(quantise, b) for b in (6, 4)},
    "louder everywhere": ffmpeg_filter("dynaudnorm", "f=100:g=5"),
    "limiter": ffmpeg_filter("alimiter", "level_in=8:limit=0.2"),
    "tremolo": ffmpeg_filter("tremolo", "f=6:d=0.6"),
    "chorus": ffmpeg_filter("chorus", "0.6:0.9:50:0.4:0.25:2"),
    "flanger": ffmpeg_filter("flanger", "delay=2:depth=2"),
    "phaser": ffmpeg_filter("aphaser", ""),
    "echoes": ffmpeg_filter("aecho", "0.8:0.7:40|90|170:0.5|0.4|0.3"),
    "room 0.8 s": partial(reverberate, 0.8, wet=0.7),
    "room 0.6 s, noise 20 dB": chain(
        partial(reverberate, 0.6, wet=0.7), partial(add_noise, 20, pink=True)
    ),
    "second half inverted": invert_second_half,
}
