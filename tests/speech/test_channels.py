"""Calls that are recorded in two channels, and calls of any length."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from core.errors import Refused
from core.manifest.fields import Channel
from core.speech.reference import Reference, prepare
from tests.support.recordings.files import noise, pack, speech

RATE = 16_000
AGENT = speech("ref_367.flac").samples[: 4 * RATE]
CUSTOMER = speech("ref_1688.flac").samples[: 4 * RATE]
SILENCE = np.zeros(4 * RATE, np.float32)


def call(crosstalk: float = 0.0) -> NDArray[np.float32]:
    """Return a call, (n, 2): the agent speaks on the left, then the customer on the right."""
    left, right = np.concatenate([AGENT, SILENCE]), np.concatenate([SILENCE, CUSTOMER])
    hiss = noise(8) * np.float32(0.001)
    sides = [left + crosstalk * right + hiss, right + crosstalk * left + hiss[::-1]]
    return np.stack(sides, axis=1).astype(np.float32)


def prepared(samples: NDArray[np.float32], channel: Channel = "mix") -> Reference:
    return prepare(pack(samples), "call.wav", channel=channel)


def codes(reference: Reference) -> list[str]:
    return [notice.code for notice in reference.notices]


@pytest.mark.parametrize(
    ("channel", "window"),
    [("left", (0.0, 4.3)), ("right", (3.7, 8.0)), ("loudest", (0.0, 8.0))],
)
def test_a_side_of_a_call_is_chosen_without_remarks(
    channel: Channel, window: tuple[float, float]
) -> None:
    one = prepared(call(), channel)
    assert window[0] <= one.window[0] < one.window[1] <= window[1]
    assert codes(one) == []


def test_the_loudest_side_is_chosen() -> None:
    louder = call() * np.array([0.2, 1.0], np.float32)
    np.testing.assert_allclose(
        prepared(louder, "loudest").audio.samples, prepared(louder, "right").audio.samples
    )


@pytest.mark.parametrize("crosstalk", [0.0, 0.1, 0.3])
def test_both_sides_of_a_call_are_noticed_through_crosstalk(crosstalk: float) -> None:
    assert codes(prepared(call(crosstalk))) == ["DOWNMIXED", "BOTH_SIDES_SPEAK"]


@pytest.mark.parametrize(
    "samples",
    [
        np.stack([AGENT, AGENT], axis=1),
        np.stack([AGENT, 0.4 * AGENT], axis=1),
        np.stack([AGENT, np.roll(AGENT, 8)], axis=1),
        np.stack([AGENT, noise(4) * np.float32(0.002)], axis=1),
        np.stack([AGENT, SILENCE], axis=1),
    ],
    ids=["equal", "panned", "two microphones", "hiss", "silence"],
)
def test_one_person_in_two_channels_is_no_call(samples: NDArray[np.float32]) -> None:
    assert "BOTH_SIDES_SPEAK" not in codes(prepared(samples))


@pytest.mark.parametrize("channel", ["left", "right"])
def test_a_recording_of_one_channel_has_no_sides(channel: Channel) -> None:
    with pytest.raises(Refused) as refusal:
        prepared(AGENT, channel)
    assert (refusal.value.code, refusal.value.pointer) == ("AUDIO_CHANNEL_MISSING", "call.wav")
    assert prepared(AGENT, "loudest").audio.seconds > 3


def test_the_loudest_channel_of_one_that_cancels_the_other_is_used() -> None:
    opposite = np.stack([AGENT, -0.9 * AGENT], axis=1)
    assert prepared(opposite, "loudest").audio.seconds > 3


def test_a_voice_is_learned_from_the_first_thirty_seconds_of_a_call() -> None:
    """The customer is heard later only. The call lasts more than ten minutes."""
    start = np.concatenate([noise(8) * np.float32(0.001), AGENT, noise(20) * np.float32(0.001)])
    rest = np.tile(CUSTOMER, 150)
    data = pack(np.concatenate([start, rest]), container="FLAC")
    with pytest.raises(Refused) as refusal:
        prepare(data, "call.flac")
    assert refusal.value.code == "AUDIO_TOO_LONG"
    one = prepare(data, "call.flac", window="first_30s")
    assert 7 < one.window[0] < one.window[1] < 13
    assert (one.seconds, codes(one)) == (30, ["TRIMMED"])


@pytest.mark.parametrize(
    ("start", "code"),
    [
        (noise(31) * np.float32(0.1), "AUDIO_NO_SPEECH"),
        (np.zeros(31 * RATE, np.float32), "AUDIO_SILENT"),
        (np.concatenate([np.zeros(29 * RATE, np.float32), AGENT[:RATE]]), "AUDIO_TOO_SHORT"),
    ],
    ids=["no speech", "silence", "little speech"],
)
def test_a_beginning_without_speech_is_refused_as_such(
    start: NDArray[np.float32], code: str
) -> None:
    data = pack(np.concatenate([start, AGENT]), container="FLAC")
    with pytest.raises(Refused) as refusal:
        prepare(data, "call.flac", window="first_30s")
    assert refusal.value.code == code
    assert "first thirty seconds" in refusal.value.message
    assert refusal.value.message.endswith(": leave `window` out.")
    assert prepare(data, "call.flac").window[1] > 30


def test_a_silent_recording_of_less_than_thirty_seconds_is_silent() -> None:
    with pytest.raises(Refused) as refusal:
        prepare(pack(SILENCE), "call.wav", window="first_30s")
    assert refusal.value.message == Refused("AUDIO_SILENT").advice
