"""Prepare a reference recording: check it and extract a few seconds of speech for an engine.

Every reason to reject a recording has its own error code (docs/errors.md). The default steps were
chosen by measurement (docs/reference.md).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.audio.decoding import MAX_SECONDS, Decoded, decode
from core.audio.loudness import normalise_loudness
from core.audio.waveform import Audio, Samples, join, normalise_peak, peak, resample
from core.audio.waveform import silence as pause
from core.errors import Notice, Refused
from core.speech import activity as vad

MIN_DURATION_S: Final = 3.0
MAX_WINDOW_S: Final = 10.0
"""Longest reference for an engine in seconds; GPT-SoVITS accepts 3 to 10 s only."""
MIN_SPEECH_S: Final = 1.5
MAX_RATE: Final = 48_000
_SILENCE_PEAK: Final = 1e-3
_LOW_PEAK: Final = 0.05
_NOISY_DB: Final = 15.0
_NARROW_HZ: Final = 4_500.0
_TELEPHONY: Final = ("alaw", "ulaw", "adpcm", "gsm")


@dataclass(frozen=True, slots=True)
class Steps:
    """The processing steps of a recording, in the order in which they are applied."""

    window: bool = True
    """Choose the best 3 to 10 s of a longer recording; if off, refuse it as AUDIO_TOO_LONG."""
    trim: bool = True
    """Remove non-speech at both ends."""
    resample: bool = False
    """Resample to 16 kHz, the rate of the analysis; if off, keep the rate up to 48 kHz."""
    compress: bool = False
    """Apply dynamic range compression, which raises quiet passages."""
    level: float | None = None
    """Peak to scale to, for example 0.9, or None."""
    loudness: float | None = -26.0
    """Loudness to scale to in LUFS, as far as the peak stays below 0.9, or None."""
    pad: bool = False
    """Add half a second of silence at both ends, or less to stay within ten seconds."""


@dataclass(frozen=True, slots=True)
class Quality:
    """The quality of the whole recording before processing."""

    speech_s: float
    """Seconds of speech."""
    snr_db: float
    clipped: float
    """Share of clipped samples, 0..1."""
    bandwidth_hz: float
    peak: float


@dataclass(frozen=True, slots=True)
class Reference:
    """A prepared reference recording."""

    audio: Audio
    """The speech for an engine, mono."""
    sha256: str
    """SHA-256 of the object's bytes, lower-case hex."""
    seconds: float
    """Duration of the whole recording."""
    window: tuple[float, float]
    """Start and end, in seconds, of the part of the recording that `audio` was taken from. A
    transcript of the whole recording matches `audio` only if there is no TRIMMED notice."""
    quality: Quality
    notices: tuple[Notice, ...]


def prepare(data: bytes, key: str, steps: Steps = Steps()) -> Reference:
    """Decode, check and process the recording stored under `key`.

    Raises Refused with one of the AUDIO_ codes, or Failed AUDIO_DECODER_CRASHED.
    """
    decoded = decode(data, name=key, max_seconds=MAX_SECONDS)
    if decoded.seconds < MIN_DURATION_S:
        message = f"The recording lasts {decoded.seconds:.1f} s: send at least three seconds."
        raise Refused("AUDIO_TOO_SHORT", message, pointer=key)
    clipped = max(measure_clipping(channel) for channel in decoded.channels)
    audio, codes = mix_to_mono(decoded, key)
    audio, offset = _remove_offset(audio)
    if (top := peak(audio.samples)) < _SILENCE_PEAK:
        raise Refused("AUDIO_SILENT", pointer=key)
    if audio.rate > MAX_RATE:
        audio = resample(audio, MAX_RATE)
    activity = vad.detect_speech(normalise_peak(resample(audio, vad.RATE)).samples)
    hertz = measure_bandwidth(audio, activity)
    quality = Quality(activity.seconds, activity.snr_db, clipped, hertz, top)
    _refuse_unfit(quality, key)
    start, stop = _select_window(activity, audio, steps, key)
    codes += _list_notices(decoded, quality, offset, audio.seconds > MAX_WINDOW_S)
    return Reference(
        audio=_apply_steps(_cut_audio(audio, start, stop), steps),
        sha256=hashlib.sha256(data).hexdigest(),
        seconds=decoded.seconds,
        window=(start, stop),
        quality=quality,
        notices=decoded.notices + tuple(Notice(code, pointer=key) for code in codes),
    )


# --- one channel


