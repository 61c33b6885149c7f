"""Samples the next semantic token from logits, with the steps and the order of GPT-SoVITS.

Arrays are (n,) for one row or (rows, n) for several, which are computed identically.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]

MIN_TOKENS = 11
MAX_TOKENS = 1500
"""60 s, the longest sequence that the position embeddings were trained for."""
_AT_ONCE = 16
"""Rows in one operation. Arrays of more would be larger than 128 KiB, for which the C library asks
the operating system each time: 64 rows took four times as long."""
_MIN_NOISE = np.finfo(np.float32).tiny


@dataclass(frozen=True, slots=True)
class Sampling:
    top_k: int = 15
    top_p: float = 1.0
    temperature: float = 1.0
    repetition_penalty: float = 1.35
    limit: int = MAX_TOKENS
    """Number of tokens after which a row is stopped."""
    least: int = MIN_TOKENS
    """The end token is masked until a row has this many."""


GREEDY = Sampling(top_k=1)


def penalise_repetition(logits: Float, seen: NDArray[np.bool_], penalty: float) -> Float:
    """Lower the logits (..., n) of tokens that the prompt or the row contains, however often."""
    if penalty == 1:
        return logits
    lowered, marked = logits.copy(), seen[..., : logits.shape[-1]]
    of_marked = lowered[marked]
    factor = np.float32(penalty)
    lowered[marked] = np.where(of_marked < 0, of_marked * factor, of_marked / factor)
    return lowered


def sampling_probabilities(scores: Float, sampling: Sampling) -> Float:
    """Turn penalised logits (..., n) into the probabilities (..., n) to draw from.

    Unlike in most samplers, top_p is applied before the temperature and excludes the token with
    which the cumulative probability exceeds p.
    """
    if sampling.top_p < 1:
        scores = _apply_top_p(scores, sampling.top_p)
    scores = scores / np.float32(max(sampling.temperature, 1e-5))
    if sampling.top_k < scores.shape[-1]:
        least = np.partition(scores, -sampling.top_k)[..., -sampling.top_k, None]
        scores = np.where(scores < least, np.float32(-np.inf), scores)
    return _softmax(scores)


def draw_tokens(probabilities: Float, noise: Float) -> NDArray[np.int64]:
    """Draw from multinomial distributions, given exponential noise (..., n)."""
    # The noise is sometimes rounded to 0, and argmax would choose the NaN of 0 / 0.
    return np.asarray(np.argmax(probabilities / np.maximum(noise, _MIN_NOISE), axis=-1))


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
        _sample([self], logits[None])


def sample_all(samplers: Sequence[Sampler], logits: Float) -> list[Exception | None]:
    """Sample the next token of each row of logits (rows, vocabulary); return what failed."""
    errors: list[Exception | None] = [None] * len(samplers)
    alike: dict[tuple[Sampling, bool], list[int]] = {}
    for i, sampler in enumerate(samplers):
        if type(sampler).sample is Sampler.sample:
            key = sampler.sampling, len(sampler.tokens) < sampler.sampling.least
            alike.setdefault(key, []).append(i)
            continue
        try:
            sampler.sample(logits[i])
        except Exception as exc:
            errors[i] = exc
    for rows in alike.values():
        for first in range(0, len(rows), _AT_ONCE):
            some = rows[first : first + _AT_ONCE]
            _sample([samplers[i] for i in some], logits[some])
    return errors


def _sample(samplers: Sequence[Sampler], logits: Float) -> None:
    """Sample rows with the same settings, all of which may end or none. One operation on all rows
    takes little longer than on one."""
    sampling, end = samplers[0].sampling, logits.shape[1] - 1
    allowed = logits[:, :end] if len(samplers[0].tokens) < sampling.least else logits
    seen = np.array([sampler.seen for sampler in samplers])
    scores = penalise_repetition(allowed, seen, sampling.repetition_penalty)
    tokens = scores.argmax(1)
    going_on = np.flatnonzero(tokens != end).tolist()
    if going_on and sampling.top_k != 1:
        size = scores.shape[1]
        noise = [samplers[i].noise(len(samplers[i].tokens))[:size] for i in going_on]
        probabilities = sampling_probabilities(scores[going_on], sampling)
        tokens[going_on] = draw_tokens(probabilities, np.array(noise))
    for sampler, token in zip(samplers, tokens.tolist(), strict=True):
        if token == end:
            sampler.ended = True
        else:
            sampler.tokens.append(token)
            sampler.seen[token] = True


def _apply_top_p(scores: Float, p: float) -> Float:
    order = np.argsort(-scores, axis=-1, kind="stable")
    sorted_ = np.take_along_axis(_softmax(scores), order, axis=-1)
    excluded = np.cumsum(sorted_, axis=-1) > p
    excluded[..., 0] = False
    kept = np.take_along_axis(scores, order, axis=-1)
    kept[excluded] = -np.inf
    out = np.empty_like(scores)
    np.put_along_axis(out, order, kept, axis=-1)
    return out


def _softmax(scores: Float) -> Float:
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), np.float32)
