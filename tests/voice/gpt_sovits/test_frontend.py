"""From a text to phrases: segments, cutting, short texts, and nothing that breaks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from core.errors import Misconfigured, Refused
from core.text import cut, load_phonemiser
from core.text.segment import MODES, split_by_language
from core.text.symbols import symbol_ids, symbol_table
from core.voice.gpt_sovits.frontend import Frontend, read_phrase
from core.voice.kokoro.text import japanese
from handlers.cli.text import show_reading
from tests.support.untraced import environ_without_coverage

ALPHABET = st.sampled_from(
    [
        *"一二不第儿的个女嗯瓧龘〇3年月日时:,./-~%$￥^²℃ \n。，！？…—“”'&+xAaZéПあアー값ㄱ😀",
        "2024年", "8:30-9:00", "1,000", "http://a.com/b", "看一看", "0.5.6", "km/h", "U.S.",
        "Mr. ", "99:99", "1/0", "5'6", "-3%", "13/45/2024", "don't", "iPhone", "O'X'Y",
    ]
)  # fmt: skip


@pytest.mark.parametrize(
    ("mode", "text", "runs"),
    [
        ("zh", "用iPad 3 Pro。", [("zh", "用"), ("en", "iPad "), ("zh", "3 "), ("en", "Pro。")]),
        ("zh", "重2.5kg，长60cm。", [("zh", "重2.5kg，长60cm。")]),
        ("zh", "3×4=12", [("zh", "3×4=12")]),
        ("zh", "3D打印", [("zh", "3"), ("en", "D"), ("zh", "打印")]),
        ("zh", "看www.a.com/b?c=1吧", [("zh", "看"), ("en", "www.a.com/b?c=1"), ("zh", "吧")]),
        ("zh", "信箱a.b@c.com。", [("zh", "信箱"), ("en", "a.b@c.com。")]),
        ("zh", "“AI”时代", [("en", "“AI”"), ("zh", "时代")]),
        ("zh", "……", [("zh", "……")]),
        ("all_zh", "好こ、OK", [("zh", "好こ、"), ("en", "OK")]),
        ("ja", "これはGPTです", [("ja", "これは"), ("en", "GPT"), ("ja", "です")]),
        ("ja", "한국と", [("ko", "한국"), ("ja", "と")]),
        ("ko", "서울 北京", [("ko", "서울 "), ("zh", "北京")]),
        ("en", "Tokyo 東京 3", [("en", "Tokyo "), ("zh", "東京 "), ("en", "3")]),
        ("yue", "食3個apple", [("yue", "食3個"), ("en", "apple")]),
        ("auto", "東京は広い，北京很大", [("ja", "東京は広い，"), ("zh", "北京很大")]),
        ("auto", "2024年は", [("ja", "2024年は")]),
        ("auto", "It is 25元", [("en", "It is "), ("zh", "25元")]),
        ("auto", "call 3월 4", [("en", "call "), ("ko", "3월 4")]),
        ("auto", "123", [("zh", "123")]),
        ("auto", "3 apples", [("en", "3 apples")]),
        ("auto_yue", "好12", [("yue", "好12")]),
        ("zh", "", []),
    ],
)  # fmt: skip
def test_languages_are_told_by_script(mode: str, text: str, runs: list[tuple[str, str]]) -> None:
    assert split_by_language(text, mode) == runs


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("你好。我是小明——今年8岁！", ["你好。我是小明，今年8岁！"]),
        ("今天天气好。我们走吧。", ["今天天气好。", "我们走吧。"]),
        ("He met Dr. Smith at 3.14 p.m. on 5. Then he left... OK?", None),
        ("A. B. Smith came. The U.S. won.", ["A. B. Smith came.", "The U.S. won."]),
        ("No mark at all", ["No mark at all."]),
        ("one — two", ["one, two."]),
        ("。。。", []),
        ("\n\n", []),
        ("第一行\n第二行很长", ["第一行第二行很长。"]),
    ],
)
def test_sentences(text: str, pieces: list[str] | None) -> None:
    language = "en" if text.isascii() or "one" in text else "zh"
    expected = pieces or ["He met Dr. Smith at 3.14 p.m. on 5.", "Then he left... OK?"]
    assert cut.split_text(text, language) == (expected if pieces != [] else [])


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("Dr. Smith met J. K. Rowling. She left.", ["Dr. Smith met J. K. Rowling.", "She left."]),
        (
            "It costs 3.50 today. “Really?” he said.",
            ["It costs 3.50 today.", "“Really?”", "he said."],
        ),
        ("第一句。第二句！“第三句？”完", ["第一句。", "第二句！", "“第三句？”", "完"]),
        ("line one\nline two", ["line one", "line two"]),
        ("  \n ", []),
    ],
)
def test_text_is_cut_into_sentences(written: str, expected: list[str]) -> None:
    assert list(cut.split_sentences(written)) == expected


def test_a_long_sentence_is_cut_at_its_commas() -> None:
    text = "我们一起去公园散步，" * 12 + "然后回家。"
    parts = cut.split_text(text, "zh")
    assert "".join(parts) == text
    assert max(map(len, parts)) <= 60
    assert len(parts) > 1


@pytest.mark.parametrize("method", cut.METHODS)
def test_no_piece_is_longer_than_bert_reads(method: str) -> None:
    assert all(
        len(part) <= 510 for part in cut.split_text("好" * 1200 + "，" + "是" * 100, "zh", method)
    )


def test_an_unknown_way_of_cutting_is_refused() -> None:
    with pytest.raises(Refused, match="cut9"):
        cut.split_text("好", "zh", "cut9")


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(Refused) as refused:
        Frontend()("bonjour", "fr")
    assert refused.value.code == "LANGUAGE_UNSUPPORTED"


def test_what_has_no_words_has_no_phrases() -> None:
    assert Frontend()("。。。！", "zh") == []


@pytest.mark.slow
def test_a_short_phrase_begins_with_a_pause() -> None:
    spans = read_phrase("好", "zh")
    assert spans[0].phones == symbol_ids([".", "h", "ao3"])
    assert spans[0].word2ph == (1, 2)


def test_a_pause_before_a_number_is_no_decimal_point() -> None:
    assert read_phrase("5", "en")[0].text == ". five"
    assert read_phrase("1", "zh")[0].text == ".一"


def test_english_is_padded_only_where_it_stands_alone() -> None:
    assert read_phrase("我说OK吧。", "zh")[1].phones == symbol_ids(["OW1", "K", "EY1"])


def test_all_five_languages_are_offered() -> None:
    assert Frontend().languages == {"en", "ja", "ko", "yue", "zh"}


@pytest.mark.parametrize(("language", "package"), [("ko", "mecab_ko"), ("yue", "ToJyutping")])
def test_a_missing_dictionary_says_how_to_get_it(
    language: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_phonemiser.cache_clear()
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"core.text.{language}", raising=False)
    with pytest.raises(Misconfigured, match=f"scripts/setup {language}") as missing:
        load_phonemiser(language)
    assert missing.value.code == "MODEL_MISSING"


@pytest.mark.parametrize(("language", "package"), [("ko", "mecab_ko"), ("yue", "ToJyutping")])
def test_a_dictionary_that_cannot_be_loaded_says_why(
    language: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_phonemiser.cache_clear()
    (tmp_path / f"{package}.py").write_text("raise ImportError('libstdc++.so.6 is not there')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, package, raising=False)
    monkeypatch.delitem(sys.modules, f"core.text.{language}", raising=False)
    with pytest.raises(Misconfigured, match=f"{package}.*cannot be loaded: libstdc") as caught:
        load_phonemiser(language)
    assert caught.value.code == "MODEL_MISSING"


@pytest.mark.parametrize(
    "read", [japanese.phonemise, load_phonemiser("ja")], ids=["Kokoro", "GPT-SoVITS"]
)
def test_without_open_jtalk_japanese_says_how_to_install_it(
    read: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyopenjtalk", None)
    with pytest.raises(Misconfigured, match="MODEL_MISSING") as caught:
        read("日本語")
    assert caught.value.message == (
        "OpenJTalk, required for Japanese (ja), is not installed. Install it again: scripts/setup"
    )


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.lists(ALPHABET, max_size=20).map("".join), st.sampled_from(MODES))
@example("一看一看一看一看", "zh")
def test_any_text_has_phonemes_that_align(text: str, mode: str) -> None:
    for spans in Frontend()(text, mode):
        for span in spans:
            assert span.phones
            assert max(span.phones) < len(symbol_table())
            if span.language == "zh":
                assert len(span.word2ph) == len(span.text)
                assert sum(span.word2ph) == len(span.phones)
            else:
                assert span.word2ph == ()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("language", "text"),
    [("zh", "今天天气真好，我们去散步吧。"), ("en", "The quick brown fox read 3 books.")],
)
def test_the_first_sentence_comes_within_a_second_and_a_half(language: str, text: str) -> None:
    program = (
        "import time; from core.text import phonemise; "
        f"phonemise({text!r}, {language!r}); print(time.process_time())"
    )
    command = [sys.executable, "-W", "ignore", "-c", program]
    # The best of three, for neighbours slow a processor down.
    spent = [
        float(
            subprocess.run(
                command, capture_output=True, env=environ_without_coverage(), check=True
            ).stdout
        )
        for _ in range(3)
    ]
    assert min(spent) < 1.5


def test_the_command_shows_sounds_with_their_characters() -> None:
    report = show_reading("你好，这是GPT。", "zh")
    assert report.lines == [
        "你好，这是GPT。",
        "  spoken  你好,这是G P T.",
        "  zh      你 n i2  好 h ao3  ,  这 zh e4  是 sh ir4",
        "  en      JH IY1 P IY1 T IY1 .",
    ]
    span = report.data["sentences"][0]["spans"][0]
    assert span["phones"][:2] == ["n", "i2"]
    assert span["ids"][:2] == list(symbol_ids(["n", "i2"]))
    assert span["word2ph"] == [2, 2, 1, 2, 2]


def test_the_command_says_when_there_is_nothing_to_speak() -> None:
    report = show_reading("……", "zh")
    assert report.lines == ["nothing that can be spoken"]
    assert report.data["sentences"] == []


def test_the_command_cuts_as_asked() -> None:
    assert len(show_reading("你最近好吗，我一直很好。", "zh", "cut5").data["sentences"]) == 2
