from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from core.audio.waveform import Audio
from core.errors import Misconfigured
from core.speech import recognise
from core.speech.recognise import Recogniser
from tests.support.speech import load_recording


@pytest.mark.parametrize(
    ("reference", "transcript", "language", "rate"),
    [
        pytest.param("a b c d", "a b c d", "en", 0, id="same"),
        pytest.param("a b c d", "a x c", "en", 0.5, id="one-wrong-one-missing"),
        pytest.param("Don't stop!", "dont stop", "en", 0, id="marks-do-not-count"),
        pytest.param("a", "a b c", "en", 2, id="insertions-may-exceed-one"),
        pytest.param("今天天气", "今天天汽。", "zh", 0.25, id="characters"),
        pytest.param("ＡＢ", "ab", "ja", 0, id="width-does-not-count"),
        pytest.param("", "", "en", 0, id="nothing"),
    ],
)
def test_error_rate_counts_edits(
    reference: str, transcript: str, language: str, rate: float
) -> None:
    assert recognise.error_rate(reference, transcript, language) == rate


@pytest.mark.slow
def test_a_real_recording_is_transcribed(recogniser: Recogniser) -> None:
    transcript = recogniser.transcribe(load_recording("ref_1688.flac"), "en")
    assert len(transcript.split()) > 10
    assert transcript == recogniser.transcribe(load_recording("ref_1688.flac"), "en")


def test_long_audio_is_split_where_it_is_quiet() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 40 * 16_000).astype(np.float32)
    noise[25 * 16_000 : 25 * 16_000 + 8_000] = 0
    windows = recognise._windows(noise)
    assert sum(map(len, windows)) == len(noise)
    assert [round(len(w) / 16_000) for w in windows] == [25, 15]


def test_features_have_the_models_shape_and_range() -> None:
    features = recognise._log_mel(load_recording("ref_1688.flac").samples)
    assert features.shape == (80, 3000)
    assert features.dtype == np.float32
    assert features.max() - features.min() <= 2.0001


def test_a_missing_package_is_named() -> None:
    with pytest.raises(ImportError, match="not installed"):
        recognise._package_data("no_such_package_for_speech")


@pytest.mark.parametrize("package", ["ctranslate2", recognise._PACKAGES[1]])
def test_without_its_packages_recognition_says_how_to_install_them(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(Misconfigured, match="MODEL_MISSING") as caught:
        recognise.Recogniser.load()
    assert caught.value.message == (
        "Speech recognition (whisper) is not installed. Install it: scripts/setup asr"
    )


def test_a_recogniser_that_cannot_be_loaded_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ctranslate2.py").write_text("raise ImportError('libgomp.so.1 is not there')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "ctranslate2", raising=False)
    with pytest.raises(Misconfigured, match="installed but cannot be loaded: libgomp") as caught:
        recognise.Recogniser.load()
    assert caught.value.code == "MODEL_MISSING"


@pytest.mark.slow
def test_silence_transcribes_to_little(recogniser: Recogniser) -> None:
    silence = Audio(np.zeros(16_000, np.float32), 16_000)
    assert len(recogniser.transcribe(silence, "en")) < 40
