"""What a style will sound like to the speaker encoders, without rendering it.

A few small networks learned from 3,902 renders of random mixtures (bench/voice_prior.py); near the
styles that have been rendered for the voice at hand, a Gaussian process on their errors corrects
their mean. So the cost does not grow with what the networks have seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.voice.kokoro.styles import Weights

Array = NDArray[np.floating[Any]]

DIMENSIONS = 60
"""40 for timbre, 20 for prosody: principal components of the 54 voices, whitened."""
ENCODER_WEIGHTS = {"ge2e": 0.4, "campplus": 0.6}
"""Shares of the encoders in what is sought: CAM++ is the stricter judge of who speaks."""
_SLICES = {"ge2e": slice(0, 256), "campplus": slice(256, None)}
_NOISE = 0.15
"""Share of an error that is the sentence's, not the style's."""
_MAX_STARTS = 12
"""Of more starts only the best are climbed from: the others end lower."""

Network = tuple[tuple[Array, Array], ...]
"""Matrix [in, out] and offset of each layer; tanh between them."""


@dataclass(frozen=True, slots=True)
class Prior:
    basis: Array
    """Components -> weights of the voices, shape (2, 54, 60)."""
    networks: tuple[Network, ...]
    default: dict[str, Array]
    """Encoder -> embeddings of the unadapted voice saying the held-out sentences, (n, dims)."""

    def weights(self, point: Array) -> Weights:
        return np.asarray(self.basis @ point, np.float32)

    def voice_points(self) -> Array:
        """The 54 voices as points, shape (54, 60)."""
        return np.asarray(self.basis.sum(axis=0) * self.basis.shape[1])

    def predict(self, points: Array) -> tuple[Array, list[list[Array]]]:
        """Embeddings side by side (n, 448), and the activations `gradient` needs."""
        passes = [_forward(network, points) for network in self.networks]
        return np.mean([out for out, _ in passes], axis=0), [active for _, active in passes]

    def gradient(self, upstream: Array, passes: list[list[Array]]) -> Array:
        """d(loss)/d(points) from d(loss)/d(embeddings)."""
        slopes = [_backward(n, upstream, a) for n, a in zip(self.networks, passes, strict=True)]
        return np.asarray(np.mean(slopes, axis=0))


def _forward(network: Network, points: Array) -> tuple[Array, list[Array]]:
    active = [points]
    for matrix, offset in network[:-1]:
        active.append(np.tanh(active[-1] @ matrix + offset))
    matrix, offset = network[-1]
    return active[-1] @ matrix + offset, active


def _backward(network: Network, upstream: Array, active: list[Array]) -> Array:
    flow: Array = upstream @ network[-1][0].T
    for (matrix, _), after in zip(network[-2::-1], active[:0:-1], strict=True):
        flow = np.asarray((flow * (1 - after**2)) @ matrix.T)
    return flow


@dataclass(slots=True)
class Surrogate:
    """The prior, corrected by what was rendered for one voice."""

    prior: Prior
    target: Array
    """GE2E and CAM++ embeddings of the reference side by side, shape (448,)."""
    _points: Array
    _errors: Array
    _pull: Array

    @classmethod
    def for_target(cls, prior: Prior, target: Array) -> Surrogate:
        none = np.zeros((0, DIMENSIONS))
        return cls(prior, target, none, np.zeros((0, len(target))), np.zeros((0, len(target))))

    def add_observation(self, point: Array, embedding: Array) -> None:
        """Take in one rendered style."""
        predicted, _ = self.prior.predict(point[None])
        self._points = np.vstack([self._points, point])
        self._errors = np.vstack([self._errors, embedding - predicted[0]])
        kernel = self._kernel(self._points) + _NOISE * np.eye(len(self._points))
        self._pull = np.linalg.solve(kernel, self._errors)

    def optimise(self, starts: Array, *, steps: int = 60, rate: float = 0.1) -> Array:
        """The most promising point found by gradient ascent (Adam) from the best starts; (60,)."""
        values, _ = self.score(starts)
        points = starts[np.argsort(-values)[:_MAX_STARTS]]
        mean, square = np.zeros_like(points), np.zeros_like(points)
        for step in range(1, steps + 1):
            _, slope = self.score(points)
            mean = 0.9 * mean + 0.1 * slope
            square = 0.99 * square + 0.01 * slope**2
            corrected = (mean / (1 - 0.9**step)) / np.sqrt(square / (1 - 0.99**step) + 1e-12)
            points = np.clip(points + rate * corrected, -3, 3)
        values, _ = self.score(points)
        return np.asarray(points[np.argmax(values)])

    def score(self, points: Array, *, restraint: float = 0.02) -> tuple[Array, Array]:
        """Expected likeness to the target less a restraint on going far from the mean voice,
        where the network guesses; values (n,) and slopes (n, 60)."""
        predicted, active = self.prior.predict(points)
        kernel = self._kernel(points)
        predicted = predicted + kernel @ self._pull
        values, upstream = _similarity(predicted, self.target)
        slope = self.prior.gradient(upstream, active)
        # d kernel / d point, through the correction
        along = (upstream @ self._pull.T) * kernel * (-2 / (2 * DIMENSIONS))
        slope += along.sum(axis=1, keepdims=True) * points - along @ self._points
        far = (points**2).mean(axis=1)
        return values - restraint * far, slope - restraint * 2 * points / DIMENSIONS

    def _kernel(self, points: Array) -> Array:
        """exp(-d^2 / 2D) between points and what was rendered."""
        distance = ((points[:, None] - self._points[None]) ** 2).sum(axis=2)
        return np.asarray(np.exp(-distance / (2 * DIMENSIONS)))


def weighted_similarity(heard: Array, target: Array) -> float:
    """Weighted mean of the encoders' cosines; both arguments as embeddings side by side."""
    shares = ((weight, _SLICES[name]) for name, weight in ENCODER_WEIGHTS.items())
    return float(sum(weight * (heard[part] @ target[part]) for weight, part in shares))


def _similarity(embeddings: Array, target: Array) -> tuple[Array, Array]:
    """The likeness of predictions of any length, (n,), and its slopes with respect to them."""
    values = np.zeros(len(embeddings))
    slopes = np.zeros_like(embeddings)
    for name, weight in ENCODER_WEIGHTS.items():
        part = _SLICES[name]
        vectors, aim = embeddings[:, part], target[part]
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        cosine = (vectors @ aim)[:, None] / length
        values += weight * cosine[:, 0]
        slopes[:, part] = weight * (aim / length - vectors * cosine / length**2)
    return values, slopes


@cache
def load() -> Prior:
    with np.load(Path(__file__).parent / "data/prior.npz") as stored:
        arrays = {name: stored[name].astype(np.float32) for name in stored.files}
    layers: dict[str, list[tuple[Array, Array]]] = {}
    for name in sorted(arrays):
        if name.startswith("matrix_"):
            _, network, layer = name.split("_")
            layers.setdefault(network, []).append(
                (arrays[name], arrays[f"offset_{network}_{layer}"])
            )
    default = {name: arrays[f"default_{name}"] for name in ("ge2e", "campplus")}
    return Prior(arrays["basis"], tuple(tuple(network) for network in layers.values()), default)
