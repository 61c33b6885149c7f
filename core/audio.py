"""Mono float32 audio, what we do to it, and the way in and out of files."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from core import isolate
from core.errors import Failed, Notice, Refused

Samples = NDArray[np.float32]

BYTES_LIMIT: Final = 64 << 20
LONGEST_S: Final = 600.0
"""What `decode` accepts unless told otherwise."""


@dataclass(frozen=True, slots=True)
class Audio:
    samples: Samples
    """One channel, float32, in [-1, 1]; shape (n,)."""
    rate: int
    """Samples per second."""

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate


@dataclass(frozen=True, slots=True)
class Decoded:
    channels: Samples
    """Shape (channels, n), float32, finite, nominally in [-1, 1]; order as in WAVE."""
    rate: int
    format: str
    """wav, flac, mp3, vorbis, opus, aiff, caf, au or w64."""
    codec: str
    """libsndfile's name of the sample format, lower case: pcm_16, float, alaw, gsm610 ..."""
    notices: tuple[Notice, ...] = ()

    @property
    def seconds(self) -> float:
        return int(self.channels.shape[1]) / self.rate


@dataclass(frozen=True, slots=True)
class Probe:
    """What the headers promise, without decoding."""

    format: str
    codec: str
    rate: int
    channels: int
    seconds: float | None
    """None where only decoding can tell."""
    notices: tuple[Notice, ...] = ()


# --- in


def decode(data: bytes, *, name: str, longest: float = LONGEST_S) -> Decoded:
    """Decode an untrusted recording in a confined process.

    Raises Refused with one of the AUDIO_ codes, Failed AUDIO_DECODER_CRASHED; `name` (an object
    key) becomes the pointer of the error and tells the expected format by its extension.
    """
    bulk, answer = _isolated("core.decoder:read_task", data, name=name, longest=longest)
    channels = np.frombuffer(bulk, np.float32).reshape(-1, answer["channels"]).T
    return Decoded(
        channels, answer["rate"], answer["format"], answer["codec"], _notices(answer, name)
    )


def probe(data: bytes, *, name: str, longest: float = LONGEST_S) -> Probe:
    """Check the headers of an untrusted recording in a confined process; errors as in `decode`."""
    _, answer = _isolated("core.decoder:probe_task", data, name=name, longest=longest)
    return Probe(
        answer["format"],
        answer["codec"],
        answer["rate"],
        answer["channels"],
        answer["seconds"],
        _notices(answer, name),
    )


def decode_own(data: bytes) -> Audio:
    """Decode mono audio that `encode` made, in this process. Raises Refused as `decode`."""
    from core import container, decoder

    source = container.inspect(data, "")
    with decoder.open_sound(source) as sound:
        parts = list(decoder.blocks(sound, source, 24 * 3600.0))
        return Audio(np.concatenate(parts)[:, 0], sound.samplerate)


def _isolated(task: str, data: bytes, **arguments: Any) -> tuple[bytearray, dict[str, Any]]:
    name = arguments["name"]
    if len(data) > BYTES_LIMIT:
        raise Refused(
            "AUDIO_TOO_LARGE",
            f"{len(data) >> 20} MiB: we accept up to {BYTES_LIMIT >> 20} MiB.",
            pointer=name,
        )
    try:
        bulk, answer = isolate.run(task, data, **arguments)
    except isolate.Crashed as exc:
        raise Failed(
            "AUDIO_DECODER_CRASHED",
            f"The decoder failed on this file: {exc}. Convert it to WAV or FLAC.",
            pointer=name,
        ) from exc
    if refused := answer.get("refused"):
        raise Refused(refused, str(answer["message"]), pointer=name)
    return bulk, answer


def _notices(answer: dict[str, Any], name: str) -> tuple[Notice, ...]:
    return tuple(Notice(code, pointer=name) for code in answer["notices"])


# --- shaping


def resample(audio: Audio, rate: int) -> Audio:
    """Band-limited conversion (libsoxr, high quality)."""
    if audio.rate == rate:
        return audio
    import soxr

    return Audio(np.asarray(soxr.resample(audio.samples, audio.rate, rate), np.float32), rate)


def peak(samples: Samples) -> float:
    return float(np.abs(samples).max(initial=0.0))


def level(audio: Audio, to: float = 0.9) -> Audio:
    """Scale so that the largest sample is `to`; silence stays silence."""
    top = peak(audio.samples)
    return Audio(audio.samples * np.float32(to / top), audio.rate) if top > 0 else audio


def silence(seconds: float, rate: int) -> Audio:
    return Audio(np.zeros(round(seconds * rate), np.float32), rate)


