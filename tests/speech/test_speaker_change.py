"""Speaker change detection on recordings of real readers."""

from __future__ import annotations

import numpy as np
import pytest

from core.audio.waveform import Audio, join
from core.speech import speaker_change
from core.speech.preparation import mel_of_speech
from tests.support.recordings.files import noise, speech

READERS = ("ref_367.flac", "ref_1688.flac", "2843-152918-0000.6s.flac", "7226-86964-0000.6s.flac")


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
def test_one_reader_is_one_speaker(reader: str) -> None:
    assert not speaker_change.has_several_speakers(mel_of_speech(speech(reader)))


def test_a_repeated_recording_is_one_speaker() -> None:
    assert not speaker_change.has_several_speakers(mel_of_speech(join([speech(), speech()])))


@pytest.mark.slow
@pytest.mark.parametrize("second", READERS[1:])
def test_two_readers_in_turn_are_two_speakers(second: str) -> None:
    assert speaker_change.has_several_speakers(mel_of_speech(join([speech(), speech(second)])))


def test_the_order_and_a_pause_do_not_matter() -> None:
    pause = Audio(np.zeros(16_000, np.float32), 16_000)
    assert speaker_change.has_several_speakers(
        mel_of_speech(join([speech("ref_1688.flac"), pause, speech()]))
    )


def test_too_little_speech_is_one_speaker() -> None:
    assert speaker_change.lowest_similarity(mel_of_speech(Audio(noise(4), 16_000))) == 1
    assert (
        speaker_change.lowest_similarity(mel_of_speech(Audio(speech().samples[:20_000], 16_000)))
        == 1
    )
