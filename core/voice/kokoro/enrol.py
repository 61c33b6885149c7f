"""Enrolment: find the voice parameters that imitate a reference recording. Search the space of
styles, then fit pitch, formants and tone colour, keeping each change only if the speaker encoders
agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from core import inference
from core.audio.waveform import Audio, resample
from core.speech.encoders import RATE as ENCODER_RATE
from core.speech.encoders import CamPlus, Encoder, Ge2e
from core.voice import Match
from core.voice.kokoro import surrogate, text
from core.voice.kokoro.render import (
    Renderer,
    VoiceParams,
    equalise,
    fit_equaliser,
    measure_spectrum,
)
from core.voice.kokoro.surrogate import Array, Surrogate, weighted_similarity

SEARCH_SENTENCES = ("The old house stood near the road.", "The boy was there when we came.")
"""The sentences with which the prior was trained."""
HELD_OUT_SENTENCES = (
    "She picked a basket of ripe apples for her mother.",
    "Tomorrow morning they will drive down to the lake.",
)
"""Sentences that the search does not use, on which the match is measured."""
DEFAULT_VOICE = "af_heart"
_LEVEL_RMS = 0.085
_AVERAGED = 5
_MIN_GAIN = 0.003
"""Smallest gain in similarity for which a change is kept; below, it is noise."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Voice parameters that were tried, and their score."""

    params: VoiceParams
    renders: list[Audio]
    scores: list[float]

    @property
    def score(self) -> float:
        return float(np.mean(self.scores))


@dataclass(frozen=True, slots=True)
class Enroller:
    """Finds the voice parameters for a reference recording."""

    renderer: Renderer
    encoders: tuple[Encoder, Encoder]
    prior: surrogate.Prior
    trials: int
    """Number of styles to render and compare; more is slower and slightly more similar."""

    @classmethod
    def load(cls, renderer: Renderer, *, threads: int = 1) -> Enroller:
        """Load the encoders, with as many trials as fit into half a minute of one thread."""
        encoders = (Ge2e.load(threads=threads), CamPlus.load(threads=threads))
        trials = 20 if inference.has_vnni() else 13
        return cls(renderer, encoders, surrogate.load(), trials)

    def enrol(self, reference: Audio) -> tuple[VoiceParams, dict[str, Match]]:
        """Return the parameters, and the match by encoder, measured on the held-out sentences."""
        speech = resample(reference, ENCODER_RATE)
        target = self._embed(speech)
        params = self._search(target)
        params = self._adjust_sound(params, speech, target)
        return params, self._measure_match(params, target)

    def _search(self, target: Array) -> VoiceParams:
        """Render the style with the best prediction, add it to the surrogate, and repeat.

        The similarity of one sentence is noisy, and very different styles score alike, so the mean
        of the best styles is better than the best one.
        """
        model = Surrogate.for_target(self.prior, target)
        sentences = [tokenise(sentence) for sentence in SEARCH_SENTENCES]
        tried: list[tuple[float, Array]] = []
        starts = self.prior.voice_points()
        for i in range(self.trials):
            point = model.optimise(starts)
            embedding = self._embed(self.renderer.render(sentences[i % 2], self._params_at(point)))
            model.add_observation(point, embedding)
            tried.append((weighted_similarity(embedding, target), point))
            tried.sort(key=lambda pair: -pair[0])
            starts = np.stack([point for _, point in tried[:3]])
        return self._params_at(np.mean([point for _, point in tried[:_AVERAGED]], axis=0))

    def _adjust_sound(self, params: VoiceParams, speech: Audio, target: Array) -> VoiceParams:
        """Fit pitch, formants, then tone colour, each kept only if it raises the similarity."""
        sentences = [tokenise(sentence) for sentence in SEARCH_SENTENCES]
        rendered = [self.renderer.render_with_pitch(ids, params) for ids in sentences]
        own_pitch = float(np.exp(np.mean([np.log(hertz) for _, hertz in rendered])))
        ratio = float(np.clip(measure_pitch(speech) / own_pitch, 0.6, 1.7))
        best = self._evaluate(params, [audio for audio, _ in rendered], target)
        for pitched in (ratio**0.5, ratio):  # if half the change is no gain, the whole is not tried
            changed = msgspec.structs.replace(best.params, pitch=pitched)
            if (better := self._evaluate_if_better(changed, sentences, best, target)) is None:
                break
            best = better
        for formants in (0.94, 1.06):
            changed = msgspec.structs.replace(best.params, formants=formants)
            if (better := self._evaluate_if_better(changed, sentences, best, target)) is not None:
                best = better
                break
        return self._adjust_tone(best, speech, target)

    def _evaluate_if_better(
        self, params: VoiceParams, sentences: Sequence[list[int]], best: Candidate, target: Array
    ) -> Candidate | None:
        """Return the candidate if it beats the best so far. The second sentence is rendered only if
        the first is not worse."""
        first = self._evaluate(params, [self.renderer.render(sentences[0], params)], target)
        if first.scores[0] < best.scores[0]:
            return None
        renders = [*first.renders, *(self.renderer.render(ids, params) for ids in sentences[1:])]
        candidate = self._evaluate(params, renders, target)
        return candidate if candidate.score > best.score + _MIN_GAIN else None

    def _adjust_tone(self, best: Candidate, speech: Audio, target: Array) -> VoiceParams:
        original = best.renders
        joined = Audio(np.concatenate([audio.samples for audio in original]), original[0].rate)
        full = fit_equaliser(measure_spectrum(joined), measure_spectrum(speech))
        for share in (0.5, 1.0):
            tone = [share * c for c in full]
            changed = msgspec.structs.replace(best.params, tone=tone)
            filtered = [Audio(equalise(audio.samples, tone), audio.rate) for audio in original]
            candidate = self._evaluate(changed, filtered, target)
            if candidate.score > best.score + _MIN_GAIN:
                best = candidate
        return best.params

    def _evaluate(self, params: VoiceParams, renders: list[Audio], target: Array) -> Candidate:
        return Candidate(
            params, renders, [weighted_similarity(self._embed(audio), target) for audio in renders]
        )

    def _measure_match(self, params: VoiceParams, target: Array) -> dict[str, Match]:
        renders = [self.renderer.render(tokenise(s), params) for s in HELD_OUT_SENTENCES]
        parts = np.split(np.stack([target, *map(self._embed, renders)]), [256], axis=1)
        return {
            encoder.name: Match(
                default=float(np.mean(self.prior.default[encoder.name] @ part[0])),
                achieved=float(np.mean(part[1:] @ part[0])),
                same_person=encoder.same_person,
            )
            for encoder, part in zip(self.encoders, parts, strict=True)
        }

    def _embed(self, audio: Audio) -> Array:
        """Return the concatenated embeddings of both encoders, shape (448,)."""
        speech = set_level(resample(audio, ENCODER_RATE))
        return np.concatenate([encoder.embed(speech) for encoder in self.encoders])

    def _params_at(self, point: Array) -> VoiceParams:
        timbre, prosody = self.prior.weights(point)
        return VoiceParams(timbre=timbre.tolist(), prosody=prosody.tolist())


