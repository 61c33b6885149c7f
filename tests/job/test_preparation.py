"""How a recording is prepared is chosen by the manifest or by the operator, and stated."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from core.audio.waveform import Audio, peak
from core.job.runtime import Runtime
from core.result.item_result import VoiceUsed
from core.voice import Voiceprint
from tests.support.present import present
from tests.support.runtime import BuzzVoice, local_runtime, put_job, run_job, with_voice

pytestmark = pytest.mark.slow

ALICE = {"reference": "refs/alice.flac", "language": "en", "consent": "consent/alice.json"}


@dataclass
class KeepingVoice(BuzzVoice):
    """Keeps the audio that it learns from."""

    heard: list[Audio] = field(default_factory=list)

    def enrol(self, reference: Audio, transcript: str, language: str) -> Voiceprint:
        self.heard.append(reference)
        return super().enrol(reference, transcript, language)


@pytest.fixture
def voice() -> KeepingVoice:
    return KeepingVoice()


@pytest.fixture
def runtime(tmp_path: Path, voice: KeepingVoice) -> Runtime:
    return local_runtime(tmp_path, voice=voice)


def run(name: str, runtime: Runtime, reference: bytes | None = None, **choice: object) -> VoiceUsed:
    """Run a job whose voice has these fields; return what the result states about the voice."""
    items = [{"id": "words", "text": "Some words."}]
    voices = {"alice": ALICE | choice}
    key = put_job(runtime, name=name, items=items, reference=reference, voices=voices)
    return run_job(key, runtime).voices["alice"]


def test_the_article_s_chain_is_chosen_by_a_manifest(runtime: Runtime, voice: KeepingVoice) -> None:
    assert run("plain", runtime).prepare == "best"
    assert run("chosen", runtime, prepare="article").prepare == "article"
    best, article = voice.heard
    assert article.rate == 16_000
    assert peak(article.samples) == pytest.approx(0.9)
    assert not article.samples[:8_000].any()
    assert not article.samples[-8_000:].any()
    spoken = article.samples[8_000:-8_000]
    assert np.abs(best.samples[:80]).max() > 0 < np.abs(spoken[:80]).max()


def test_the_operator_chooses_for_manifests_that_do_not(
    runtime: Runtime, voice: KeepingVoice
) -> None:
    article = with_voice(runtime, voice, prepare="article")
    assert run("one", article).prepare == "article"
    assert run("two", article, prepare="best").prepare == "best"
    assert len(voice.heard) == 2
    assert run("three", article).prepare == "article"
    assert len(voice.heard) == 2


def test_the_result_states_the_channel_and_the_window(runtime: Runtime) -> None:
    plain, chosen = run("plain", runtime), run("chosen", runtime, channel="loudest")
    assert (plain.channel, plain.window) == ("mix", "best")
    assert (chosen.channel, chosen.window) == ("loudest", "best")
    failed = run("failed", runtime, channel="left", window="first_30s")
    assert present(failed.error).code == "AUDIO_CHANNEL_MISSING"
    assert (failed.channel, failed.window) == (None, None)
