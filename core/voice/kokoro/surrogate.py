"""A surrogate model that predicts the speaker embeddings of a style without rendering it.

Small networks were trained on 3,902 renders of random mixtures (bench/voice_prior.py). Near the
styles that have been rendered for the current voice, a Gaussian process on the prediction errors
corrects their mean, so the cost does not grow with the size of the training data.
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
"""Whitened principal components of the 54 voices: 40 for timbre, 20 for prosody."""
ENCODER_WEIGHTS = {"ge2e": 0.4, "campplus": 0.6}
"""Weights of the encoders in the similarity: CAM++ separates speakers better."""
_SLICES = {"ge2e": slice(0, 256), "campplus": slice(256, None)}
_NOISE = 0.15
"""Observation noise of the Gaussian process: the share of an error that is due to the sentence."""
_CROWDING = 0.02
"""Penalty of a point at a pending one. Unpenalised, the next choice would be the same point."""
_NONE: Array = np.zeros((0, DIMENSIONS), np.float32)
_MAX_STARTS = 12
"""Starting points of the gradient ascent; worse ones end lower."""

Network = tuple[tuple[Array, Array], ...]
"""Matrix [in, out] and offset of each layer, with tanh between layers."""


@dataclass(frozen=True, slots=True)
class Prior:
    """The trained networks."""

    basis: Array
    """Maps principal components to weights of the voices, shape (2, 54, 60)."""
    networks: tuple[Network, ...]
    default: dict[str, Array]
    """Embeddings of the held-out sentences in the unadapted voice, by encoder, (n, dimensions)."""

    def weights(self, point: Array) -> Weights:
        """Return the weights of the voices at a point of shape (60,)."""
        return np.asarray(self.basis @ point, np.float32)

    def voice_points(self) -> Array:
        """Return the 54 voices as points, shape (54, 60)."""
        return np.asarray(self.basis.sum(axis=0) * self.basis.shape[1])

    def predict(self, points: Array) -> tuple[Array, list[list[Array]]]:
        """Return concatenated embeddings, (n, 448), and the activations that `gradient` needs."""
        passes = [_forward(network, points) for network in self.networks]
        return np.mean([out for out, _ in passes], axis=0), [active for _, active in passes]

    def gradient(self, upstream: Array, passes: list[list[Array]]) -> Array:
        """Return d(loss)/d(points) given d(loss)/d(embeddings)."""
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
    """The prior, corrected by the styles that were rendered for one voice."""

    prior: Prior
    target: Array
    """Concatenated GE2E and CAM++ embeddings of the reference, shape (448,)."""
    _points: Array
    _errors: Array
    _pull: Array

    @classmethod
    def for_target(cls, prior: Prior, target: Array) -> Surrogate:
        """Return a surrogate without observations."""
        points = np.zeros((0, DIMENSIONS), np.float32)
        errors = np.zeros((0, len(target)), np.float32)
        return cls(prior, target, points, errors, errors)

    def add_observation(self, point: Array, embedding: Array) -> None:
        """Add the embedding of a rendered style to the Gaussian process."""
        predicted, _ = self.prior.predict(point[None])
        self._points = np.vstack([self._points, point])
        self._errors = np.vstack([self._errors, embedding - predicted[0]])
        kernel = _kernel(self._points, self._points)
        noise = _NOISE * np.eye(len(kernel), dtype=np.float32)
        self._pull = np.linalg.solve(kernel + noise, self._errors)

    def optimise(
        self, starts: Array, pending: Array = _NONE, *, steps: int = 60, rate: float = 0.1
    ) -> Array:
        """Return the best point (60,) found by gradient ascent (Adam) from the best starts.

        `pending`: points that are being rendered, (n, 60); the result keeps away from them.
        """
        values, _ = self.score(starts, pending)
        points = starts[np.argsort(-values)[:_MAX_STARTS]]
        mean, square = np.zeros_like(points), np.zeros_like(points)
        for step in range(1, steps + 1):
            _, slope = self.score(points, pending)
            mean = 0.9 * mean + 0.1 * slope
            square = 0.99 * square + 0.01 * slope**2
            corrected = (mean / (1 - 0.9**step)) / np.sqrt(square / (1 - 0.99**step) + 1e-12)
            points = np.clip(points + rate * corrected, -3, 3)
        values, _ = self.score(points, pending)
        return np.asarray(points[np.argmax(values)])

    def score(
        self, points: Array, pending: Array = _NONE, *, penalty: float = 0.02
    ) -> tuple[Array, Array]:
        """Return the predicted similarity to the target, less a penalty on the distance from the
        mean voice, where predictions are unreliable, and one on being near a pending point (local
        penalisation for batches, after Gonzalez et al. 2016), (n,), and its gradient, (n, 60)."""
        predicted, active = self.prior.predict(points)
        kernel = _kernel(points, self._points)
        predicted = predicted + kernel @ self._pull
        values, upstream = _similarity(predicted, self.target)
        slope = self.prior.gradient(upstream, active)
        slope += _kernel_gradient(points, self._points, (upstream @ self._pull.T) * kernel)
        near = _CROWDING * _kernel(points, pending)
        values -= near.sum(axis=1) + penalty * (points**2).mean(axis=1)
        slope -= _kernel_gradient(points, pending, near) + penalty * 2 * points / DIMENSIONS
        return values, slope


def _kernel(points: Array, others: Array) -> Array:
    """Return exp(-d^2 / 2D) of the distances d between points and others, shape (n, m)."""
    distance = ((points[:, None] - others[None]) ** 2).sum(axis=2)
    return np.asarray(np.exp(-distance / (2 * DIMENSIONS)))


def _kernel_gradient(points: Array, others: Array, weighted: Array) -> Array:
    """Return the gradient by each point of its sum of kernels, (n, 60), given the weighted kernels,
    (n, m)."""
    pull = weighted @ others - weighted.sum(axis=1, keepdims=True) * points
    return np.asarray(pull / DIMENSIONS)


def weighted_similarity(embedding: Array, target: Array) -> float:
    """Return the weighted mean of the encoders' cosines of two concatenated embeddings."""
    shares = ((weight, _SLICES[name]) for name, weight in ENCODER_WEIGHTS.items())
    return float(sum(weight * (embedding[part] @ target[part]) for weight, part in shares))


def _similarity(embeddings: Array, target: Array) -> tuple[Array, Array]:
    """Return the weighted similarity, (n,), of predictions of any length and its gradient."""
    values = np.zeros(len(embeddings), embeddings.dtype)
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
    """Load the networks that are part of this package."""
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