def set_level(speech: Audio) -> Audio:
    """Scale speech to the level of the prior's renders, because GE2E embeddings depend on it."""
    rms = float(np.sqrt(np.mean(speech.samples.astype(np.float64) ** 2)))
    return Audio(speech.samples * np.float32(_LEVEL_RMS / max(rms, 1e-6)), speech.rate)


def tokenise(sentence: str) -> list[int]:
    """Return the token ids of one English sentence."""
    ((_, ids),) = text.split_utterances(sentence, "en")
    return ids


def measure_pitch(speech: Audio, *, lowest: float = 60.0, highest: float = 400.0) -> float:
    """Return the median pitch in Hz of clearly voiced frames by autocorrelation, else 150."""
    rate = speech.rate
    size, hop = int(0.05 * rate), int(0.02 * rate)
    wave = np.pad(speech.samples.astype(np.float64), (0, size))
    frames = np.lib.stride_tricks.sliding_window_view(wave, size)[::hop]
    frames = frames - frames.mean(axis=1, keepdims=True)
    spectra = np.abs(np.fft.rfft(frames * np.hanning(size), 2 * size, axis=1)) ** 2
    correlation = np.fft.irfft(spectra, axis=1)[:, : int(rate / lowest) + 1]
    window = np.fft.irfft(np.abs(np.fft.rfft(np.hanning(size), 2 * size)) ** 2)
    level = correlation[:, :1] + 1e-12
    correlation = correlation / level / (window[: correlation.shape[1]] / window[0])
    lags = _first_peak(correlation, int(rate / highest))
    clarity = correlation[np.arange(len(lags)), lags]
    voiced = (clarity > 0.7) & (level[:, 0] > 0.01 * level.max())
    if not voiced.any():
        return 150.0
    return float(np.exp(np.median(np.log(rate / lags[voiced]))))


def _first_peak(correlation: Array, shortest: int) -> NDArray[np.intp]:
    """Return the shortest lag with nearly the highest peak: multiples of the period are as high."""
    middle = correlation[:, shortest:-1]
    peak = (middle >= correlation[:, shortest - 1 : -2]) & (
        middle >= correlation[:, shortest + 1 :]
    )
    high = middle >= 0.85 * middle.max(axis=1, keepdims=True)
    return np.asarray(np.argmax(peak & high, axis=1) + shortest)
