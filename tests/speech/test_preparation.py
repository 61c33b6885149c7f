"""The task of the confined process, in this process: it gives the same, and coverage sees it."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from numpy.typing import NDArray

from core.manifest.fields import Channel, Window
from core.speech import numba_cache
from core.speech.preparation import prepare_task
from core.speech.reference import PREPARATIONS, Steps, prepare
from tests.support.recordings.files import noise, pack, speech

pytestmark = pytest.mark.slow
RATE = 16_000
WORDS = speech("ref_367.flac").samples[: 4 * RATE]
OTHERS = speech("ref_1688.flac").samples[: 4 * RATE]
CALL = np.stack([np.concatenate([WORDS, 0 * OTHERS]), np.concatenate([0 * WORDS, OTHERS])], axis=1)
FAINT = np.asarray(0.04 * WORDS + 0.002 * noise(4) + 0.01, np.float32)
LONG = np.tile(np.concatenate([WORDS, OTHERS]), 5)
ACCEPTED: dict[str, tuple[NDArray[np.float32], str, Channel, Window]] = {
    "best": (WORDS, "best", "mix", "best"),
    "the article's": (WORDS, "article", "mix", "best"),
    "a call": (CALL + 0.001 * noise(8)[:, None], "best", "loudest", "best"),
    "a side of a call": (CALL, "best", "right", "best"),
    "both sides of a call": (CALL, "best", "mix", "best"),
    "a call with a silent side": (CALL * [1, 1e-5], "best", "mix", "best"),
    "the beginning of a long one": (LONG, "best", "mix", "first_30s"),
    "with an offset, quiet, noisy": (FAINT, "best", "mix", "best"),
}
REFUSED: dict[str, tuple[NDArray[np.float32], Channel]] = {
    "AUDIO_TOO_SHORT": (WORDS[:RATE], "mix"),
    "AUDIO_TOO_SHORT of speech": (np.pad(WORDS[:RATE], (RATE, 2 * RATE)), "mix"),
    "AUDIO_TOO_LONG": (LONG, "mix"),
    "AUDIO_SILENT": (0 * WORDS, "mix"),
    "AUDIO_NO_SPEECH": (0.1 * noise(4), "mix"),
    "AUDIO_CLIPPED": (np.clip(20 * WORDS, -1, 1), "mix"),
    "AUDIO_CHANNEL_MISSING": (WORDS, "left"),
    "AUDIO_PHASE_CANCEL": (np.stack([WORDS, -WORDS], axis=1), "mix"),
}


@pytest.mark.parametrize(("samples", "name", "channel", "window"), ACCEPTED.values(), ids=ACCEPTED)
def test_what_the_confined_process_prepares_is_the_same(
    samples: NDArray[np.float32], name: str, channel: Channel, window: Window
) -> None:
    data, steps = pack(np.asarray(samples, np.float32)), PREPARATIONS[name]
    expected = prepare(data, "a.wav", steps, channel=channel, window=window)
    written = bytearray()
    answer = prepare_task(
        data,
        lambda part: written.extend(memoryview(part).cast("B")),
        name="a.wav",
        steps=asdict(steps),
        channel=channel,
        window=window,
    )
    assert answer["notices"] == [notice.code for notice in expected.notices]
    assert tuple(answer["window"]) == expected.window
    samples = np.frombuffer(bytes(written), np.float32)
    np.testing.assert_array_equal(samples[: answer["count"]], expected.audio.samples)
    np.testing.assert_array_equal(samples[answer["count"] :], expected.mel.reshape(-1))


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_an_answer(case: str) -> None:
    samples, channel = REFUSED[case]
    data = pack(np.asarray(samples, np.float32))
    steps = asdict(Steps(window=False))
    answer = prepare_task(
        data, lambda part: None, name="a.wav", steps=steps, channel=channel, window="best"
    )
    code, _, what = case.partition(" ")
    assert answer["refused"] == code
    assert what in answer["message"]


def test_what_is_no_audio_is_an_answer_too() -> None:
    answer = prepare_task(
        b"Words.",
        lambda part: None,
        name="a.wav",
        steps=asdict(Steps()),
        channel="mix",
        window="best",
    )
    assert answer["refused"] == "AUDIO_UNRECOGNIZED"


def test_a_process_that_is_warm_has_a_folder_for_what_is_compiled() -> None:
    """Here one of the usual folders can be written."""
    numba_cache.warm_up()


def test_a_recording_at_a_higher_rate_is_resampled() -> None:
    fast = np.repeat(WORDS, 6)
    answer = prepare_task(
        pack(np.asarray(fast, np.float32), 6 * RATE),
        lambda part: None,
        name="a.wav",
        steps=asdict(Steps()),
        channel="mix",
        window="best",
    )
    assert answer["rate"] == 48_000
