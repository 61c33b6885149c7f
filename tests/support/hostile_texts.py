"""Hostile texts: mixtures of scripts, digits, punctuation, emoji and combining marks, as long as an
item may be. Each is made from a seed, so that a failure can be repeated."""

from __future__ import annotations

import random
from collections.abc import Callable

LENGTH = 5000
"""Characters, the limit of an item (`core.manifest.parse.Limits`)."""

_ZEROS = (0x30, 0x660, 0x966, 0xCE6, 0xE50, 0xFF10, 0x1D7CE)
_DIGITS = "".join(chr(zero + i) for zero in _ZEROS for i in range(10))
POOLS = (
    "abcdefghijklmnopqrstuvwxyz",
    "AEIOUBXII",
    "aeßéñøžəğư",
    "中长地得的了一不个儿只为教点",
    "年月日时分秒第号共约元万亿",
    "佢哋喺咁嘅唔係冇嘢",
    "あいんっゃきー",
    "アイウンッャーヲ",
    "가값밟없않의개한시월번",
    "ㄱㅏㅂㅅ",
    "\u1100\u1161\u11a8\u11b9",
    "0123456789",
    "0123456789.,",
    _DIGITS,
    ".,;:!?",
    "。，、；：！？…—～〜",
    "'’\"“”()[]{}「」",
    "+-−×*÷=/<>%℃°#&@_~^|\\",
    "$€£¥￥₩",
    " \t\n\u3000\xa0",
    "😀👍🏽❤\ufe0f\u200d🇨🇳",
    "\u0301\u0308\u0327\u3099",
    "αβγДЖאבا\u064eกि्",
    "𠀀𠮷𝐀ﬁ㎏㈱①⅒ⅧⅣ²³⁴½",
)
"""Characters of one kind each."""
PHRASES = (
    "A.", "Mr. ", "Dr. No. 1 ", "e.g. ", "U.S.", "a@b.c ", "www.a.", "http://a", "a.com/", "1:23 ",
    "12:00-", "1/2/", "2024-01-02", "555-123-4567 ", "1,000", "$1.", "1.2.3", "1st ", "II ",
    "Henry VIII ", "3 km/h ", "x = 1 + ", "5'11\" ", "¥1,500元", "第1章", "1~2", "－1", "8:30〜",
    "123億", "0120-", "제1장 ", "1개", "가1", "3월 ", "한국 kr", "장 中", "값이 ", "the a ",
    "it's ", "don't", "AbCd", "a-b-", "wörd ", "nǐ ", "𠮷野家", "ㄱa", "中a", "가あ", "佢1",
    "...", "——", "\n\n",
)  # fmt: skip
"""Beginnings of what the rules for numbers, addresses and abbreviations look for."""


def make_text(seed: int, length: int = LENGTH) -> str:
    """Return a text of exactly `length` characters, the same for the same seed."""
    rng = random.Random(seed)
    kinds: tuple[Callable[[random.Random, int], str], ...] = (
        _repeated, _repeated, _repeated, _alternating, _mixed, _phrases, _one_run,
    )  # fmt: skip
    text = rng.choice(kinds)(rng, length)
    return text[:length]


def _pick(rng: random.Random, most: int) -> str:
    pools = rng.sample(POOLS, rng.randint(1, 3))
    return "".join(rng.choice(rng.choice(pools)) for _ in range(rng.randint(1, most)))


def _repeated(rng: random.Random, length: int) -> str:
    """A short unit, repeated: the worst case of most backtracking."""
    unit = _pick(rng, 6) if rng.random() < 0.6 else rng.choice(PHRASES) + _pick(rng, 2)
    return unit * (length // len(unit) + 1)


def _alternating(rng: random.Random, length: int) -> str:
    """Runs of two or three kinds of characters in turn."""
    pools, run = rng.sample(POOLS, rng.randint(2, 3)), rng.choice((1, 1, 2, 7, 60, 511))
    return "".join(rng.choice(pools[i // run % len(pools)]) for i in range(length))


def _mixed(rng: random.Random, length: int) -> str:
    alphabet = "".join(rng.sample(POOLS, rng.randint(2, 8)))
    return "".join(rng.choices(alphabet, k=length))


def _phrases(rng: random.Random, length: int) -> str:
    parts = rng.sample(PHRASES, rng.randint(2, 6))
    return "".join(rng.choice(parts) for _ in range(length))


def _one_run(rng: random.Random, length: int) -> str:
    """One long run, with something else at either end."""
    return _pick(rng, 4) + rng.choice(rng.choice(POOLS)) * (length - 8) + _pick(rng, 4) + "....."
