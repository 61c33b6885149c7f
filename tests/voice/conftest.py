from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import soundfile

from core.audio import Audio
from core.recognise import Recogniser
from core.speaker import CamPlus, Ge2e
from core.voice import Voiceprint
from core.voice.kokoro import KokoroVoice

SPEECH = Path(__file__).parents[1] / "data/speech"


def recording(name: str) -> Audio:
    samples, rate = soundfile.read(SPEECH / name, dtype="float32")
    return Audio(samples[: 10 * rate], rate)


@pytest.fixture(scope="session")
def encoders() -> tuple[Ge2e, CamPlus]:
    return Ge2e.load(), CamPlus.load()


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kokoro")


@pytest.fixture(scope="session")
def voice(cache: Path) -> KokoroVoice:
    """The real engine, searching less than it would."""
    engine = KokoroVoice.load(cache)
    return replace(engine, enroller=replace(engine.enroller, renders=2))


@pytest.fixture(scope="session")
def reference() -> Audio:
    return recording("ref_1688.flac")


@pytest.fixture(scope="session")
def voiceprint(voice: KokoroVoice, reference: Audio) -> Voiceprint:
    return voice.enrol(reference, "", "en")


@pytest.fixture(scope="session")
def recogniser() -> Recogniser:
    return Recogniser.load()
