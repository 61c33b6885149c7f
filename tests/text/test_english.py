"""English cases that are not among the golden rows."""

from __future__ import annotations

import pytest

from core.text import en_tags, phonemise
from core.text.en import normalise
from core.text.en_cardinal import bare_number, cardinal, ordinal, year
from core.text.en_g2p import predict_arpabet


def phones(text: str) -> str:
    return " ".join(phonemise(text, "en").phones)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("NASA and GPT and GPUs", "NASA and G P T and G P U's"),
        ("OpenAI, iOS, YouTube", "Open A I, i O S, You Tube"),
        ("McDonald's RAM", "McDonald's RAM"),
        ("HELLO TO THE WORLD", "hello to the world"),
        ("UNESCO XQZW VKJH", "UNESCO X Q Z W V K J H"),
        ("don’t ‘quote’ “this”", "don't quote this"),
        ("'hello,' she said", "hello, she said"),
        ("the cats' toys", "the cats' toys"),
        ("in the U.S.", "in the U S."),
        ("mind- or -less", "mind or less"),
        ("so: yes", "so, yes"),
        ("Wait... what?!", "Wait. what?"),
        ("Œuvre & naïveté", "Oeuvre and naivete"),
        ("7:15:30 and 00:00", "seven fifteen and thirty seconds and midnight"),
        ("31/12/1999", "December thirty-first, nineteen ninety-nine"),
        ("13/45/2024 ...", "thirteen forty-five twenty twenty-four."),
        ("3/4/5", "three four five"),
        ("1/1 and 7/0 and 100/3", "one one and seven over zero and one hundred over three"),
        ("3/2", "three halves"),
        ("Call 911, dial 112.", "Call nine one one, dial one one two."),
        ("1. Start", "first, Start"),
        ("No. 5, 2x, v2.0", "number five, two x, v two point zero"),
        ("$1 and $2.005", "one dollar and two point zero zero five dollars"),
        ("£0.01", "one penny"),
        ("9 a.m.", "nine A M"),
        ("Chapter IV", "Chapter four"),
        ("99999999999999999999999", " ".join(["nine"] * 23)),
    ],
)  # fmt: skip
def test_text_is_normalised(text: str, spoken: str) -> None:
    assert normalise(text) == spoken


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "sounds"),
    [
        ("They record a record.", "DH EY1 R IH0 K AO1 R D AH0 R EH1 K ER0 D ."),
        ("I live here, a live show.", "AY1 L IH1 V HH IY1 R , AH0 L AY1 V SH OW1 ."),
        ("Close it, it is close.", "K L OW1 Z IH1 T , IH1 T IH1 Z K L OW1 S ."),
        ("He used to be used.", "HH IY1 Y UW1 S T T UW1 B IY1 Y UW1 Z D ."),
        ("He will lead the team.", "HH IY1 W IH1 L L IY1 D DH AH0 T IY1 M ."),
        ("Mike's fox's dog's", "M AY1 K S F AA1 K S AH0 Z D AO1 G Z"),
        ("a vpn now", "AH0 V IY1 P IY1 EH1 N N AW1"),
        ("twenty-four", "T W EH1 N T IY0 F AO2 R"),
        ("smart-looking", "S M AA1 R T L UH1 K IH0 NG"),
    ],
)
def test_phones(text: str, sounds: str) -> None:
    assert phones(text) == sounds


@pytest.mark.slow
def test_names_are_looked_up_only_if_capitalised() -> None:
    assert phones("Alireza spoke") == "AA0 L IH0 R EH1 Z AH0 S P OW1 K"
    assert phones("alireza spoke") != phones("Alireza spoke")


def test_very_short_texts_begin_with_a_pause() -> None:
    assert phones("Hi") == ", HH AY1"
    assert phones("") == ","


def test_unknown_words_are_predicted_by_the_network() -> None:
    assert predict_arpabet("frumious") == ("F", "R", "AH1", "M", "IY0", "AH0", "S")
    assert predict_arpabet("frumious", 3) == ("F", "R", "AH1")
    assert len(predict_arpabet("a" * 60)) <= 20
    assert predict_arpabet("été") != ()


def test_homographs_are_pronounced_by_part_of_speech() -> None:
    assert en_tags.tag_words(["I", "will", "object", "."])[2].startswith("V")
    assert en_tags.choose_arpabet("read", "VBP") != en_tags.choose_arpabet("read", "VBD")
    assert en_tags.tag_words(["well-known", "2024"])[0] == "JJ"


def test_number_words() -> None:
    assert cardinal("12,345.60") == "twelve thousand, three hundred forty-five point six zero"
    assert [ordinal(n) for n in ("1", "12", "20", "101")] == [
        "first", "twelfth", "twentieth", "one hundred first",
    ]  # fmt: skip
    assert [year(n) for n in ("1900", "2000", "2010")] == [
        "nineteen hundred", "two thousand", "twenty ten",
    ]  # fmt: skip
    assert [bare_number(n) for n in ("1000", "3000", "007")] == [
        "one thousand", "three thousand", "zero zero seven",
    ]  # fmt: skip


def test_the_ending_of_a_name_follows_its_last_sound() -> None:
    """Not voiced after a voiceless consonant, a syllable of its own after a sibilant."""
    assert phones("Zorbat's").endswith("T S")
    assert phones("Zorbad's").endswith("D Z")
    assert phones("Zorbage's").endswith("JH AH0 Z")