def mix_to_mono(decoded: Decoded, key: str = "") -> tuple[Audio, list[str]]:
    """Return the centre of a surround recording unless it is silent, the louder of two channels if
    the other is silent, else the mean; and DOWNMIXED if channels differ. Raises Refused
    AUDIO_PHASE_CANCEL if the channels cancel out."""
    channels = decoded.channels
    centred = channels - channels.mean(axis=1, keepdims=True)
    power = np.mean(np.square(centred, dtype=np.float64), axis=1)
    count = len(channels)
    # WAVE order is front left, front right, front centre, ...; four channels have no centre.
    if count >= 3 and count != 4 and power[2] > 0.1 * power.max():
        return Audio(np.ascontiguousarray(channels[2]), decoded.rate), ["DOWNMIXED"]
    if count == 1 or (power.min() <= 0.01 * power.max() and count == 2):
        loudest = np.ascontiguousarray(channels[int(power.argmax())])
        return Audio(loudest, decoded.rate), ["DOWNMIXED"] if count > 1 else []
    mixed = channels.mean(axis=0)
    remaining = np.var(mixed, dtype=np.float64)
    if remaining < 0.1 * power.mean() / (count / 2):
        raise Refused("AUDIO_PHASE_CANCEL", pointer=key)
    same = np.array_equal(channels.min(axis=0), channels.max(axis=0))
    return Audio(mixed, decoded.rate), [] if same else ["DOWNMIXED"]


def _remove_offset(audio: Audio) -> tuple[Audio, bool]:
    mean = float(audio.samples.mean())
    if abs(mean) < 0.01:
        return audio, False
    from scipy.signal import butter, sosfiltfilt

    # 30 Hz is below every voice. Filtering in both directions keeps the phase.
    filtered = sosfiltfilt(butter(2, 30, "high", fs=audio.rate, output="sos"), audio.samples - mean)
    return Audio(filtered.astype(np.float32), audio.rate), True


# --- quality


def measure_clipping(samples: Samples) -> float:
    """Return the share of samples in runs of three or more at the highest or lowest value."""
    share = 0.0
    for side in (samples, -samples):
        top = float(side.max(initial=0.0))
        stretches = vad.find_runs((side >= top * (1 - 2e-5)) & (top > 0))
        lengths = stretches[:, 1] - stretches[:, 0]
        share += float(lengths[lengths >= 3].sum()) / max(1, len(samples))
    return share


