"""Texts of 5,000 characters of any kind are read in linear time, and without an internal error.

`python -m tests.acceptance.texts --runs 1000` does this with a thousand texts for each front end.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
import wordsegment  # type: ignore[import-untyped]
from jieba import posseg

from core.text import digits, zh_words
from core.text.cut import split_text
from core.text.en_compound import split_compound
from core.text.zh_tags import most_likely_tags
from core.voice.gpt_sovits.frontend import Frontend
from core.voice.kokoro import text as kokoro
from tests.acceptance.texts import LIMIT_SECONDS, front_ends, read_text
from tests.support.hostile_texts import LENGTH, make_text
from tests.support.untraced import environ_without_coverage

ROOT = Path(__file__).parents[2]

RARE = "".join(chr(code) for code in range(0x4E00, 0x4E00 + LENGTH))
WORST = {
    "gpt_sovits-ko": "".join(f"{chr(0xAC00 + i)}a" for i in range(LENGTH // 2)),
    "gpt_sovits-en": "".join(f"{chr(0xAC00 + i)}あ" for i in range(LENGTH // 4)) + "a" * 2500,
    "gpt_sovits-yue": "佢1中a" * (LENGTH // 4),
    "gpt_sovits-zh": RARE,
    "gpt_sovits-ja": "".join(f"{char}가" for char in RARE[: LENGTH // 2]),
    "kokoro-zh": "".join(f"{char}a" for char in RARE[: LENGTH // 2]),
    "kokoro-ja": "ア1가a" * (LENGTH // 4),
    "kokoro-en": "A. 中1" * (LENGTH // 5),
}
"""Front end -> a text of as many runs, or as many unknown words, as possible."""


MANY = {"kokoro-en": "Ⅷ" * LENGTH, "kokoro-ja": "ﷺ" * LENGTH}
"""Characters that become many."""


@pytest.mark.repeats
@pytest.mark.slow
@pytest.mark.parametrize("texts", [WORST, MANY], ids=["worst", "many"])
def test_no_text_takes_more_than_two_seconds_of_processor_time(texts: dict[str, str]) -> None:
    """In a process without coverage, which takes longer than some front ends."""
    measured = subprocess.run(
        [sys.executable, "-m", "tests.support.timed_texts"],
        cwd=ROOT,
        env=environ_without_coverage(),
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        check=True,
    )
    took = json.loads(measured.stdout)
    assert took.keys() == texts.keys()
    assert {name: seconds for name, seconds in took.items() if seconds >= LIMIT_SECONDS} == {}


def test_every_front_end_has_a_worst_text() -> None:
    assert set(front_ends()) == WORST.keys()


@pytest.mark.repeats
@pytest.mark.slow
@pytest.mark.parametrize("name", front_ends())
def test_hostile_texts_are_read_or_refused(name: str) -> None:
    for seed in range(12):
        said = read_text(name, make_text(seed, 200))
        assert said == "ok" or said.startswith("TEXT_")


def test_rare_characters_get_the_tags_of_jieba() -> None:
    rng = random.Random(1)
    for _ in range(20):
        text = "".join(chr(rng.randrange(0x4E00, 0x9FD5)) for _ in range(rng.randint(1, 9)))
        expected = posseg.viterbi(
            text, posseg.char_state_tab_P, posseg.start_P, posseg.trans_P, posseg.emit_P
        )
        assert most_likely_tags(text) == expected[1]


@pytest.mark.parametrize(
    "text", ["smartwatchband", "thecatsatonthemat", "qxzv", "aaaaaaaaaaaaaaaaaaaa", "o'clocktower"]
)
def test_compounds_are_split_as_wordsegment_does(text: str) -> None:
    words = split_compound(text)  # loads the tables of wordsegment
    assert words == wordsegment.segment(text)


@pytest.mark.parametrize("text", ["中国的首都是北京", "丂丄丅丆丏", "佢哋喺邊度", "小明爱龘龘靐"])
def test_words_are_cut_and_tagged_as_jieba_does(text: str) -> None:
    tagger = zh_words._tagger()
    expected = list(posseg.POSTokenizer._POSTokenizer__cut(tagger, text))
    assert list(tagger._POSTokenizer__cut(text)) == expected
    assert "".join(word.text for word in zh_words.tag_words(text)) == text


def test_every_decimal_digit_of_unicode_becomes_an_ascii_digit() -> None:
    found = [chr(code) for code in range(0x110000) if chr(code).isdecimal()]
    assert len(found) > 600
    assert digits.to_ascii_digits("".join(found)) == "".join(str(int(char)) for char in found)
    assert digits.to_ascii_digits("a²Ⅷ½中") == "a²Ⅷ½中"


@pytest.mark.parametrize("zero", "٠०೦０")
@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("zh", "第7章有2个苹果，共305元，2024年1月1日8:30。"), ("yue", "共3個。"),
        ("en", "He has 3 apples, $1,500.50, at 9:30 on 2024-01-02, the 1st of 10."),
        ("ja", "3個のりんご、8:30〜9:45、¥1,500。"), ("ko", "사과 3개, 6월 10일, 12.5%, 8:30."),
    ],
)  # fmt: skip
def test_digits_of_other_scripts_are_read_like_ascii_digits(
    language: str, text: str, zero: str
) -> None:
    other = text.translate({0x30 + i: ord(zero) + i for i in range(10)})
    read = Frontend()
    assert [span.text for phrase in read(other, language) for span in phrase] == [
        span.text for phrase in read(text, language) for span in phrase
    ]
    if language in kokoro.LANGUAGES:
        assert kokoro.phonemise(other, language) == kokoro.phonemise(text, language)


def test_a_line_without_punctuation_is_split_anywhere() -> None:
    """An engine reads at most 510 characters at once."""
    parts = split_text("a" * 1200 + ", " + "b" * 30, "en")
    assert max(map(len, parts)) == 510
    assert "".join(parts).count("a") == 1200
    assert "".join(parts).count("b") == 30


@pytest.mark.parametrize("method", ["sentence", *(f"cut{n}" for n in range(6))])
def test_a_text_of_one_clause_is_one_piece(method: str) -> None:
    assert split_text("好的好的好的", "zh", method) == ["好的好的好的。"]


def test_a_line_too_long_for_the_network_is_split_at_its_marks() -> None:
    clause = "字" * 300 + "，"
    assert split_text(clause * 2, "zh", "cut0") == [clause, clause]
