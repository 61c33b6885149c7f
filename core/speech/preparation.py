"""Prepares a reference recording with librosa, in the confined process that decodes it.

`core.speech.reference` is the interface; the process is described in `core.audio.sandbox`. Only the
process that forks these tasks imports this module, because importing librosa takes three seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import librosa
import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import fft

from core.audio import libsndfile
from core.audio.decoding import Decoded, decode_confined
from core.audio.loudness import normalise_loudness
from core.audio.waveform import Audio, Samples, join, peak
from core.audio.waveform import silence as pause
from core.errors import Refused
from core.manifest.fields import Channel, Window
from core.speech import activity as vad
from core.speech import channels
from core.speech.encoders import GE2E_BANDS, raise_level
from core.speech.reference import (
    MAX_WINDOW_S,
    MIN_DURATION_S,
    PREPARATIONS,
    Answer,
    Quality,
    Steps,
)

MIN_SPEECH_S: Final = 1.5
MAX_RATE: Final = 48_000
_SILENCE_PEAK: Final = 1e-3
_LOW_PEAK: Final = 0.05
_NOISY_DB: Final = 15.0
_NARROW_HZ: Final = 4_500.0
_BEGINNING_S: Final = 30.0
_IN_BEGINNING: Final = {
    "AUDIO_SILENT": "The first thirty seconds are silent: leave `window` out.",
    "AUDIO_NO_SPEECH": "No speech was found in the first thirty seconds: leave `window` out.",
    "AUDIO_TOO_SHORT": "Too little speech in the first thirty seconds: leave `window` out.",
}
"""What is said where the rest of the recording was not decoded."""
_TELEPHONY: Final = ("alaw", "ulaw", "adpcm", "gsm")


def warm_up() -> None:
    """Run everything that imports or compiles something when it is first used: a confined process
    can open no file."""
    sound = Audio(np.random.default_rng(0).standard_normal(MAX_RATE).astype(np.float32), MAX_RATE)
    for steps in PREPARATIONS.values():
        _apply_steps(sound, steps)
    _remove_offset(Audio(sound.samples + 1, sound.rate))
    mel_features(sound.samples)
    find_speech(sound)
    libsndfile.warm_up()


def prepare_task(
    data: bytes,
    write: Callable[[Any], object],
    *,
    name: str,
    steps: dict[str, Any],
    channel: Channel,
    window: Window,
) -> dict[str, Any]:
    """Sandbox task: write the prepared samples, then their mel features, and return an `Answer`."""
    first_seconds = _BEGINNING_S if window == "first_30s" else None
    is_beginning = False
    try:
        decoded = decode_confined(data, name=name, first_seconds=first_seconds)
        is_beginning = first_seconds is not None and decoded.seconds >= first_seconds
        return _prepare(decoded, write, msgspec.convert(steps, Steps), channel)
    except Refused as exc:
        message = _IN_BEGINNING.get(exc.code, exc.message) if is_beginning else exc.message
        return {"refused": exc.code, "message": message}


def _prepare(
    decoded: Decoded, write: Callable[[Any], object], steps: Steps, channel: Channel
) -> dict[str, Any]:
    if decoded.seconds < MIN_DURATION_S:
        message = f"The recording lasts {decoded.seconds:.1f} s: send at least three seconds."
        raise Refused("AUDIO_TOO_SHORT", message)
    clipped = max(measure_clipping(samples) for samples in decoded.channels)
    audio, codes = channels.choose(decoded, channel)
    if "DOWNMIXED" in codes and len(decoded.channels) == 2 and _both_sides_speak(decoded):
        codes.append("BOTH_SIDES_SPEAK")
    audio, offset = _remove_offset(audio)
    if (top := peak(audio.samples)) < _SILENCE_PEAK:
        raise Refused("AUDIO_SILENT")
    if audio.rate > MAX_RATE:
        audio = resample(audio, MAX_RATE)
    activity = find_speech(audio)
    hertz = measure_bandwidth(audio, activity)
    quality = Quality(activity.seconds, activity.snr_db, clipped, hertz, top)
    _refuse_unfit(quality)
    start, stop = _select_window(activity, audio, steps)
    codes += _list_notices(decoded, quality, offset, audio.seconds > MAX_WINDOW_S)
    prepared = _apply_steps(_cut_audio(audio, start, stop), steps)
    write(prepared.samples)
    write(mel_of_speech(prepared))
    answer = Answer(
        rate=prepared.rate,
        count=len(prepared.samples),
        seconds=decoded.seconds,
        window=(start, stop),
        quality=quality,
        notices=[*(notice.code for notice in decoded.notices), *codes],
    )
    return dict(msgspec.to_builtins(answer))


# --- what librosa does


def resample(audio: Audio, rate: int) -> Audio:
    """Convert the sample rate (libsoxr, high quality)."""
    if audio.rate == rate:
        return audio
    converted = librosa.resample(
        audio.samples, orig_sr=audio.rate, target_sr=rate, res_type="soxr_hq"
    )
    return Audio(np.asarray(converted, np.float32), rate)


def normalise_peak(audio: Audio, to: float = 0.9) -> Audio:
    """Scale the peak to `to`; silence stays silent."""
    return Audio(librosa.util.normalize(audio.samples) * np.float32(to), audio.rate)


def mel_of_speech(audio: Audio) -> NDArray[np.float32]:
    """Return `mel_features` of the speech in prepared audio, without its pauses."""
    sound = resample(audio, vad.RATE).samples
    mask = np.repeat(find_speech(Audio(sound, vad.RATE)).mask, vad.HOP)
    speech = sound[: len(mask)][mask[: len(sound)]]
    return mel_features(speech) if len(speech) else np.zeros((0, GE2E_BANDS), np.float32)


def mel_features(samples: Samples) -> NDArray[np.float32]:
    """Return the input of GE2E for speech at 16 kHz: the power in 40 bands of Slaney's mel scale,
    in frames of 25 ms, one every 10 ms; shape (frames, 40)."""
    mel = librosa.feature.melspectrogram(
        y=raise_level(samples), sr=vad.RATE, n_fft=400, hop_length=vad.HOP, n_mels=GE2E_BANDS
    )
    return np.ascontiguousarray(mel.T, np.float32)


def _both_sides_speak(decoded: Decoded) -> bool:
    sides = [resample(Audio(side, decoded.rate), vad.RATE) for side in decoded.channels]
    if any(peak(side.samples) < _SILENCE_PEAK for side in sides):
        return False
    masks = [find_speech(side).mask for side in sides]
    return channels.both_speak([side.samples for side in sides], masks)


def find_speech(audio: Audio) -> vad.Activity:
    """Find the speech in mono audio of any rate and level."""
    return vad.detect_speech(normalise_peak(resample(audio, vad.RATE)).samples)


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
    """Return the share of samples in runs of three or more at the highest or lowest value; 0 for
    silence, in which a converter repeats its smallest values."""
    share = 0.0
    for side in (samples, -samples):
        top = float(side.max(initial=0.0))
        stretches = vad.find_runs((side >= top * (1 - 2e-5)) & (top >= _SILENCE_PEAK))
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
    window = np.hanning(size).astype(np.float32)
    power = np.mean(np.abs(fft.rfft(views * window)) ** 2, axis=0)
    audible = np.flatnonzero(power > power.max() * 1e-6)
    return float(audible[-1]) * audio.rate / size


def _refuse_unfit(quality: Quality) -> None:
    if quality.speech_s == 0:
        raise Refused("AUDIO_NO_SPEECH")
    if quality.clipped > 0.01:
        message = f"{quality.clipped:.1%} of the samples are clipped: record at a lower level."
        raise Refused("AUDIO_CLIPPED", message)
    if quality.speech_s < MIN_SPEECH_S:
        noise = " above the noise" if quality.snr_db < _NOISY_DB else ""
        message = f"Only {quality.speech_s:.1f} s of speech{noise}: send at least three seconds."
        raise Refused("AUDIO_TOO_SHORT", message)


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


def _select_window(activity: vad.Activity, audio: Audio, steps: Steps) -> tuple[float, float]:
    if audio.seconds <= MAX_WINDOW_S:
        return _speech_span(activity, audio.seconds) if steps.trim else (0.0, audio.seconds)
    if not steps.window:
        message = f"The recording lasts {audio.seconds:.1f} s: send 3 to 10 s."
        raise Refused("AUDIO_TOO_LONG", message)
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
    return _pad(audio) if steps.pad else audio


def _pad(audio: Audio) -> Audio:
    """Replace near-silence at both ends, 60 dB below the loudest part, by half a second of silence:
    less if ten seconds are full, more if three would not be."""
    audio = Audio(librosa.effects.trim(audio.samples, top_db=60)[0], audio.rate)
    room, lack = ((limit - audio.seconds) / 2 for limit in (MAX_WINDOW_S, MIN_DURATION_S))
    edge = pause(max(min(0.5, room), lack, 0.0), audio.rate)
    return join([edge, audio, edge])


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
