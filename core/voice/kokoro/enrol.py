"""Enrolment: find the voice parameters that imitate a reference recording. Search the space of
styles, then fit pitch, formants and tone colour, keeping each change only if the speaker encoders
agree."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
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
_AHEAD = 4
"""Most renders at once in the search of a style. The same on every machine, because the voiceprint
depends on it."""
_AVERAGED = 5
_MIN_GAIN = 0.003
"""Smallest gain in similarity for which a change is kept; below, it is noise."""


@dataclass(frozen=True, slots=True)
class Take:
    """A sentence as rendered, and how it compares with the reference."""

    audio: Audio
    hertz: float
    """Geometric mean of its pitch."""
    embedding: Array
    """Concatenated embeddings of both encoders, shape (448,)."""
    score: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """Voice parameters that were tried with each of the search's sentences."""

    params: VoiceParams
    takes: list[Take]

    @property
    def score(self) -> float:
        return float(np.mean([take.score for take in self.takes]))


@dataclass(frozen=True, slots=True)
class Enroller:
    """Finds the voice parameters for a reference recording."""

    renderer: Renderer
    encoders: tuple[Encoder, Encoder]
    prior: surrogate.Prior
    trials: int
    """Number of styles to render and compare; more is slower and slightly more similar."""
    workers: int
    """Threads that render and compare beside one another; the voiceprint does not depend on it."""

    @classmethod
    def load(cls, renderer: Renderer, *, threads: int = 1) -> Enroller:
        """Load the encoders, with as many trials as fit into half a minute of one thread and one
        worker for each `threads` CPUs."""
        encoders = (Ge2e.load(threads=threads), CamPlus.load(threads=threads))
        trials = 24 if inference.has_vnni() else 16
        workers = max(1, inference.usable_cpus() // threads)
        return cls(renderer, encoders, surrogate.load(), trials, workers)

    def enrol(self, reference: Audio) -> tuple[VoiceParams, dict[str, Match]]:
        """Return the parameters, and the match by encoder, measured on the held-out sentences."""
        speech = resample(reference, ENCODER_RATE)
        with ThreadPoolExecutor(self.workers, "enrolment") as pool:
            search = Search(self, speech, self.embed(speech), pool)
            params = search.adjust_sound(search.find_style())
            return params, search.measure_match(params)

    def embed(self, audio: Audio) -> Array:
        """Return the concatenated embeddings of both encoders, shape (448,)."""
        speech = set_level(resample(audio, ENCODER_RATE))
        return np.concatenate([encoder.embed(speech) for encoder in self.encoders])


@dataclass(frozen=True, slots=True)
class Search:
    """The enrolment of one recording.

    What is tried, and in which order it is taken into account, is the same for any number of
    threads and whichever of them is the first to finish.
    """

    enroller: Enroller
    speech: Audio
    """The reference, at ENCODER_RATE."""
    target: Array
    """Its concatenated embeddings, shape (448,)."""
    pool: Executor

    def find_style(self) -> VoiceParams:
        """Choose the style with the best prediction, render it, add it to the surrogate, repeat.

        A style is chosen from the embeddings of all before it but the last `_AHEAD` - 1, which may
        still be being rendered and from which it keeps away. The similarity of one sentence is
        noisy, and very different styles score alike, so the mean of the best styles is better than
        the best one.
        """
        prior, trials = self.enroller.prior, self.enroller.trials
        model = Surrogate.for_target(prior, self.target)
        sentences = [tokenise(sentence) for sentence in SEARCH_SENTENCES]
        pending: deque[tuple[Array, Future[Take]]] = deque()
        tried: list[tuple[float, Array]] = []
        for i in range(trials + _AHEAD):
            if i >= _AHEAD:
                point, take = pending.popleft()
                model.add_observation(point, take.result().embedding)
                tried.append((take.result().score, point))
                tried.sort(key=lambda pair: -pair[0])
            if i < trials:
                best = [point for _, point in tried[:3]] or [*prior.voice_points()]
                apart = np.reshape([point for point, _ in pending], (-1, surrogate.DIMENSIONS))
                point = model.optimise(np.stack(best), apart)
                pending.append((point, self._render(sentences[i % 2], self._params_at(point))))
        return self._params_at(np.mean([point for _, point in tried[:_AVERAGED]], axis=0))

    def adjust_sound(self, params: VoiceParams) -> VoiceParams:
        """Fit pitch, formants, then tone colour, each kept only if it raises the similarity."""
        best = self._try(params)
        own_pitch = float(np.exp(np.mean([np.log(take.hertz) for take in best.takes])))
        ratio = float(np.clip(measure_pitch(self.speech) / own_pitch, 0.6, 1.7))
        for pitch in (ratio**0.5, ratio):  # if half the change is no gain, the whole is not tried
            changed = self._try(msgspec.structs.replace(best.params, pitch=pitch))
            if not _is_gain(changed, best):
                break
            best = changed
        return self._adjust_tone(self._adjust_formants(best)).params

    def _adjust_formants(self, best: Candidate) -> Candidate:
        """Compare both directions in the first sentence, and try the better one in the second."""
        first, second = (tokenise(sentence) for sentence in SEARCH_SENTENCES)
        moved = [msgspec.structs.replace(best.params, formants=ratio) for ratio in (0.94, 1.06)]
        takes = _results([self._render(first, params) for params in moved])
        params, take = max(zip(moved, takes, strict=True), key=lambda pair: pair[1].score)
        if take.score < best.takes[0].score:
            return best
        changed = Candidate(params, [take, self._render(second, params).result()])
        return changed if _is_gain(changed, best) else best

    def _adjust_tone(self, best: Candidate) -> Candidate:
        original = best.takes
        joined = Audio(
            np.concatenate([take.audio.samples for take in original]), original[0].audio.rate
        )
        full = fit_equaliser(measure_spectrum(joined), measure_spectrum(self.speech))
        tones = [[share * c for c in full] for share in (0.5, 1.0)]
        filtered = [
            [self.pool.submit(self._filter, take, tone) for take in original] for tone in tones
        ]
        for tone, takes in zip(tones, filtered, strict=True):
            params = msgspec.structs.replace(best.params, tone=tone)
            changed = Candidate(params, _results(takes))
            best = changed if _is_gain(changed, best) else best
        return best

    def measure_match(self, params: VoiceParams) -> dict[str, Match]:
        """Return the match by encoder, measured on the held-out sentences."""
        takes = _results([self._render(tokenise(s), params) for s in HELD_OUT_SENTENCES])
        vectors = np.stack([self.target, *(take.embedding for take in takes)])
        prior, encoders = self.enroller.prior, self.enroller.encoders
        return {
            encoder.name: Match(
                default=float(np.mean(prior.default[encoder.name] @ part[0])),
                achieved=float(np.mean(part[1:] @ part[0])),
                same_person=encoder.same_person,
            )
            for encoder, part in zip(encoders, np.split(vectors, [256], axis=1), strict=True)
        }

    def _try(self, params: VoiceParams) -> Candidate:
        """Render the search's sentences beside each other."""
        takes = [self._render(tokenise(sentence), params) for sentence in SEARCH_SENTENCES]
        return Candidate(params, _results(takes))

    def _render(self, tokens: list[int], params: VoiceParams) -> Future[Take]:
        return self.pool.submit(self._take, tokens, params)

    def _take(self, tokens: list[int], params: VoiceParams) -> Take:
        return self._compare(*self.enroller.renderer.render_with_pitch(tokens, params))

    def _filter(self, take: Take, tone: list[float]) -> Take:
        filtered = equalise(take.audio.samples, tone)
        return self._compare(Audio(filtered, take.audio.rate), take.hertz)

    def _compare(self, audio: Audio, hertz: float) -> Take:
        embedding = self.enroller.embed(audio)
        return Take(audio, hertz, embedding, weighted_similarity(embedding, self.target))

    def _params_at(self, point: Array) -> VoiceParams:
        timbre, prosody = self.enroller.prior.weights(point)
        return VoiceParams(timbre=timbre.tolist(), prosody=prosody.tolist())


def _results(takes: Sequence[Future[Take]]) -> list[Take]:
    return [take.result() for take in takes]


def _is_gain(changed: Candidate, best: Candidate) -> bool:
    return changed.score > best.score + _MIN_GAIN


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
