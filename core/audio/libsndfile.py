"""Decoding with libsndfile, to be run in the confined process (`core.audio.sandbox`).

It reads blocks of at most 64 Ki frames, so that no header determines how much memory is used.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import soundfile
from numpy.typing import NDArray

from core.audio.container import Source, check_channels, check_rate, inspect
from core.errors import Refused

MAX_SAMPLES_PER_S: Final = 96_000
"""Most samples, summed over channels, per second of the longest accepted recording: 48 kHz stereo.
Recordings with higher rates or more channels must be shorter, which bounds memory."""
_ANY_LENGTH_S: Final = 24 * 3600.0
_BLOCK: Final = 1 << 16
_RANGE: Final = 16.0
_UNKNOWN: Final = 1 << 60
_UNSUPPORTED: Final = (4, 18)  # SF_ERR_UNSUPPORTED_ENCODING, SFE_UNIMPLEMENTED of libsndfile


class Sound(soundfile.SoundFile):  # type: ignore[misc]
    """A SoundFile that is read from start to end only.

    soundfile seeks after each read of a seekable file, which fails at the end of a FLAC file of
    unknown length.
    """

    def seekable(self) -> bool:
        return False


def warm_up() -> None:
    """Decode a short file, so that the confined processes need no further file to do so."""
    file = io.BytesIO()
    soundfile.write(file, np.zeros(8_000, np.float32), 8_000, format="WAV")
    decode_task(file.getvalue(), lambda part: None, name="", max_seconds=1.0)


def decode_task(
    data: bytes,
    write: Callable[[Any], object],
    *,
    name: str,
    max_seconds: float,
    first_seconds: float | None = None,
) -> dict[str, Any]:
    """Sandbox task: write interleaved float32 samples and return a description.

    With `first_seconds`, only these are decoded, of a recording of any length.
    """
    try:
        source = inspect(data, name)
        with open_sound(source) as sound:
            if first_seconds is None:
                blocks = read_blocks(sound, source, max_seconds)
            else:
                blocks = _read_first(sound, source, first_seconds)
            for block in blocks:
                write(block)
            return _describe(sound, source)
    except Refused as exc:
        return {"refused": exc.code, "message": exc.message}


def open_sound(source: Source) -> Sound:
    """Open a file for decoding. Raises Refused AUDIO_CODEC_UNSUPPORTED or AUDIO_HEADER_INVALID."""
    try:
        sound = Sound(io.BytesIO(source.data))
    except soundfile.SoundFileError as exc:
        if getattr(exc, "code", 0) in _UNSUPPORTED:
            raise Refused("AUDIO_CODEC_UNSUPPORTED") from exc
        raise Refused("AUDIO_HEADER_INVALID") from exc
    check_rate(sound.samplerate)
    check_channels(sound.channels)
    return sound


def read_blocks(sound: Sound, source: Source, max_seconds: float) -> Iterator[NDArray[np.float32]]:
    """Yield all samples in blocks of shape (frames, channels). Raises Refused."""
    announced = _announced_frames(sound, source, max_seconds)
    max_frames = int(max_seconds * min(sound.samplerate, MAX_SAMPLES_PER_S / sound.channels))
    done = 0
    while len(block := _read_block(sound)):
        done += len(block)
        if announced is not None and done > announced + sound.samplerate:
            raise Refused("AUDIO_DECODE_LIMIT")
        if done > max_frames + sound.samplerate:
            raise _too_long(max_seconds, None)
        _check_samples(block)
        yield block
    if done == 0:
        raise Refused("AUDIO_NO_SAMPLES")
    # The frames of an MP3 file were counted already; its decoder drops some of them as padding.
    if announced is not None and done < announced and source.format != "mp3":
        raise Refused(
            "AUDIO_CORRUPT",
            f"Damaged after {done / sound.samplerate:.1f} of {announced / sound.samplerate:.1f} s: "
            "upload the recording again.",
        )


def _read_first(sound: Sound, source: Source, seconds: float) -> Iterator[NDArray[np.float32]]:
    left = round(seconds * sound.samplerate)
    for block in read_blocks(sound, source, _ANY_LENGTH_S):
        yield block[:left]
        left -= len(block)
        if left <= 0:
            return


def _announced_frames(sound: Sound, source: Source, max_seconds: float) -> int | None:
    """Return the number of frames in the header, or None. Raises Refused AUDIO_TOO_LONG."""
    announced = source.frames
    if announced is None and 0 < sound.frames < _UNKNOWN:
        announced = int(sound.frames)
    if announced is not None:
        if announced > max_seconds * sound.samplerate:
            raise _too_long(max_seconds, announced / sound.samplerate)
        if announced * sound.channels > max_seconds * MAX_SAMPLES_PER_S:
            raise Refused(
                "AUDIO_TOO_LONG",
                f"{announced / sound.samplerate:.0f} s of {sound.channels} channels at "
                f"{sound.samplerate} Hz: cut it to the best ten seconds.",
            )
    return announced


def _too_long(max_seconds: float, seconds: float | None) -> Refused:
    subject = "It" if seconds is None else f"The recording lasts {seconds:.0f} s, which"
    return Refused(
        "AUDIO_TOO_LONG",
        f"{subject} exceeds the limit of {max_seconds:.0f} s: cut it to the best ten seconds.",
    )


def _read_block(sound: Sound) -> NDArray[np.float32]:
    try:
        block: NDArray[np.float32] = sound.read(_BLOCK, dtype="float32", always_2d=True)
    except soundfile.SoundFileError as exc:
        raise Refused("AUDIO_CORRUPT") from exc
    return block


def _check_samples(block: NDArray[np.float32]) -> None:
    peak = float(np.abs(block).max())  # NaN if any sample is NaN
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
