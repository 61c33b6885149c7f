"""From a reference recording to a recipe: search the space of styles, then fit pitch, formants and
tone colour, keeping each only if the speaker encoders agree."""

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
    Recipe,
    Renderer,
    equalise,
    equaliser,
    spectrum,
)
from core.voice.kokoro.surrogate import Array, Surrogate, likeness

SEARCH = ("The old house stood near the road.", "The boy was there when we came.")
"""The sentences of the prior's renders."""
HELD_OUT = (
    "She picked a basket of ripe apples for her mother.",
    "Tomorrow morning they will drive down to the lake.",
)
"""Sentences the search never hears, to measure the match on."""
DEFAULT_VOICE = "af_heart"
_LEVEL = 0.085
_BEST = 5
_WORTH_IT = 0.003
"""Gain in likeness under which a change is noise."""


@dataclass(frozen=True, slots=True)
class Tried:
    """A recipe, what it made of the sentences, and how like the target each is."""

    recipe: Recipe
    takes: list[Audio]
    scores: list[float]

    @property
    def score(self) -> float:
        return float(np.mean(self.scores))


@dataclass(frozen=True, slots=True)
class Enroller:
    renderer: Renderer
    encoders: tuple[Encoder, Encoder]
    prior: surrogate.Prior
    renders: int
    """Styles tried by ear; more is slower and a little nearer."""

    @classmethod
    def load(cls, renderer: Renderer, *, threads: int = 1) -> Enroller:
        """As many styles are tried as fit into half a minute of one thread."""
        encoders = (Ge2e.load(threads=threads), CamPlus.load(threads=threads))
        renders = 20 if inference.vnni() else 13
        return cls(renderer, encoders, surrogate.load(), renders)

    def enrol(self, reference: Audio) -> tuple[Recipe, dict[str, Match]]:
        """The recipe, and by each encoder how near it comes on sentences the search never heard."""
        speech = resample(reference, ENCODER_RATE)
        target = self._hear(speech)
        recipe = self._search(target)
        recipe = self._colour(recipe, speech, target)
        return recipe, self._match(recipe, target)

    def _search(self, target: Array) -> Recipe:
        """Try the most promising style, learn from how it sounds, repeat.

        One sentence says little about a style, and far apart styles score alike: the mean of the
        best comes nearer than the best.
        """
        guide = Surrogate.toward(self.prior, target)
        spoken = [tokens(sentence) for sentence in SEARCH]
        tried: list[tuple[float, Array]] = []
        starts = self.prior.voices()
        for i in range(self.renders):
            point = guide.best(starts)
            heard = self._hear(self.renderer.render(spoken[i % 2], self._recipe(point)))
            guide.learn(point, heard)
            tried.append((likeness(heard, target), point))
            tried.sort(key=lambda pair: -pair[0])
            starts = np.stack([point for _, point in tried[:3]])
        return self._recipe(np.mean([point for _, point in tried[:_BEST]], axis=0))

    def _colour(self, recipe: Recipe, speech: Audio, target: Array) -> Recipe:
        """Pitch, formants, then tone colour: each kept only if it brings the voice nearer."""
        spoken = [tokens(sentence) for sentence in SEARCH]
        heard = [self.renderer.with_pitch(ids, recipe) for ids in spoken]
        own = float(np.exp(np.mean([np.log(hertz) for _, hertz in heard])))
        ratio = float(np.clip(pitch(speech) / own, 0.6, 1.7))
        best = self._judge(recipe, [audio for audio, _ in heard], target)
        for pitched in (ratio**0.5, ratio):  # where half the way is no gain, neither is all of it
            changed = msgspec.structs.replace(best.recipe, pitch=pitched)
            if (better := self._better(changed, spoken, best, target)) is None:
                break
            best = better
        for formants in (0.94, 1.06):
            changed = msgspec.structs.replace(best.recipe, formants=formants)
            if (better := self._better(changed, spoken, best, target)) is not None:
                best = better
                break
        return self._tone(best, speech, target)

    def _better(
        self, recipe: Recipe, spoken: Sequence[list[int]], best: Tried, target: Array
    ) -> Tried | None:
        """The recipe as tried, if it is nearer than the best. One that loses with the first
        sentence does not get to speak the second."""
        first = self._judge(recipe, [self.renderer.render(spoken[0], recipe)], target)
        if first.scores[0] < best.scores[0]:
            return None
        takes = [*first.takes, *(self.renderer.render(ids, recipe) for ids in spoken[1:])]
        tried = self._judge(recipe, takes, target)
        return tried if tried.score > best.score + _WORTH_IT else None

    def _tone(self, best: Tried, speech: Audio, target: Array) -> Recipe:
        plain = best.takes
        joined = Audio(np.concatenate([take.samples for take in plain]), plain[0].rate)
        full = equaliser(spectrum(joined), spectrum(speech))
        for share in (0.5, 1.0):
            tone = [share * c for c in full]
            changed = msgspec.structs.replace(best.recipe, tone=tone)
            coloured = [Audio(equalise(take.samples, tone), take.rate) for take in plain]
            tried = self._judge(changed, coloured, target)
            if tried.score > best.score + _WORTH_IT:
                best = tried
        return best.recipe

    def _judge(self, recipe: Recipe, takes: list[Audio], target: Array) -> Tried:
        return Tried(recipe, takes, [likeness(self._hear(take), target) for take in takes])

    def _match(self, recipe: Recipe, target: Array) -> dict[str, Match]:
        heard = [self._hear(self.renderer.render(tokens(s), recipe)) for s in HELD_OUT]
        parts = np.split(np.stack([target, *heard]), [256], axis=1)
        return {
            encoder.name: Match(
                default=float(np.mean(self.prior.default[encoder.name] @ part[0])),
                achieved=float(np.mean(part[1:] @ part[0])),
                same_person=encoder.same_person,
            )
            for encoder, part in zip(self.encoders, parts, strict=True)
        }

    def _hear(self, audio: Audio) -> Array:
        """Both embeddings side by side, shape (448,)."""
        speech = levelled(resample(audio, ENCODER_RATE))
        return np.concatenate([encoder.embed(speech) for encoder in self.encoders])

    def _recipe(self, point: Array) -> Recipe:
        timbre, prosody = self.prior.weights(point)
        return Recipe(timbre=timbre.tolist(), prosody=prosody.tolist())


def levelled(speech: Audio) -> Audio:
    """At the level of the prior's renders: GE2E hears loudness as part of a voice."""
    rms = float(np.sqrt(np.mean(speech.samples.astype(np.float64) ** 2)))
    return Audio(speech.samples * np.float32(_LEVEL / max(rms, 1e-6)), speech.rate)


def tokens(sentence: str) -> list[int]:
    """Of one English sentence."""
    ((_, ids),) = text.utterances(sentence, "en")
    return ids


def pitch(speech: Audio, *, lowest: float = 60.0, highest: float = 400.0) -> float:
    """Mean pitch in Hz (geometric, of clearly voiced frames) by normalised autocorrelation."""
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
    """The shortest lag whose peak is nearly the highest: multiples of the period are as high."""
    middle = correlation[:, shortest:-1]
    peak = (middle >= correlation[:, shortest - 1 : -2]) & (
        middle >= correlation[:, shortest + 1 :]
    )
    high = middle >= 0.85 * middle.max(axis=1, keepdims=True)
    return np.asarray(np.argmax(peak & high, axis=1) + shortest)
