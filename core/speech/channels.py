"""Chooses the channel of a recording, and finds out whether a call has both sides in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.audio.decoding import Decoded
from core.audio.waveform import Audio, Samples
from core.errors import Refused
from core.manifest.fields import Channel
from core.speech import activity

_LOUDER: Final = 4.0
"""Ratio of powers, 6 dB, from which a frame of speech belongs to one side: the other side of a call
is heard more quietly, and one person before two microphones about equally loud."""
_MIN_SPEECH_S: Final = 1.5


def choose(decoded: Decoded, channel: Channel) -> tuple[Audio, list[str]]:
    """Return the channel that was asked for, without a notice, or what `mix_to_mono` returns.

    Left and right are the first two channels. Raises Refused AUDIO_CHANNEL_MISSING,
    AUDIO_PHASE_CANCEL.
    """
    if channel == "mix":
        return mix_to_mono(decoded)
    count = len(decoded.channels)
    if channel == "loudest":
        index = int(_powers(decoded).argmax())
    elif count == 1:
        raise Refused("AUDIO_CHANNEL_MISSING")
    else:
        index = 0 if channel == "left" else 1
    return Audio(np.ascontiguousarray(decoded.channels[index]), decoded.rate), []


def mix_to_mono(decoded: Decoded) -> tuple[Audio, list[str]]:
    """Return the centre of a surround recording unless it is silent, the louder of two channels if
    the other is silent, else the mean; and DOWNMIXED if channels differ. Raises Refused
    AUDIO_PHASE_CANCEL if the channels cancel out."""
    channels = decoded.channels
    power = _powers(decoded)
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
        raise Refused("AUDIO_PHASE_CANCEL")
    return Audio(mixed, decoded.rate), [] if _are_equal(decoded) else ["DOWNMIXED"]


def both_speak(sides: Sequence[Samples], masks: Sequence[NDArray[np.bool_]]) -> bool:
    """Return whether each of two channels at 16 kHz has a speaker of its own: at least 1.5 s of
    speech that is louder there than in the other channel. masks: `Activity.mask` of each."""
    count = min(map(len, masks))
    frames = (side[: count * activity.HOP].reshape(count, -1) for side in sides)
    one, other = (np.mean(np.square(frame, dtype=np.float64), axis=1) for frame in frames)
    own = (masks[0][:count] & (one > _LOUDER * other), masks[1][:count] & (other > _LOUDER * one))
    return bool(min(mask.sum() for mask in own) * activity.HOP >= _MIN_SPEECH_S * activity.RATE)


def _powers(decoded: Decoded) -> NDArray[np.float64]:
    # One channel at a time, because the memory of this process is limited.
    return np.array([np.var(samples, dtype=np.float64) for samples in decoded.channels])


def _are_equal(decoded: Decoded) -> bool:
    first, *others = decoded.channels
    return all(np.array_equal(first, other) for other in others)
