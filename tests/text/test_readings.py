"""Both engines read the same words, and what neither can read is named.

`scripts/readings` compares the readings of a file of reported texts with those expected.
"""

from __future__ import annotations

import time
import unicodedata
from pathlib import Path
from typing import get_args

import pytest

from core.errors import Refused
from core.settings import Engine
from core.text.cut import split_sentences
from core.text.markup import without_markup
from core.text.plain import roman_number, to_plain
from core.text.reading import write_as_spoken
from core.text.spoken import FrontEnd, check_speakable
from core.voice.gpt_sovits.frontend import Frontend
from core.voice.kokoro.text import KokoroFrontend
from handlers.cli.text import choose_engine, show_reading

TABLE = Path(__file__).parents[1] / "data/text/readings.tsv"
ROWS = [tuple(line.split("\t")) for line in TABLE.read_text("utf-8").splitlines()]
ENGINES = get_args(Engine)
FRONT_ENDS: dict[str, FrontEnd] = {"gpt_sovits": Frontend(), "kokoro": KokoroFrontend()}


def letters(text: str) -> str:
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text).casefold()))


def phones(engine: Engine, text: str, language: str) -> str:
    spans = show_reading(text, language, engine=engine).data["sentences"]
    return " ".join("".join(span["phones"]) for one in spans for span in one["spans"])


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_both_engines_read_the_same_words(engine: Engine) -> None:
    wrong = []
    for language, text, spoken in ROWS:
        sentences = show_reading(text, language, engine=engine).data["sentences"]
        read = letters("".join(sentence["text"] for sentence in sentences))
        if read.replace("摄氏度", "度") != letters(spoken):
            wrong.append((text, read))
    assert wrong == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "language", "text", "same_as"),
    [
        ("kokoro", "en", "Ask ChatGPT.", "Ask chat GPT."),
        ("kokoro", "en", "Ask about AT&T.", "Ask about A T and T."),
        ("kokoro", "zh", "请读XYZQK。", "请读 X Y Z Q K。"),
        ("gpt_sovits", "en", "They read it last week.", "They red it last week."),
        ("kokoro", "en", "He has read it.", "He has red it."),
        ("gpt_sovits", "zh", "您的代码是０８１２。", "您的代码是零八幺二。"),
        ("gpt_sovits", "ja", "休みは水・木。", "休みはすい・もく。"),
        ("kokoro", "ja", "¥2,500です。", "2500円です。"),
        ("kokoro", "ja", "体重70kg、気温-3℃。", "体重70キログラム、気温マイナス3度。"),
        ("gpt_sovits", "ko", "2×3=6입니다.", "이 곱하기 삼은 육입니다."),
        ("gpt_sovits", "ko", "기온은 -5℃.", "기온은 영하 오도."),
    ],
)
def test_a_text_sounds_like_another(engine: Engine, language: str, text: str, same_as: str) -> None:
    plain = phones(engine, same_as, language)
    for mark in "ˈˌ ":
        plain = plain.replace(mark, "")
    read = phones(engine, text, language)
    for mark in "ˈˌ ":
        read = read.replace(mark, "")
    assert read == plain


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "pinyin"),
    [
        ("他还没还书。", "hai2 mei2 huan2"), ("这根绳长五米。", "chang2"),
        ("你得系上安全带。", "dei3 ji4"), ("杏脯很好吃。", "fu3"),
        ("丑闻被曝了。", "bao4"), ("他们在和泥。", "huo2"),
        ("单先生和任女士。", "shan4 ren2"), ("曾巩是文学家。", "zeng1"), ("我姓仇。", "qiu2"),
        ("他曾任校长。", "ceng2 ren4"), ("这是解法。", "jie3"),
    ],
)  # fmt: skip
def test_polyphones_and_surnames(text: str, pinyin: str) -> None:
    from core.text.zh_readings import read_words
    from core.text.zh_words import tag_words

    clause = text.strip("。")
    readings = [each for _, word in read_words(clause, tag_words(clause)) for each in word]
    assert [one for one in readings if one in pinyin.split()] == pinyin.split()


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Title\n=====\nText", "Title\n\nText"),
        ("<speak>Hi<break time='1s'/></speak>", "Hi"),
        ("<p>one</p><p>two</p>", "\none\n\ntwo\n"),
        ("if a<b and b>c", "if a<b and b>c"),
        ("a<b>c and <i>new</i>", "a<b>c and new"),
        ("2 * 3 * 4, snake_case_name, 2**8", "2 * 3 * 4, snake_case_name, 2**8"),
        ("[text](http://a.b/c) and ![alt](x.png)", "text and alt"),
        ("# Head\n- one\n* two\n> three\n---", "Head\none\ntwo\nthree\n"),
        ("| a | b |\n|---|---|\n| c | d |", " a ,  b \n\n c ,  d "),
        ("&lt;3 &amp;&#233; &bogus; AT&T;", "<3 &é &bogus; AT&T;"),
        ("`code` and ~~old~~ and _new_", "code and old and new"),
    ],
)
def test_markup_is_removed(text: str, plain: str) -> None:
    assert without_markup(text).replace(" ,  ", " ,  ") == plain


