"""Samples the next semantic token from logits, with the steps and the order of GPT-SoVITS."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]

MIN_TOKENS = 11
"""The end token is masked until a row has this many."""
MAX_TOKENS = 1500
"""60 s, the longest sequence that the position embeddings were trained for."""
_MIN_NOISE = np.finfo(np.float32).tiny


@dataclass(frozen=True, slots=True)
class Sampling:
    top_k: int = 15
    top_p: float = 1.0
    temperature: float = 1.0
    repetition_penalty: float = 1.35
    limit: int = MAX_TOKENS
    """Number of tokens after which a row is stopped."""


GREEDY = Sampling(top_k=1)


def penalise_repetition(logits: Float, seen: NDArray[np.bool_], penalty: float) -> Float:
    """Lower the logits of tokens that the prompt or the row contains, however often."""
    if penalty == 1:
        return logits
    lowered = np.where(logits < 0, logits * np.float32(penalty), logits / np.float32(penalty))
    return np.where(seen[: len(logits)], lowered, logits)


def sampling_probabilities(scores: Float, sampling: Sampling) -> Float:
    """Turn penalised logits (n,) into the probabilities (n,) to draw from.

    Unlike in most samplers, top_p is applied before the temperature and excludes the token with
    which the cumulative probability exceeds p.
    """
    if sampling.top_p < 1:
        scores = _apply_top_p(scores, sampling.top_p)
    scores = scores / np.float32(max(sampling.temperature, 1e-5))
    if sampling.top_k < len(scores):
        least = np.partition(scores, -sampling.top_k)[-sampling.top_k]
        scores = np.where(scores < least, np.float32(-np.inf), scores)
    return _softmax(scores)


def draw_token(probabilities: Float, noise: Float) -> int:
    """Draw from a multinomial distribution, given exponential noise (n,)."""
    # The noise is sometimes rounded to 0, and argmax would choose the NaN of 0 / 0.
    return int(np.argmax(probabilities / np.maximum(noise, _MIN_NOISE)))


@dataclass
class Sampler:
    """Samples the tokens of one row. They depend on its seed and logits, not on other rows."""

    sampling: Sampling
    seen: NDArray[np.bool_]
    """(vocabulary,): tokens that the prompt or the row contains."""
    noise: Callable[[int], Float]
    """Returns exponential noise (vocabulary,), given the number of tokens so far."""
    tokens: list[int] = field(default_factory=list)
    ended: bool = False
    """The row ended with the end token, not at the limit."""

    @classmethod
    def create(
        cls, sampling: Sampling, prompt: NDArray[np.int64], vocabulary: int, seed: Sequence[int]
    ) -> Self:
        random = np.random.Generator(np.random.PCG64(seed))
        seen = np.zeros(vocabulary, np.bool_)
        seen[prompt] = True
        return cls(sampling, seen, lambda _: random.standard_exponential(vocabulary, np.float32))

    @property
    def finished(self) -> bool:
        return self.ended or len(self.tokens) >= self.sampling.limit

    def sample(self, logits: Float) -> None:
        """Append the next token, or end the row. The last logit is that of the end token."""
        end = len(logits) - 1
        allowed = logits[:end] if len(self.tokens) < MIN_TOKENS else logits
        scores = penalise_repetition(allowed, self.seen, self.sampling.repetition_penalty)
        token = int(scores.argmax())
        if token != end and self.sampling.top_k != 1:
            noise = self.noise(len(self.tokens))[: len(scores)]
            token = draw_token(sampling_probabilities(scores, self.sampling), noise)
        if token == end:
            self.ended = True
            return
        self.tokens.append(token)
        self.seen[token] = True


def _apply_top_p(scores: Float, p: float) -> Float:
    order = np.argsort(-scores, kind="stable")
    excluded = np.cumsum(_softmax(scores)[order]) > p
    excluded[0] = False
    kept = scores.copy()
    kept[order[excluded]] = -np.inf
    return kept


def _softmax(scores: Float) -> Float:
    powers = np.exp(scores - scores.max())
    return np.asarray(powers / powers.sum(), np.float32)
