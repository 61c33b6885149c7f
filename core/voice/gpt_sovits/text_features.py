"""What the engine asks of a text front-end, and the Chinese text features that need the bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from core.voice.gpt_sovits.bundle import Bundle

Float = NDArray[np.float32]
_CLS, _SEP, _UNKNOWN = "[CLS]", "[SEP]", "[UNK]"


@dataclass(frozen=True, slots=True)
class Span:
    """A run of one language within a sentence."""

    language: str
    text: str
    """Normalised: what the phonemes say."""
    phones: tuple[int, ...]
    """Of the 732 symbols of v2."""
    word2ph: tuple[int, ...] = ()
    """Phonemes of each character of `text`; empty where BERT cannot help (all but Chinese)."""
    written: str = ""
    """As it stands in the text that was read."""


Phrase = tuple[Span, ...]
"""A sentence, in the order it is spoken."""


class TextFrontend(Protocol):
    @property
    def languages(self) -> frozenset[str]:
        """ISO 639-1 codes (and `yue`) it can read."""
        ...

    def __call__(self, text: str, language: str) -> Sequence[Phrase]:
        """Sentences to speak, in order; none where there is nothing to say."""
        ...


class TextFeatures:
    """BERT's view of Chinese characters, spread over their phonemes; zeros for everything else."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        path = bundle.folder / "vocab.txt"
        self._vocabulary = _vocabulary(path) if bundle.spec.bert and path.is_file() else {}

    def __call__(self, phrase: Phrase) -> Float:
        """(phones, features)."""
        return np.concatenate([self._span(span) for span in phrase])

    def _span(self, span: Span) -> Float:
        if not self._vocabulary or not span.word2ph:
            return np.zeros((len(span.phones), self._bundle.spec.t2s.bert), np.float32)
        unknown = self._vocabulary[_UNKNOWN]
        ids = [self._vocabulary.get(char, unknown) for char in span.text]
        framed = [self._vocabulary[_CLS], *ids, self._vocabulary[_SEP]]
        rows = self._bundle.run("bert", ["features"], {"ids": np.array(framed)})[0]
        return np.repeat(rows, span.word2ph, axis=0)


def written(phrase: Phrase) -> str:
    return "".join(span.written or span.text for span in phrase)


def phones(phrase: Phrase) -> NDArray[np.int64]:
    return np.array([phone for span in phrase for phone in span.phones], np.int64)


def _vocabulary(path: Path) -> dict[str, int]:
    return {token: i for i, token in enumerate(path.read_text("utf-8").split("\n")[:-1])}
