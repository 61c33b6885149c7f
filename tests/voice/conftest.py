from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from core.audio.waveform import Audio
from core.voice import Voiceprint
from core.voice.kokoro import KokoroVoice
from tests.support.speech import load_recording


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kokoro")


@pytest.fixture(scope="session")
def voice(cache: Path) -> KokoroVoice:
    """The real engine with a shorter search."""
    engine = KokoroVoice.load(cache)
    return replace(engine, enroller=replace(engine.enroller, trials=2, workers=1))


@pytest.fixture(scope="session")
def reference() -> Audio:
    return load_recording("ref_1688.flac")


@pytest.fixture(scope="session")
def voiceprint(voice: KokoroVoice, reference: Audio) -> Voiceprint:
    return voice.enrol(reference, "", "en")
