from __future__ import annotations

import itertools
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import ClassVar

import msgspec
import numpy as np
import pytest

from core.audio.waveform import Audio
from core.errors import Failed, Refused
from core.speech.recognise import Recogniser, error_rate
from core.voice import Voiceprint
from core.voice.kokoro import KokoroVoice, enrol, render, styles, surrogate
from core.voice.kokoro.render import Renderer, VoiceParams
from core.voice.kokoro.surrogate import Surrogate

pytestmark = pytest.mark.slow


def joined(chunks: Iterable[Audio]) -> Audio:
    parts = list(chunks)
    return Audio(np.concatenate([part.samples for part in parts]), parts[0].rate)


def test_enrolment_raises_the_similarity_for_both_encoders(voiceprint: Voiceprint) -> None:
    assert set(voiceprint.match) == {"ge2e", "campplus"}
    for match in voiceprint.match.values():
        assert match.default < match.achieved < match.same_person
        assert match.achieved - match.default > 0.2 * (match.same_person - match.default)


def test_stored_embeddings_of_the_unadapted_voice_are_current(
    voice: KokoroVoice,
) -> None:
    timbre, prosody = styles.load().weights_of(enrol.DEFAULT_VOICE).tolist()
    params = VoiceParams(timbre=timbre, prosody=prosody)
    stored = voice.enroller.prior.default
    for i, sentence in enumerate(enrol.HELD_OUT_SENTENCES):
        embedding = voice.enroller.embed(voice.renderer.render(enrol.tokenise(sentence), params))
        for name, part in zip(("ge2e", "campplus"), np.split(embedding, [256]), strict=True):
            assert stored[name][i] @ part > 0.98, "run bench/voice_prior.py --keep-networks"


def test_a_voiceprint_is_small_and_can_be_stored(
    voice: KokoroVoice, voiceprint: Voiceprint
) -> None:
    stored = voiceprint.dump()
    assert len(stored) < 4096
    assert Voiceprint.parse(stored) == voiceprint
    assert voiceprint.fingerprint == voice.fingerprint
    assert "approximate" in voice.name


class Buzz(Renderer):
    """A renderer of quick sounds that depend on the voice, the first of three always the last."""

    calls: ClassVar = itertools.count()

    def render_with_pitch(self, tokens: list[int], params: VoiceParams) -> tuple[Audio, float]:
        time.sleep(0.2 if next(self.calls) % 3 == 0 else 0)
        seconds = np.arange(24_000 + 100 * len(tokens)) / 24_000
        hertz = params.pitch * 100 * np.arange(1, 55)[:, None]
        partials = np.abs(params.weights[0])[:, None] * np.sin(2 * np.pi * hertz * seconds)
        return Audio(partials.sum(axis=0).astype(np.float32), 24_000), 100 * params.pitch


def test_the_voiceprint_does_not_depend_on_the_number_of_workers(
    voice: KokoroVoice, reference: Audio
) -> None:
    buzz = replace(voice.enroller, renderer=Buzz(voice.renderer.model), trials=6)
    one, three = (replace(buzz, workers=workers).enrol(reference) for workers in (1, 3))
    assert one == three


def test_renders_beside_each_other_are_those_of_a_single_thread(
    voice: KokoroVoice, voiceprint: Voiceprint
) -> None:
    params = msgspec.msgpack.decode(voiceprint.data, type=VoiceParams)

    def embed(word: str) -> tuple[bytes, bytes]:
        audio = voice.renderer.render(enrol.tokenise(word), params)
        return audio.samples.tobytes(), voice.enroller.embed(audio).tobytes()

    words = ("Yes.", "No, no.", "Go!")
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(embed, words)) == [embed(word) for word in words]


@pytest.mark.parametrize(
    ("language", "text", "limit"),
    [
        ("en", "The weather is lovely today, and we are going to the park.", 0.1),
        ("zh", "今天天气很好，我们去公园散步吧。", 0.3),
        ("ja", "こんにちは、今日はとてもいい天気ですね。", 0.3),
    ],
)
def test_speech_is_understood(
    voice: KokoroVoice,
    voiceprint: Voiceprint,
    recogniser: Recogniser,
    language: str,
    text: str,
    limit: float,
) -> None:
    spoken = joined(voice.speak(text, voiceprint, language=language))
    assert spoken.rate == voice.rate == 24_000
    assert spoken.samples.dtype == np.float32
    assert np.abs(spoken.samples).max() <= 1
    transcript = recogniser.transcribe(spoken, language)
    simplified = transcript.translate(str.maketrans("氣們園會說這", "气们园会说这"))
    assert error_rate(text, simplified, language) <= limit


