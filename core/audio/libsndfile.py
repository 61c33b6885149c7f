"""libsndfile behind limits: what runs in the confined process (`core.audio.sandbox`).

Blocks of at most 64 Ki frames, so that no header decides how much memory is taken.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import soundfile
from numpy.typing import NDArray

from core.audio.container import Source, check_channels, check_sample_rate, inspect
from core.errors import Refused

MAX_SAMPLES_PER_S: Final = 96_000
"""Samples of all channels that a second of the longest recording may decode to: 48 kHz stereo.
Higher rates and more channels leave less time; this bounds memory whatever a header says."""
_BLOCK: Final = 1 << 16
_RANGE: Final = 16.0
_UNKNOWN: Final = 1 << 60
_UNSUPPORTED: Final = (4, 18)  # SF_ERR_UNSUPPORTED_ENCODING, SFE_UNIMPLEMENTED of libsndfile


class Sound(soundfile.SoundFile):  # type: ignore[misc]
    """Read from front to end only.

    soundfile seeks after each read where it can, and that fails at the end of a FLAC file of
    unannounced length.
    """

    def seekable(self) -> bool:
        return False


def decode_task(
    data: bytes, write: Callable[[Any], object], *, name: str, max_seconds: float
) -> dict[str, Any]:
    """Task for `core.audio.sandbox`: interleaved float32 samples out, a description as answer."""
    try:
        source = inspect(data, name)
        with open_sound(source) as sound:
            for block in read_blocks(sound, source, max_seconds):
                write(block)
            return _describe(sound, source)
    except Refused as exc:
        return {"refused": exc.code, "message": exc.message}


def probe_task(
    data: bytes, write: Callable[[Any], object], *, name: str, max_seconds: float
) -> dict[str, Any]:
    """Task for `core.audio.sandbox`: the description alone."""
    try:
        source = inspect(data, name)
        with open_sound(source) as sound:
            promised = _announced_frames(sound, source, max_seconds)
            return _describe(sound, source) | {"seconds": promised and promised / sound.samplerate}
    except Refused as exc:
        return {"refused": exc.code, "message": exc.message}


def open_sound(source: Source) -> Sound:
    try:
        sound = Sound(io.BytesIO(source.data))
    except soundfile.SoundFileError as exc:
        if getattr(exc, "code", 0) in _UNSUPPORTED:
            raise Refused("AUDIO_CODEC_UNSUPPORTED") from exc
        raise Refused("AUDIO_HEADER_INVALID") from exc
    check_sample_rate(sound.samplerate)
    check_channels(sound.channels)
    return sound


def read_blocks(sound: Sound, source: Source, max_seconds: float) -> Iterator[NDArray[np.float32]]:
    """All samples in order, each block of shape (frames, channels)."""
    promised = _announced_frames(sound, source, max_seconds)
    most = int(max_seconds * min(sound.samplerate, MAX_SAMPLES_PER_S / sound.channels))
    done = 0
    while len(block := _read_block(sound)):
        done += len(block)
        if promised is not None and done > promised + sound.samplerate:
            raise Refused("AUDIO_DECODE_LIMIT")
        if done > most + sound.samplerate:
            raise _too_long(max_seconds, None)
        _check_samples(block)
        yield block
    if done == 0:
        raise Refused("AUDIO_NO_SAMPLES")
    # The frames of an MP3 were counted before; its decoder drops some of them as padding.
    if promised is not None and done < promised and source.format != "mp3":
        raise Refused(
            "AUDIO_CORRUPT",
            f"Damaged after {done / sound.samplerate:.1f} of {promised / sound.samplerate:.1f} s: "
            "upload the recording again.",
        )


def _announced_frames(sound: Sound, source: Source, max_seconds: float) -> int | None:
    """Frames that the header announces, if it does. Raises Refused AUDIO_TOO_LONG."""
    promised = source.frames
    if promised is None and 0 < sound.frames < _UNKNOWN:
        promised = int(sound.frames)
    if promised is not None:
        if promised > max_seconds * sound.samplerate:
            raise _too_long(max_seconds, promised / sound.samplerate)
        if promised * sound.channels > max_seconds * MAX_SAMPLES_PER_S:
            raise Refused(
                "AUDIO_TOO_LONG",
                f"{promised / sound.samplerate:.0f} s of {sound.channels} channels at "
                f"{sound.samplerate} Hz: cut it to the best ten seconds.",
            )
    return promised


def _too_long(max_seconds: float, seconds: float | None) -> Refused:
    found = "It" if seconds is None else f"The recording lasts {seconds:.0f} s, which"
    return Refused(
        "AUDIO_TOO_LONG",
        f"{found} is more than the {max_seconds:.0f} s we accept: cut it to the best ten seconds.",
    )


def _read_block(sound: Sound) -> NDArray[np.float32]:
    try:
        block: NDArray[np.float32] = sound.read(_BLOCK, dtype="float32", always_2d=True)
    except soundfile.SoundFileError as exc:
        raise Refused("AUDIO_CORRUPT") from exc
    return block


def _check_samples(block: NDArray[np.float32]) -> None:
    peak = float(np.abs(block).max())  # NaN if any sample is
    if not np.isfinite(peak):
        raise Refused("AUDIO_NONFINITE")
    if peak > _RANGE:
        raise Refused(
            "AUDIO_RANGE", f"Samples reach {peak:.3g} where 1 is full scale: normalise them."
        )


def _describe(sound: Sound, source: Source) -> dict[str, Any]:
    return {
        "format": source.format,
        "codec": sound.subtype.lower(),
        "rate": sound.samplerate,
        "channels": sound.channels,
        "notices": source.notices,
    }
