"""From logits to the next semantic token, in exactly the order that T2S was tuned with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]

MIN_TOKENS = 11
"""The end is not offered earlier."""
MAX_TOKENS = 1500
"""60 s: what positions were trained for."""
_LEAST = np.finfo(np.float32).tiny


@dataclass(frozen=True, slots=True)
class Sampling:
    top_k: int = 15
    top_p: float = 1.0
    temperature: float = 1.0
    repetition_penalty: float = 1.35
    limit: int = MAX_TOKENS
    """The row ends with this many tokens if it does not end by itself."""


GREEDY = Sampling(top_k=1)


def penalised(logits: Float, seen: NDArray[np.bool_], penalty: float) -> Float:
    """Every token said before, the prompt's included, is made less likely once."""
    if penalty == 1:
        return logits
    worse = np.where(logits < 0, logits * np.float32(penalty), logits / np.float32(penalty))
    return np.where(seen[: len(logits)], worse, logits)


def probabilities(scores: Float, how: Sampling) -> Float:
    """What the draw sees of penalised logits (n,).

    top_p comes before the temperature and drops the token that crosses p; both differ from the
    custom of other samplers.
    """
    if how.top_p < 1:
        scores = _nucleus(scores, how.top_p)
    scores = scores / np.float32(max(how.temperature, 1e-5))
    if how.top_k < len(scores):
        least = np.partition(scores, -how.top_k)[-how.top_k]
        scores = np.where(scores < least, np.float32(-np.inf), scores)
    return _softmax(scores)


def draw(probs: Float, noise: Float) -> int:
    """A token by exponential noise (n,): the same as a multinomial draw."""
    # Noise is rounded to 0 now and then, and 0 / 0 would win.
    return int(np.argmax(probs / np.maximum(noise, _LEAST)))


@dataclass
class Chooser:
    """One row's choices. Two of the same seed and logits choose the same, in whatever company."""

    how: Sampling
    seen: NDArray[np.bool_]
    noise: Callable[[int], Float]
    """Exponential noise (vocabulary,) for the choice of a number."""
    tokens: list[int] = field(default_factory=list)
    ended: bool = False
    """By the end token, not by the limit."""

    @classmethod
    def of(
        cls, how: Sampling, prompt: NDArray[np.int64], vocabulary: int, seed: Sequence[int]
    ) -> Self:
        random = np.random.Generator(np.random.PCG64(seed))
        seen = np.zeros(vocabulary, np.bool_)
        seen[prompt] = True
        return cls(how, seen, lambda _: random.standard_exponential(vocabulary, np.float32))

    @property
    def finished(self) -> bool:
        return self.ended or len(self.tokens) >= self.how.limit

    def choose(self, logits: Float) -> None:
        """Append the next token, or end."""
        end = len(logits) - 1
        offered = logits[:end] if len(self.tokens) < MIN_TOKENS else logits
        scores = penalised(offered, self.seen, self.how.repetition_penalty)
        if int(scores.argmax()) == end:
            self.ended = True
            return
        token = self._drawn(scores)
        if token == end:
            self.ended = True
            return
        self.tokens.append(token)
        self.seen[token] = True

    def _drawn(self, scores: Float) -> int:
        if self.how.top_k == 1:
            return int(scores.argmax())
        noise = self.noise(len(self.tokens))[: len(scores)]
        return draw(probabilities(scores, self.how), noise)


def _nucleus(scores: Float, p: float) -> Float:
    order = np.argsort(-scores, kind="stable")
    beyond = np.cumsum(_softmax(scores)[order]) > p
    beyond[0] = False
    return np.where(_placed(beyond, order), np.float32(-np.inf), scores)


def _placed(flags: NDArray[np.bool_], order: NDArray[np.int64]) -> NDArray[np.bool_]:
    out = np.empty_like(flags)
    out[order] = flags
    return out


def _softmax(scores: Float) -> Float:
    powers = np.exp(scores - scores.max())
    return np.asarray(powers / powers.sum(), np.float32)