def test_each_sentence_is_a_chunk_and_synthesis_is_deterministic(
    voice: KokoroVoice, voiceprint: Voiceprint
) -> None:
    first = list(voice.speak("One. Two!", voiceprint, language="en", seed=1))
    second = list(voice.speak("One. Two!", voiceprint, language="en", seed=2))
    assert len(first) == 2
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.samples, b.samples)


def test_speed_changes_the_duration(voice: KokoroVoice, voiceprint: Voiceprint) -> None:
    normal, slow, fast = (
        joined(voice.speak("We count to ten.", voiceprint, language="en", speed=speed)).seconds
        for speed in (1.0, 0.5, 2.0)
    )
    assert slow == pytest.approx(2 * normal, abs=0.001)
    assert fast == pytest.approx(normal / 2, abs=0.001)


@pytest.mark.parametrize("speed", [0.5, 2.0])
def test_every_word_is_heard_at_every_speed(
    voice: KokoroVoice, voiceprint: Voiceprint, recogniser: Recogniser, speed: float
) -> None:
    text = "The weather is lovely today, so the children play in the park."
    spoken = joined(voice.speak(text, voiceprint, language="en", speed=speed))
    assert error_rate(text, recogniser.transcribe(spoken, "en"), "en") == 0


def test_unknown_languages_are_refused_before_any_work(
    voice: KokoroVoice, voiceprint: Voiceprint
) -> None:
    with pytest.raises(Refused) as caught:
        voice.speak("Привет", voiceprint, language="ru")
    assert caught.value.code == "LANGUAGE_UNSUPPORTED"


def test_text_without_words_is_refused(voice: KokoroVoice, voiceprint: Voiceprint) -> None:
    with pytest.raises(Refused) as caught:
        list(voice.speak("...", voiceprint, language="en"))
    assert caught.value.code == "TEXT_UNSPEAKABLE"


def test_a_voiceprint_of_another_engine_is_rejected(
    voice: KokoroVoice, voiceprint: Voiceprint
) -> None:
    other = msgspec.structs.replace(voiceprint, fingerprint="other/1")
    with pytest.raises(ValueError, match="enrol the voice again"):
        voice.speak("Hello.", other, language="en")


class Mute(Renderer):
    """A renderer that returns silence."""

    def render(self, tokens: list[int], params: VoiceParams) -> Audio:
        return Audio(np.zeros(2400, np.float32), 24_000)


def test_silence_is_a_failure(voice: KokoroVoice, voiceprint: Voiceprint) -> None:
    mute = replace(voice, renderer=Mute(voice.renderer.model))
    with pytest.raises(Failed) as caught:
        list(mute.speak("Hello.", voiceprint, language="en"))
    assert caught.value.code == "OUTPUT_SILENT"


def test_formants_move_but_pitch_and_duration_stay(
    voice: KokoroVoice, voiceprint: Voiceprint
) -> None:
    params = msgspec.msgpack.decode(voiceprint.data, type=VoiceParams)
    plain = msgspec.structs.replace(params, formants=1.0, tone=[])
    moved = msgspec.structs.replace(plain, formants=1.06)
    ids = enrol.tokenise("The boy was there when we came.")
    (a, low), (b, high) = (voice.renderer.render_with_pitch(ids, r) for r in (plain, moved))
    assert a.seconds == pytest.approx(b.seconds, rel=0.06)
    assert low == pytest.approx(high, rel=0.05)
    centroid = [
        float((np.arange(513) * 10 ** (render.measure_spectrum(x) / 10)).sum()) for x in (a, b)
    ]
    assert centroid[0] != centroid[1]