def test_characters_that_stand_for_others() -> None:
    assert to_plain("ﬁ ½ 2½ ㎏ ℃ 𝐇 Ａ１ ｶﾞ 1ˢᵗ ₂ m² ① № ™ ，") == (
        "fi 1/2 2 1/2 kg °C H A1 ガ 1st 2 m²  1  No. ™ ，"
    )
    assert [roman_number(letters) for letters in ("XIV", "IIII", "", "MCMXC")] == [14, 0, 0, 1990]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("On Jan. 5 we met. See Fig. 3, p. 4.", ["On Jan. 5 we met.", "See Fig. 3, p. 4."]),
        ("He said no. Then he left.", ["He said no.", "Then he left."]),
        ("See https://a.com/b?c=1 now. OK?", ["See https://a.com/b?c=1 now.", "OK?"]),
        ("Is it a.com? Yes.", ["Is it a.com?", "Yes."]),
        ("Ace Inc. sued. He is in Jan. Not now.", ["Ace Inc. sued.", "He is in Jan.", "Not now."]),
    ],
)
def test_abbreviations_and_addresses_end_no_sentence(text: str, sentences: list[str]) -> None:
    assert list(split_sentences(text)) == sentences


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("text", "language", "named"),
    [
        ("Привет means hello.", "en", "ПрИ"), ("𠮷野家。", "zh", ""), ("数字٣和ไทย。", "zh", "ไ"),
        ("误差±2，a<b。", "zh", ""), ("10÷2=5 & 3‰ 好", "zh", ""), ("これはไทยです。", "ja", "ไ"),
        ("Fine — “quoted” 50% #1.", "en", ""),
    ],
)  # fmt: skip
def test_what_is_left_out_is_named(engine: str, text: str, language: str, named: str) -> None:
    notices = check_speakable(text, language, FRONT_ENDS[engine], "/items/0/text")
    assert [notice.code for notice in notices] == (["TEXT_DROPPED_CHARS"] if named else [])
    assert all(f"U+{ord(char.lower()):04X}" in notices[0].message for char in named[:1])


@pytest.mark.parametrize("engine", ENGINES)
def test_a_text_of_which_nothing_is_left_is_refused(engine: str) -> None:
    with pytest.raises(Refused, match="TEXT_UNSPEAKABLE"):
        check_speakable("Привет, как дела?", "en", FRONT_ENDS[engine])


def test_numbers_of_words_in_latin_letters_stay() -> None:
    assert write_as_spoken("MP3と2.5kgはa.com/b2?c=3", "ja") == "MP3と2.5キログラムはa.com/b2?c=3"
    assert write_as_spoken("H1N1和2.5kg见a.com/b2?c=3", "zh") == "H1N1和二点五千克见a.com/b2?c=3"
    assert write_as_spoken("I have 3", "en") == "I have 3"
    assert write_as_spoken("3 apples", "auto") == "3 apples"


@pytest.mark.parametrize("sign", ["< ", "*a ", "_", "[a](", "1/", "A. ", "-1", "1+"])
def test_signs_take_linear_time(sign: str) -> None:
    text = sign * (2500 // len(sign))
    for language in ("zh", "ja", "ko"):
        write_as_spoken("1", language)  # compiles the rules
        start = time.process_time()
        write_as_spoken(without_markup(text), language)
        list(split_sentences(text))
        assert time.process_time() - start < 1


def test_the_command_takes_either_engine() -> None:
    report = show_reading("He paid $3.", "auto", engine="kokoro")
    assert report.lines[:2] == ["He paid $3.", "  spoken  He paid three dollars."]
    assert report.data["sentences"][0]["written"] == "He paid $3."
    assert show_reading("好я。", "zh").data["dropped"]
    with pytest.raises(Refused, match="fr"):
        show_reading("bonjour", "fr", engine="kokoro")
    with pytest.raises(Refused, match="espeak"):
        choose_engine("espeak")
