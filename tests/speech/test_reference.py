"""The steps of preparing a reference recording."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from core.audio.decoding import Decoded, decode
from core.audio.loudness import loudness
from core.audio.waveform import Audio, join, peak, resample, silence
from core.errors import Refused
from core.speech import activity, preparation
from core.speech.channels import mix_to_mono
from core.speech.preparation import (
    choose_window,
    compress,
    measure_clipping,
)
from core.speech.reference import Steps, prepare
from tests.support.recordings.cases import long_speech, melody, wav
from tests.support.recordings.files import noise, pack
from tests.support.recordings.files import speech as reading

NOTHING = Steps(window=True, trim=False, loudness=None)
ROOT = Path(__file__).parents[2]


def surround(channels: list[np.ndarray]) -> Decoded:
    return Decoded(np.stack(channels).astype(np.float32), 16_000, "wav", "pcm_16")


def test_without_steps_a_short_recording_passes_unchanged() -> None:
    prepared = prepare(wav(), "a.wav", NOTHING)
    np.testing.assert_array_equal(prepared.audio.samples, decode(wav(), name="a.wav").channels[0])
    assert prepared.window == (0.0, prepared.seconds)


def test_a_reference_has_digest_length_and_quality() -> None:
    prepared = prepare(wav(), "a.wav")
    assert prepared.sha256 == hashlib.sha256(wav()).hexdigest()
    assert prepared.seconds == pytest.approx(4.38)
    assert 2 < prepared.quality.speech_s < 4.4
    assert prepared.quality.snr_db > 20
    assert prepared.quality.clipped == 0
    assert prepared.quality.bandwidth_hz == 8_000


def test_preparing_is_deterministic() -> None:
    one, two = prepare(wav(), "a.wav"), prepare(wav(), "a.wav")
    np.testing.assert_array_equal(one.audio.samples, two.audio.samples)
    assert one.quality == two.quality


def test_loudness_and_level_are_as_configured() -> None:
    assert loudness(prepare(wav(), "a.wav").audio) == pytest.approx(-26, abs=0.05)
    loud = prepare(wav(), "a.wav", replace(NOTHING, level=0.9))
    assert peak(loud.audio.samples) == pytest.approx(0.9)


def test_resample_gives_16_khz_and_other_rates_are_limited_to_48() -> None:
    data = pack(resample(reading(), 96_000).samples, 96_000)
    assert prepare(data, "a.wav").audio.rate == 48_000
    assert prepare(data, "a.wav", replace(NOTHING, resample=True)).audio.rate == 16_000


def test_pad_adds_half_a_second_of_silence_up_to_ten_seconds_in_all() -> None:
    padded = prepare(wav(), "a.wav", replace(NOTHING, pad=True))
    assert padded.audio.seconds == pytest.approx(5.38)
    assert not padded.audio.samples[:8_000].any()
    assert not padded.audio.samples[-8_000:].any()
    nearly = np.concatenate([reading().samples, reading("ref_1688.flac").samples])[
        : int(9.6 * 16e3)
    ]
    data = pack(np.concatenate([nearly, nearly])[: int(9.6 * 16e3)])
    assert prepare(data, "a.wav", replace(NOTHING, pad=True)).audio.seconds == pytest.approx(10)
    assert prepare(pack(long_speech()), "a.wav", Steps(pad=True)).audio.seconds <= 10


def test_trim_removes_non_speech_but_keeps_three_seconds() -> None:
    late = join([silence(3, 16_000), reading(), silence(2, 16_000)])
    trimmed = prepare(pack(late.samples), "a.wav")
    assert 2.5 < trimmed.window[0] < 3.6
    assert 6.5 < trimmed.window[1] < 7.7
    brief = Audio(reading().samples[:40_000], 16_000)
    short = prepare(pack(join([silence(3, 16_000), brief, silence(3, 16_000)]).samples), "a.wav")
    assert short.audio.seconds == pytest.approx(3, abs=0.01)


@pytest.mark.parametrize("edge", ["start", "end"])
def test_trim_keeps_three_seconds_at_the_edges_of_a_recording(edge: str) -> None:
    brief, gap = Audio(reading().samples[:36_000], 16_000), silence(2, 16_000)
    samples = join([brief, gap] if edge == "start" else [gap, brief]).samples
    assert prepare(pack(samples), "a.wav").audio.seconds >= 3


def test_the_best_window_avoids_noise_and_music() -> None:
    parts = [noise(6), reading().samples, reading("ref_1688.flac").samples, melody(), noise(6)]
    prepared = prepare(pack(np.concatenate(parts)), "a.wav")
    assert 5.5 < prepared.window[0] < 7
    assert 13 < prepared.window[1] < 15.5
    assert 6 < prepared.audio.seconds <= 10


def test_the_best_window_begins_and_ends_in_pauses() -> None:
    mask = np.zeros(3_000, bool)
    for start, stop in [(100, 500), (540, 980), (1_100, 1_600), (1_650, 2_050)]:
        mask[start:stop] = True
    assert choose_window(mask, 10.0) == (10.9, 20.6)


def test_speech_without_pauses_is_cut_to_the_maximum_length() -> None:
    mask = np.zeros(3_000, bool)
    mask[200:2_800] = True
    start, stop = choose_window(mask, 9.0)
    assert stop - start == 9.0
    assert mask[int(start * 100) : int(stop * 100)].all()


def test_a_long_recording_is_refused_without_the_window_step() -> None:
    with pytest.raises(Refused) as refusal:
        prepare(pack(long_speech()), "a.wav", Steps(window=False))
    assert refusal.value.code == "AUDIO_TOO_LONG"


def test_a_second_of_speech_in_much_silence_is_too_short() -> None:
    word = Audio(reading().samples[8_000:20_000], 16_000)
    data = pack(join([silence(3, 16_000), word, silence(3, 16_000)]).samples)
    with pytest.raises(Refused) as refusal:
        prepare(data, "a.wav")
    assert refusal.value.code == "AUDIO_TOO_SHORT"
    assert "of speech" in refusal.value.message


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda x: x * 0.02 / np.abs(x).max(), "LOW_LEVEL"),
        (lambda x: 0.3 * x / np.abs(x).max() + noise(len(x) / 16_000) * 0.2, "NOISY"),
    ],
    ids=["quiet", "noisy"],
)
def test_poor_recordings_get_a_notice(
    change: Callable[[NDArray[np.float32]], NDArray[np.float32]], code: str
) -> None:
    prepared = prepare(pack(change(reading().samples)), "a.wav")
    assert [notice.code for notice in prepared.notices] == [code]


def test_a_silent_centre_is_not_chosen() -> None:
    talk = reading().samples
    rest = np.zeros_like(talk)
    mixed, codes = mix_to_mono(surround([talk, talk * 0.5, rest, rest, rest, rest]))
    assert codes == ["DOWNMIXED"]
    np.testing.assert_allclose(mixed.samples, talk * 0.25, atol=1e-6)
    centre, _ = mix_to_mono(surround([talk * 0.1, talk * 0.1, talk, rest, rest, rest]))
    np.testing.assert_array_equal(centre.samples, talk)


def test_four_channels_have_no_centre() -> None:
    talk = reading().samples
    mixed, _ = mix_to_mono(surround([talk, talk, talk * 0.5, talk * 0.5]))
    np.testing.assert_allclose(mixed.samples, talk * 0.75, atol=1e-6)


def test_clipping_is_counted_at_both_limits() -> None:
    x = reading().samples
    assert measure_clipping(x) < 1e-4
    assert measure_clipping(np.clip(x, -1, np.quantile(x, 0.98))) > 0.01
    assert measure_clipping(np.clip(x, np.quantile(x, 0.02), 1)) > 0.01
    assert measure_clipping(np.zeros(100, np.float32)) == 0


def test_compression_raises_quiet_passages_but_not_pauses_and_peaks() -> None:
    t = np.arange(32_000) / 16_000
    tone = np.sin(2 * np.pi * 200 * t).astype(np.float32)
    parts = [Audio(tone * gain, 16_000) for gain in (0.8, 0.05, 0.0005)]
    flat = compress(join(parts))
    loud, weak, still = (peak(flat.samples[at + 4_000 : at + 28_000]) for at in (0, 32_000, 64_000))
    assert loud == pytest.approx(0.8, rel=0.02)
    assert weak == pytest.approx(0.05 * 10 ** (6.04 / 20), rel=0.05)
    assert still == pytest.approx(0.0005, rel=0.02)


def test_compression_is_an_optional_step() -> None:
    plain = prepare(wav(), "a.wav", NOTHING).audio.samples
    raised = prepare(wav(), "a.wav", replace(NOTHING, compress=True)).audio.samples
    assert np.sqrt(np.mean(raised**2)) > 1.05 * np.sqrt(np.mean(plain**2))


def test_compression_of_silence_is_silence() -> None:
    assert not compress(silence(1, 16_000)).samples.any()


def test_a_dc_offset_is_removed_without_changing_the_speech() -> None:
    prepared = prepare(pack(reading().samples + 0.4, subtype="FLOAT"), "a.wav", NOTHING)
    assert abs(prepared.audio.samples.mean()) < 1e-3
    assert np.corrcoef(prepared.audio.samples, reading().samples)[0, 1] > 0.99


def test_speech_is_detected_in_noise_telephone_and_clipped_audio() -> None:
    samples = reading("ref_1688.flac").samples
    for changed in (
        samples + noise(len(samples) / 16_000) * 0.1,
        resample(resample(Audio(samples, 16_000), 8_000), 16_000).samples,
        np.clip(samples * 8, -0.5, 0.5),
    ):
        assert preparation.find_speech(Audio(changed, 16_000)).seconds > 2


def test_very_short_audio_has_no_speech() -> None:
    for count in (0, 1, 700):
        assert activity.detect_speech(np.zeros(count, np.float32)).seconds == 0


def test_bandwidth_without_speech_is_the_nyquist_rate() -> None:
    quiet = activity.Activity(np.zeros(100, bool), 0.0)
    assert preparation.measure_bandwidth(silence(1, 16_000), quiet) == 8_000


@pytest.mark.slow
def test_ten_minutes_are_prepared_in_seconds(tmp_path: Path) -> None:
    whole = np.tile(reading().samples, 135)[: 590 * 16_000]
    prepared = prepare(pack(whole, container="FLAC"), "a.flac")
    assert [notice.code for notice in prepared.notices] == ["TRIMMED"]