def test_silence_at_both_ends_becomes_a_short_pause() -> None:
    tone = np.sin(np.arange(24_000) / 10).astype(np.float32)
    padded = np.concatenate([np.zeros(12_000, np.float32), tone, np.zeros(12_000, np.float32)])
    assert len(render.trim(padded)) == pytest.approx(24_000 * 1.25, abs=40)
    assert len(render.trim(tone)) == pytest.approx(24_000 * 1.25, abs=40)
    assert len(render.trim(np.zeros(100, np.float32))) == 0


def test_the_equaliser_matches_one_spectrum_to_another() -> None:
    rng = np.random.default_rng(1)
    white = Audio(rng.normal(0, 0.1, 48_000).astype(np.float32), 24_000)
    dull = Audio(
        np.convolve(white.samples, np.ones(4, np.float32) / 4, "same").astype(np.float32), 24_000
    )
    tone = render.fit_equaliser(render.measure_spectrum(white), render.measure_spectrum(dull))
    made = Audio(render.equalise(white.samples, tone), 24_000)
    band = slice(20, 280)

    def distance(audio: Audio) -> float:
        difference = (render.measure_spectrum(audio) - render.measure_spectrum(dull))[band]
        return float(np.std(difference))

    assert distance(made) < 0.5 * distance(white)
    assert np.sqrt(np.mean(made.samples**2)) == pytest.approx(0.1, rel=0.05)


def test_equalising_without_a_tone_or_samples_changes_nothing() -> None:
    some = np.ones(5, np.float32)
    assert render.equalise(some, []) is some
    assert len(render.equalise(some[:0], [0.0, 1.0])) == 0


@pytest.mark.parametrize("hertz", [90.0, 150.0, 220.0])
def test_pitch_is_measured(hertz: float) -> None:
    time = np.arange(32_000) / 16_000
    partials = (np.sin(2 * np.pi * hertz * k * time) / k for k in range(1, 9))
    buzz = sum(partials, np.zeros_like(time))
    assert enrol.measure_pitch(Audio(buzz.astype(np.float32), 16_000)) == pytest.approx(
        hertz, rel=0.02
    )


def test_pitch_of_noise_is_the_default() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    assert enrol.measure_pitch(Audio(noise, 16_000)) == 150.0


def test_the_gradient_of_the_surrogate_is_correct() -> None:
    rng = np.random.default_rng(0)
    model = Surrogate.for_target(surrogate.load(), target(rng))
    for _ in range(2):
        model.add_observation(rng.normal(size=60), target(rng))
    point, step, pending = rng.normal(size=(1, 60)), rng.normal(size=60) * 1e-3, rng.normal(size=60)
    for apart in (np.zeros((0, 60)), np.stack([pending, point[0] + 1])):
        rise = model.score(point + step, apart)[0] - model.score(point - step, apart)[0]
        slope = model.score(point, apart)[1][0]
        assert slope @ step * 2 == pytest.approx(float(rise[0]), rel=0.02)


def test_an_observation_raises_the_prediction_at_its_point() -> None:
    rng = np.random.default_rng(0)
    goal = target(rng)
    model = Surrogate.for_target(surrogate.load(), goal)
    point = rng.normal(size=60)
    before = model.score(point[None])[0][0]
    model.add_observation(point, goal)
    assert model.score(point[None])[0][0] > before + 0.1


def test_optimise_improves_on_the_starting_points() -> None:
    rng = np.random.default_rng(0)
    prior = surrogate.load()
    model = Surrogate.for_target(prior, target(rng))
    starts = prior.voice_points()[:4]
    assert model.score(model.optimise(starts)[None])[0][0] > model.score(starts)[0].max()


def test_points_that_are_rendered_at_once_are_apart() -> None:
    prior = surrogate.load()
    model = Surrogate.for_target(prior, target(np.random.default_rng(0)))
    chosen = np.zeros((0, 60), np.float32)
    for _ in range(4):
        chosen = np.vstack([chosen, model.optimise(prior.voice_points(), chosen)])
    assert np.linalg.norm(chosen[:, None] - chosen[None], axis=2)[np.triu_indices(4, 1)].min() > 2


def target(rng: np.random.Generator) -> np.ndarray:
    return np.concatenate([v / np.linalg.norm(v) for v in (rng.random(256), rng.normal(size=192))])
