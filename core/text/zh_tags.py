"""The most likely parts of speech of unknown Chinese words, by jieba's hidden Markov model.

jieba's own search takes five milliseconds for each rare character, because the model allows it any
of 256 states: a text of 5,000 such characters takes half a minute. This one is the same algorithm
(Viterbi 1967, https://doi.org/10.1109/TIT.1967.1054010) on matrices, with the same results.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.inference import LoadedOnce

Indices = NDArray[np.intp]

_UNSEEN = -3.14e100
"""Log-probability of a character in a state in which the model never saw it (jieba's MIN_FLOAT)."""


class _Model(NamedTuple):
    states: list[tuple[str, str]]
    """(position in the word: B, M, E or S; part of speech), in ascending order."""
    start: NDArray[np.float64]
    """Log-probability of each state at the start, shape (states,)."""
    step: NDArray[np.float64]
    """Log-probability of each state (column) after each (row), shape (states, states)."""
    follows: NDArray[np.bool_]
    """Whether a state (column) can come after another (row), shape (states, states)."""
    emissions: dict[str, list[tuple[int, float]]]
    """Character -> the states in which the model saw it, and its log-probability there."""
    allowed: dict[str, NDArray[np.bool_]]
    """Character -> whether it can have each state; a character that is missing can have any."""


def most_likely_tags(text: str) -> list[tuple[str, str]]:
    """Return for each character its position in a word (B, M, E or S) and the word's part of
    speech. Text: at least one character."""
    model = _model()
    every = np.ones(len(model.states), np.bool_)
    goes_on = np.logical_or.reduce(model.follows, axis=1)
    current = np.flatnonzero(model.allowed.get(text[0], every))
    score = model.start[current] + _emission(text[0])[current]
    steps: list[tuple[Indices, Indices]] = [(current, current)]
    for char in text[1:]:
        before, score = current[goes_on[current]], score[goes_on[current]]
        following = np.logical_or.reduce(model.follows[before], axis=0)
        possible = model.allowed.get(char, every) & following
        if not possible.any():
            possible = following if following.any() else every
        current = np.flatnonzero(possible)
        sums = score[:, None] + model.step[before][:, current] + _emission(char)[current]
        best = len(before) - 1 - np.argmax(sums[::-1], axis=0)  # of equal ones, the last state
        score = sums[best, np.arange(len(current))]
        steps.append((current, before[best]))
    state = int(current[len(score) - 1 - int(np.argmax(score[::-1]))])
    route = []
    for current, previous in reversed(steps):
        route.append(model.states[state])
        state = int(previous[np.searchsorted(current, state)])
    return route[::-1]


def _emission(char: str) -> NDArray[np.float64]:
    """Return the log-probability of a character in each state, shape (states,)."""
    scores = np.full(len(_model().states), _UNSEEN)
    for state, score in _model().emissions.get(char, ()):
        scores[state] = score
    return scores


@LoadedOnce
def _model() -> _Model:
    from jieba import posseg  # core.text.zh_words has imported it without its dictionary

    steps: Any = posseg.trans_P
    states = sorted(steps)
    index = {state: i for i, state in enumerate(states)}
    step = np.full((len(states), len(states)), -np.inf)
    for state, following in steps.items():
        for after, score in following.items():
            step[index[state], index[after]] = score
    emissions: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for state, seen in posseg.emit_P.items():
        for char, score in seen.items():
            emissions[char].append((index[state], score))
    allowed = {}
    for char, possible in posseg.char_state_tab_P.items():
        allowed[char] = np.zeros(len(states), np.bool_)
        allowed[char][[index[state] for state in possible]] = True
    start = np.array([posseg.start_P[state] for state in states])
    return _Model(states, start, step, np.isfinite(step), dict(emissions), allowed)
