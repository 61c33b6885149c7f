"""How a native speaker says numbers, dates, times, money, units and addresses."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.text import ko_numbers, read, zh_numbers

DATA = Path(__file__).parents[1] / "data/text"


def rows(language: str) -> list[tuple[str, str]]:
    lines = (DATA / f"{language}_numbers.tsv").read_text("utf-8").splitlines()
    return [(line.split("\t")[0], line.split("\t")[1]) for line in lines]


@pytest.mark.parametrize(("text", "spoken"), rows("zh"))
def test_chinese(text: str, spoken: str) -> None:
    assert read(text, "zh").text == spoken


@pytest.mark.parametrize(("text", "spoken"), rows("en"))
def test_english(text: str, spoken: str) -> None:
    assert read(text, "en").text == spoken


@pytest.mark.parametrize(("text", "spoken"), rows("ja"))
def test_japanese(text: str, spoken: str) -> None:
    assert kana(read(text, "ja").text) == spoken


def kana(text: str) -> str:
    import pyopenjtalk

    words = pyopenjtalk.run_frontend(text)
    return "".join(word["pron"].strip("*’、。？！") for word in words).replace("’", "")


def test_every_language_has_its_table() -> None:
    assert min(len(rows(language)) for language in ("zh", "en", "ja")) >= 60


@pytest.mark.slow
@pytest.mark.parametrize(("language", "nine"), [("zh", "九"), ("ko", "구")])
@pytest.mark.parametrize("written", ["{}", "-{}", "{}%", "{}km", "0.{}"])
def test_a_number_of_thousands_of_digits_is_spelled(language: str, nine: str, written: str) -> None:
    """Python refuses to read more than 4,300."""
    expand = {"zh": zh_numbers.expand, "ko": ko_numbers.expand}[language]
    assert expand(written.format("9" * 4400)).count(nine) == 4400
