"""Numbers, dates, times, money, units and addresses are written as a native speaker reads them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from core.text import en_numbers, ja_numbers, ko_numbers, phonemise, zh_numbers
from core.voice.kokoro.text import chinese

DATA = Path(__file__).parents[1] / "data/text"


def rows(language: str) -> list[tuple[str, str]]:
    lines = (DATA / f"{language}_numbers.tsv").read_text("utf-8").splitlines()
    return [(line.split("\t")[0], line.split("\t")[1]) for line in lines]


@pytest.mark.parametrize(("text", "spoken"), rows("zh"))
def test_chinese(text: str, spoken: str) -> None:
    assert phonemise(text, "zh").text == spoken


@pytest.mark.parametrize(("text", "spoken"), rows("en"))
def test_english(text: str, spoken: str) -> None:
    assert phonemise(text, "en").text == spoken


@pytest.mark.parametrize(("text", "spoken"), rows("ja"))
def test_japanese(text: str, spoken: str) -> None:
    assert kana(phonemise(text, "ja").text) == spoken


def kana(text: str) -> str:
    import pyopenjtalk

    words = pyopenjtalk.run_frontend(text)
    return "".join(word["pron"].strip("*’、。？！") for word in words).replace("’", "")


def test_every_language_has_its_table() -> None:
    assert min(len(rows(language)) for language in ("zh", "en", "ja")) >= 60


@pytest.mark.parametrize(("language", "nine"), [("zh", "九"), ("ko", "구")])
@pytest.mark.parametrize("written", ["{}", "-{}", "{}%", "{}km", "0.{}"])
def test_a_number_of_thousands_of_digits_is_spelled(language: str, nine: str, written: str) -> None:
    """Python refuses to convert more than 4,300 digits to an integer."""
    expand = {"zh": zh_numbers.expand, "ko": ko_numbers.expand}[language]
    assert expand(written.format("9" * 4400)).count(nine) == 4400


EXPAND = {
    "zh": zh_numbers.expand,
    "ko": ko_numbers.expand,
    "ja": ja_numbers.expand,
    "en": en_numbers.expand,
    "zh of Kokoro": chinese.to_words,
}


@pytest.mark.parametrize("expand", EXPAND.values(), ids=EXPAND)
@pytest.mark.parametrize(
    "written", ["{}", "-{}", "{}.", "{}个", "{}월", "a{}", "{0}.{0}", "{0} {0}"]
)
def test_long_numbers_take_linear_time(expand: Callable[[str], str], written: str) -> None:
    expand("1")
    text = written.format("9" * (4900 // written.count("{")))
    start = time.process_time()
    assert expand(text)
    assert time.process_time() - start < 0.7  # quadratic patterns take one to nine seconds


@pytest.mark.parametrize(
    ("expand", "text", "spoken"),
    [
        (zh_numbers.expand, "5m25km", "五平方米五千米"),
        (zh_numbers.expand, "3x45=", "三乘四五等于"),
        (ko_numbers.expand, "1.2.3%", "일.이점삼퍼센트"),
        (ja_numbers.expand, "1.2.3=4", "1点2点3イコール4"),
        (
            en_numbers.expand,
            "1234,567€",
            " one two hundred thirty-four thousand, five hundred sixty-seven euros",
        ),
        (
            en_numbers.expand,
            "1,2345.6",
            " one thousand, two hundred thirty-four  five point six ",
        ),
    ],
)
def test_a_pattern_may_match_inside_a_number(
    expand: Callable[[str], str], text: str, spoken: str
) -> None:
    assert expand(text) == spoken
