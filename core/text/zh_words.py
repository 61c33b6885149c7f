"""Chinese word segmentation and parts of speech by jieba, readings by pypinyin."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from core.inference import LoadedOnce
from core.text.symbols import DATA
from core.text.zh_sandhi import Word
from core.text.zh_tags import most_likely_tags


@contextmanager
def _without_pkg_resources() -> Iterator[None]:
    """Hide pkg_resources while jieba is imported: loading it takes most of the time, and jieba can
    open its one file without it. Also suppress warnings about invalid escapes in jieba's source."""
    modules: dict[str, Any] = sys.modules
    loaded = modules.get("pkg_resources")
    modules["pkg_resources"] = loaded  # None makes an import fail as if it were not installed
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if loaded is None:
            modules.pop("pkg_resources")


with _without_pkg_resources():
    import jieba

    # On import posseg creates a tagger that reads the whole dictionary. It gets an empty one.
    jieba.dt.dictionary = os.devnull
    from jieba import posseg

    jieba.dt.dictionary = jieba.DEFAULT_DICT


def split_words(text: str) -> list[str]:
    """Split a text into words; joined, they are the text."""
    return list(_tagger().tokenizer.cut(text))


def tag_words(text: str) -> list[Word]:
    """Split a text into words with their parts of speech."""
    return [Word(pair.word, pair.flag) for pair in _tagger().lcut(text)]


@cache
def split_word(word: str) -> tuple[str, str]:
    """Split a word at its inner boundary, 纸老虎 into 纸 and 老虎; the second part may be empty."""
    shortest = min(_tagger().tokenizer.cut_for_search(word), key=len)
    if word.startswith(shortest):
        return shortest, word[len(shortest) :]
    return word[: -len(shortest)], shortest


def to_pinyin(text: str) -> list[str]:
    """Return a reading for each character, the tone last (5: neutral); punctuation is kept."""
    from pypinyin import Style, lazy_pinyin

    keep: Any = list  # characters without a reading are kept, one by one
    return list(lazy_pinyin(text, style=Style.TONE3, neutral_tone_with_five=True, errors=keep))


@cache
def to_finals(word: str) -> list[str]:
    """Return the finals of a word without context."""
    from pypinyin import Style, lazy_pinyin

    return list(lazy_pinyin(word, style=Style.FINALS_TONE3, neutral_tone_with_five=True))


@cache
def dictionary_reading(word: str) -> list[str] | None:
    """Return the reading of a word that is in a dictionary, else None."""
    from pypinyin.constants import PHRASES_DICT

    if fixed := _fixed_readings().get(word):
        return fixed
    return to_pinyin(word) if word in PHRASES_DICT else None


@cache
def _fixed_readings() -> dict[str, list[str]]:
    """Return readings with which GPT-SoVITS was trained and that differ from pypinyin's."""
    stored = json.loads((DATA / "zh.json").read_text("utf-8"))["readings"]
    return {word: reading.split(" ") for word, reading in stored.items()}


class _Tokenizer(jieba.Tokenizer):  # type: ignore[misc]
    """jieba's tokenizer without its prefix table: it starts twice as fast and keeps no cache file
    in a directory that others may write to."""

    def initialize(self, dictionary: str | None = None) -> None:
        with self.get_dict_file() as lines:
            cells = lines.read().decode().split()
        self.FREQ = dict(zip(cells[::3], map(int, cells[1::3]), strict=True))
        self.tags = dict(zip(cells[::3], cells[2::3], strict=True))
        self.total = sum(self.FREQ.values())
        self.longest = max(map(len, self.FREQ))
        self.initialized = True

    def get_DAG(self, sentence: str) -> dict[int, list[int]]:  # noqa: N802
        self.check_initialized()
        ends = {}
        for i in range(len(sentence)):
            reach = range(i + 1, min(len(sentence), i + self.longest) + 1)
            ends[i] = [end - 1 for end in reach if sentence[i:end] in self.FREQ] or [i]
        return ends


class _Tagger(posseg.POSTokenizer):  # type: ignore[misc]
    def load_word_tag(self, dictionary: Any) -> None:
        dictionary.close()  # the tokenizer has read the same file
        self.tokenizer.check_initialized()
        self.word_tag_tab = self.tokenizer.tags

    def _POSTokenizer__cut(self, sentence: str) -> Iterator[Any]:  # noqa: N802
        """jieba's method of this (mangled) name, with a faster search."""
        start = 0
        tags = most_likely_tags(sentence)
        for end, (position, _) in enumerate(tags, 1):
            if position == "B":
                start = end - 1
            if position in "ES":
                start = end - 1 if position == "S" else start
                yield posseg.pair(sentence[start:end], tags[end - 1][1])
                start = end
        if start < len(sentence):
            yield posseg.pair(sentence[start:], tags[start][1])


@LoadedOnce
def _tagger() -> Any:
    jieba.setLogLevel("WARNING")
    return _Tagger(_Tokenizer())
