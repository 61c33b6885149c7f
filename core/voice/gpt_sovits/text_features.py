"""The interface of a text front end, and BERT features of Chinese text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from core.voice.gpt_sovits.bundle import Bundle

Float = NDArray[np.float32]
_CLS, _SEP, _UNKNOWN = "[CLS]", "[SEP]", "[UNK]"


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a sentence in one language."""

    language: str
    text: str
    """The normalised text, of which `phones` are the phonemes."""
    phones: tuple[int, ...]
    """Phoneme ids among the 732 symbols of v2."""
    word2ph: tuple[int, ...] = ()
    """Number of phonemes of each character of `text`; empty unless Chinese (BERT is Chinese)."""
    written: str = ""
    """The text that was read: the words as spoken before they were normalised."""
    sentence: str = ""
    """The sentence as written; only in its first span."""
    is_fixed: bool = False
    """Whether the phonemes, or some of them, are those of a lexicon or of SSML."""


Phrase = tuple[Span, ...]
"""The spans of a sentence, in order."""


class TextFrontend(Protocol):
    @property
    def languages(self) -> frozenset[str]:
        """Languages it can read, as ISO 639-1 codes (and `yue`)."""
        ...

    def __call__(self, text: str, language: str) -> Sequence[Phrase]:
        """Return the sentences in order; empty if the text has no word that can be spoken."""
        ...


class TextFeatures:
    """BERT features of Chinese text, repeated for each phoneme; zeros for other languages."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        path, tokens = bundle.folder / "vocab.txt", []
        if bundle.spec.bert and path.is_file():
            tokens = path.read_text("utf-8").split("\n")[:-1]
        self._vocabulary = {token: i for i, token in enumerate(tokens)}

    def __call__(self, phrase: Phrase) -> Float:
        """Return (phones, features)."""
        return np.concatenate([self._span(span) for span in phrase])

    def _span(self, span: Span) -> Float:
        if not self._vocabulary or not span.word2ph:
            return np.zeros((len(span.phones), self._bundle.spec.t2s.bert), np.float32)
        unknown = self._vocabulary[_UNKNOWN]
        ids = [self._vocabulary.get(char, unknown) for char in span.text]
        framed = [self._vocabulary[_CLS], *ids, self._vocabulary[_SEP]]
        rows = self._bundle.run("bert", ["features"], {"ids": np.array(framed)})[0]
        return np.repeat(rows, span.word2ph, axis=0)


def original_text(phrase: Phrase) -> str:
    return "".join(span.sentence for span in phrase) or "".join(span.text for span in phrase)


def phoneme_ids(phrase: Phrase) -> NDArray[np.int64]:
    return np.array([phone for span in phrase for phone in span.phones], np.int64)