def measure_bandwidth(audio: Audio, activity: vad.Activity) -> float:
    """Return the highest frequency in Hz at which the speech exceeds the noise floor of a codec."""
    size = 1_024 * max(1, audio.rate // 16_000)
    starts = np.flatnonzero(activity.mask) * audio.rate // 100
    starts = starts[starts + size <= len(audio.samples)][:: max(1, len(starts) // 1_000)]
    if not starts.size:
        return audio.rate / 2
    views = np.lib.stride_tricks.sliding_window_view(audio.samples, size)[starts]
    power = np.mean(np.abs(np.fft.rfft(views * np.hanning(size))) ** 2, axis=0)
    audible = np.flatnonzero(power > power.max() * 1e-6)
    return float(audible[-1]) * audio.rate / size


def _refuse_unfit(quality: Quality, key: str) -> None:
    if quality.speech_s == 0:
        raise Refused("AUDIO_NO_SPEECH", pointer=key)
    if quality.clipped > 0.01:
        message = f"{quality.clipped:.1%} of the samples are clipped: record at a lower level."
        raise Refused("AUDIO_CLIPPED", message, pointer=key)
    if quality.speech_s < MIN_SPEECH_S:
        noise = " above the noise" if quality.snr_db < _NOISY_DB else ""
        message = f"Only {quality.speech_s:.1f} s of speech{noise}: send at least three seconds."
        raise Refused("AUDIO_TOO_SHORT", message, pointer=key)


def _list_notices(decoded: Decoded, quality: Quality, offset: bool, cut: bool) -> list[str]:
    conditions = {
        "DC_OFFSET": offset,
        "CLIPPING": quality.clipped > 0.001,
        "LOW_LEVEL": quality.peak < _LOW_PEAK,
        "NOISY": quality.snr_db < _NOISY_DB,
        "LOW_BANDWIDTH": quality.bandwidth_hz < _NARROW_HZ,
        "LOSSY_TELEPHONY": any(name in decoded.codec for name in _TELEPHONY),
        "TRIMMED": cut,
    }
    return [code for code, is_true in conditions.items() if is_true]


# --- the window


def _select_window(
    activity: vad.Activity, audio: Audio, steps: Steps, key: str
) -> tuple[float, float]:
    if audio.seconds <= MAX_WINDOW_S:
        return _speech_span(activity, audio.seconds) if steps.trim else (0.0, audio.seconds)
    if not steps.window:
        message = f"The recording lasts {audio.seconds:.1f} s: send 3 to 10 s."
        raise Refused("AUDIO_TOO_LONG", message, pointer=key)
    longest = MAX_WINDOW_S - (1.0 if steps.pad else 0.0)
    return choose_window(activity.mask, longest)


def _speech_span(activity: vad.Activity, seconds: float) -> tuple[float, float]:
    """Return the span from just before the first to just after the last speech, at least 3 s."""
    at = np.flatnonzero(activity.mask) / 100
    start, stop = max(0.0, at[0] - 0.1), min(seconds, at[-1] + 0.15)
    lack = max(0.0, MIN_DURATION_S - (stop - start))
    start = max(0.0, start - lack / 2)
    stop = min(seconds, max(stop + lack / 2, start + MIN_DURATION_S))
    return float(max(0.0, min(start, stop - MIN_DURATION_S))), float(stop)


def choose_window(mask: NDArray[np.bool_], longest: float) -> tuple[float, float]:
    """Return start and end, in seconds, of the window of at most `longest` seconds with the most
    speech, with pauses at both ends if possible. `mask` has an entry for every 10 ms."""
    most, least = min(round(longest * 100), len(mask)), round(MIN_DURATION_S * 100)
    speech = np.concatenate([[0], np.cumsum(mask)])
    stretches = vad.find_runs(mask)
    starts = np.maximum(0, stretches[:, 0] - 10)
    stops = np.minimum(len(mask), stretches[:, 1] + 10)
    best, window = 0, (0, 0)
    for start in starts:
        for stop in stops[(stops - start >= least) & (stops - start <= most)]:
            if speech[stop] - speech[start] > best:
                best, window = speech[stop] - speech[start], (int(start), int(stop))
    begin = int(np.argmax(speech[most:] - speech[: len(speech) - most]))
    # If there is no pause within ten seconds, cut into speech rather than keep only a little of it.
    if best < 0.6 * (speech[begin + most] - speech[begin]):
        window = (begin, begin + most)
    return window[0] / 100, window[1] / 100


# --- processing


def _cut_audio(audio: Audio, start: float, stop: float) -> Audio:
    return Audio(audio.samples[round(start * audio.rate) : round(stop * audio.rate)], audio.rate)


def _apply_steps(audio: Audio, steps: Steps) -> Audio:
    if steps.resample:
        audio = resample(audio, vad.RATE)
    if steps.compress:
        audio = compress(audio)
    if steps.level is not None:
        audio = normalise_peak(audio, steps.level)
    if steps.loudness is not None:
        audio = normalise_loudness(audio, steps.loudness)
    if steps.pad:
        edge = pause(min(0.5, max(0.0, (MAX_WINDOW_S - audio.seconds) / 2)), audio.rate)
        audio = join([edge, audio, edge])
    return audio


def compress(
    audio: Audio, *, ratio: float = 2.0, below_db: float = -12.0, max_gain_db: float = 12.0
) -> Audio:
    """Raise passages whose level relative to the loudest is under `below_db`, by (1 - 1/ratio) of
    the difference, at most `max_gain_db`. The gain is smoothed over 50 ms to avoid distortion."""
    hop = max(1, audio.rate // 100)
    count = -(-len(audio.samples) // hop)
    power = np.add.reduceat(audio.samples.astype(np.float64) ** 2, np.arange(count) * hop) / hop
    smooth = np.convolve(np.pad(power, 2, mode="edge"), np.ones(5) / 5, "valid")
    lack = below_db - 10 * np.log10(smooth / max(smooth.max(), 1e-12) + 1e-12)
    gain_db = np.clip(lack * (1 - 1 / ratio), 0.0, max_gain_db)
    gain_db[lack > 40] = 0.0  # do not raise the noise in pauses
    gain_db = np.convolve(np.pad(gain_db, 2, mode="edge"), np.ones(5) / 5, "valid")
    curve = np.interp(np.arange(len(audio.samples)), (np.arange(count) + 0.5) * hop, gain_db)
    return Audio((audio.samples * 10 ** (curve / 20)).astype(np.float32), audio.rate)