def join(parts: Sequence[Audio], pause: float | Sequence[float] = 0.0) -> Audio:
    """One after the other, all of one rate, with seconds of silence between (one figure for all
    gaps or one for each)."""
    rate = parts[0].rate
    if any(part.rate != rate for part in parts):
        raise ValueError("parts of different rates cannot be joined")
    gaps = [pause] * (len(parts) - 1) if isinstance(pause, (int, float)) else list(pause)
    if len(gaps) != len(parts) - 1:
        raise ValueError(f"{len(parts)} parts have {len(parts) - 1} gaps, not {len(gaps)}")
    pieces = [parts[0].samples]
    for gap, part in zip(gaps, parts[1:], strict=True):
        pieces += [silence(gap, rate).samples, part.samples]
    return Audio(np.concatenate(pieces), rate)


def trim(audio: Audio, *, below_db: float = -45.0, keep: float = 0.05) -> Audio:
    """Cut quiet edges, measured against the loudest 10 ms, but keep some seconds of them; fade the
    new edges over 5 ms so that they do not click. Silence becomes empty."""
    hop = max(1, audio.rate // 100)
    count = -(-len(audio.samples) // hop)
    power = np.add.reduceat(audio.samples.astype(np.float64) ** 2, np.arange(count) * hop)
    loud_at = np.flatnonzero(power > power.max(initial=0.0) * 10 ** (below_db / 10))
    if not loud_at.size:
        return Audio(audio.samples[:0], audio.rate)
    margin = round(keep * audio.rate)
    start = max(0, int(loud_at[0]) * hop - margin)
    stop = min(len(audio.samples), (int(loud_at[-1]) + 1) * hop + margin)
    return fade(Audio(audio.samples[start:stop], audio.rate))


def fade(audio: Audio, seconds: float = 0.005) -> Audio:
    """Raise and lower the edges linearly."""
    n = min(round(seconds * audio.rate), len(audio.samples) // 2)
    ramp = (np.arange(n, dtype=np.float32) + 1) / (n + 1)
    samples = audio.samples.copy()
    samples[:n] *= ramp
    samples[len(samples) - n :] *= ramp[::-1]
    return Audio(samples, audio.rate)


# --- out


@dataclass(frozen=True, slots=True)
class Encoded:
    data: bytes
    rate: int
    """Of the file: Opus and MP3 know only some rates."""
    media_type: str


@dataclass(frozen=True, slots=True)
class _Container:
    format: str
    subtype: str
    media_type: str
    rates: tuple[int, ...] = ()
    """Those the codec knows; empty: any."""
    compression: float | None = None
    """libsndfile's 0 (best) to 1 (smallest). At its defaults speech comes back with a signal to
    noise ratio of 6 to 22 dB; at these with 18 to 33 (MP3 about 70, Opus about 110 kbit/s)."""


_MPEG_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
_OPUS_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)
_CONTAINERS = {
    "wav": _Container("WAV", "PCM_16", "audio/wav"),
    "flac": _Container("FLAC", "PCM_16", "audio/flac"),
    "mp3": _Container("MP3", "MPEG_LAYER_III", "audio/mpeg", _MPEG_RATES, 0.0),
    "opus": _Container("OGG", "OPUS", "audio/ogg", _OPUS_RATES, 0.6),
}
CONTAINERS = frozenset(_CONTAINERS)


def encode(audio: Audio, container: str) -> Encoded:
    """A file of one of CONTAINERS: 16-bit WAV or FLAC, MP3, or Opus in Ogg.

    Where the codec does not know the rate, the next higher one that it knows (or its highest) is
    used. Samples beyond full scale are clipped.
    """
    file = io.BytesIO()
    with writer(file, audio.rate, container) as sound:
        rate = int(sound.samplerate)
        samples = np.clip(resample(audio, rate).samples, -1.0, 1.0)
        # One large write overflows the stack inside libvorbis and libopus.
        for start in range(0, len(samples), rate):
            sound.write(samples[start : start + rate])
    return Encoded(file.getvalue(), rate, media_type(container))


def writer(file: BinaryIO, rate: int, container: str) -> Any:
    """A SoundFile for mono samples within [-1, 1], which libsndfile would wrap round beyond; its
    `samplerate` is that of the container, see `encode`."""
    import soundfile

    kind = _CONTAINERS[container]
    rate = next((r for r in kind.rates if r >= rate), max(kind.rates, default=rate))
    return soundfile.SoundFile(
        file,
        "w",
        rate,
        1,
        format=kind.format,
        subtype=kind.subtype,
        compression_level=kind.compression,
    )


def reader(file: BinaryIO) -> Any:
    """A SoundFile over a file that `writer` wrote, from front to end."""
    from core import decoder

    file.seek(0)
    return decoder.Sound(file)


def media_type(container: str) -> str:
    return _CONTAINERS[container].media_type
