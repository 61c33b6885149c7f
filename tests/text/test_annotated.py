"""Phonemes and words that a producer gives, in the alphabets that people write, in both engines."""

from __future__ import annotations

import pytest

from core.errors import ExplainedError
from core.text import alphabets, annotated
from core.text.annotated import Annotation
from core.text.spoken import check_speakable, spoken_languages
from core.text.symbols import symbol_table
from core.voice.gpt_sovits.frontend import Frontend
from core.voice.kokoro import model
from core.voice.kokoro import text as kokoro
from core.voice.kokoro.text import KokoroFrontend

NAMES = list(symbol_table())


def with_phonemes(written: str, phonemes: str, alphabet: str, language: str) -> str:
    return str(alphabets.read_phonemes(written, phonemes, alphabet, language))


def symbols(text: str, language: str) -> str:
    """Return the symbols that GPT-SoVITS speaks."""
    phrases = Frontend()(text, language)
    return " ".join(NAMES[i] for phrase in phrases for span in phrase for i in span.phones)


@pytest.mark.parametrize(
    ("language", "alphabet", "phonemes", "read"),
    [
        ("en", "arpabet", "w ih1 n", "W IH1 N"),
        ("en", "arpabet", "HH AH L OW", "HH AH1 L OW0"),
        ("en", "ipa", "pɪˈkɑːn", "P IH0 K AA1 N"),
        ("en", "ipa", "/təˈmeɪ.t͡ʃoʊ/", "T AH0 M EY1 CH OW0"),
        ("en", "ipa", "'gɜːrl", "G ER1 L"),
        ("en", "x-sampa", 'pI"kA:n', "P IH0 K AA1 N"),
        ("zh", "pinyin", "chong2 qing4", "chong2 qing4"),
        ("zh", "pinyin", "Chóng qìng", "chong2 qing4"),
        ("zh", "pinyin", "chong2qing4", "chong2 qing4"),
        ("zh", "pinyin", "nǚ ér de lu:4 yue4", "nv3 er2 de5 lv4 yue4"),
        ("yue", "jyutping", "wong6 gok3", "wong6 gok3"),
        ("ja", "kana", "とうきょう", "トウキョウ"),
        ("ko", "hangul", "엘지", "엘지"),
    ],
)
def test_alphabets(language: str, alphabet: str, phonemes: str, read: str) -> None:
    annotation = alphabets.read_phonemes("x", phonemes, alphabet, language)
    assert (annotation.phonemes or annotation.words) == read


@pytest.mark.parametrize(
    ("language", "alphabet", "phonemes", "named"),
    [
        ("en", "arpabet", "W II1 N", "II1"),
        ("en", "arpabet", "W IH12 N", "IH12"),
        ("en", "ipa", "ʘa", "ʘ"),
        ("en", "ipa", "ˈ", "no phonemes"),
        ("en", "pinyin", "wen1", "use arpabet"),
        ("zh", "pinyin", "chong2 xyz4", "xyz4"),
        ("zh", "pinyin", "chong6", "chong6"),
        ("zh", "ipa", "ʈʂʰʊŋ", "use pinyin"),
        ("yue", "jyutping", "wong9", "wong9"),
        ("ja", "kana", "tokyo", "kana"),
        ("ko", "hangul", "elji", "hangul"),
        ("fr", "ipa", "a", "fr"),
        ("en", "arpabet", "AH0 " * 201, "200"),
        ("en", "arpabet", " ", "no phonemes"),
    ],
)
def test_what_cannot_be_read_is_named(
    language: str, alphabet: str, phonemes: str, named: str
) -> None:
    with pytest.raises(ExplainedError, match=named):
        alphabets.read_phonemes("x", phonemes, alphabet, language)


PECAN = with_phonemes("pecan", "pɪˈkɑːn", "ipa", "en")
CHONGQING = with_phonemes("重庆", "chong2 qing4", "pinyin", "zh")


@pytest.mark.parametrize(
    ("language", "text", "gpt_sovits", "kokoro_phonemes"),
    [
        ("en", f"A {PECAN} pie.", "EY1 P IH0 K AA1 N P AY1 .", "ɐ pɪkˈɑn pˈI."),
        (
            "zh",
            f"我去{CHONGQING}，用{PECAN}。",
            "w o3 q v4 ch ong2 q ing4 , y ong4 P IH0 K AA1 N .",
            "wo↓ ʨʰy↘ ꭧʰʊ↗ŋʨʰi↘ŋ, jʊ↘ŋ pɪkˈɑn.",
        ),
        (
            "en",
            f"Go to {Annotation('Xiaomi', 'zh', words='小米')} now.",
            "G OW1 T UW1 x iao2 m i3 N AW1 .",
            "ɡˌO tu ɕjau↓mi↓ nˈW.",
        ),
    ],
)
def test_both_engines(language: str, text: str, gpt_sovits: str, kokoro_phonemes: str) -> None:
    assert symbols(text, language) == gpt_sovits
    ids = [i for _, tokens in kokoro.split_utterances(text, language) for i in tokens]
    names = {number: symbol for symbol, number in model.vocabulary().items()}
    assert "".join(names[i] for i in ids) == kokoro_phonemes


def test_words_are_read_together_with_those_around_them() -> None:
    text = f"3 {Annotation('GIFs', 'en', words='jiffs')} are nice."
    assert symbols(text, "en") == symbols("3 jiffs are nice.", "en")
    text = f"{Annotation('東京', 'ja', words='トウキョウ')}は今日も雨です。"
    assert symbols(text, "ja") == symbols("トウキョウは今日も雨です。", "ja")


def test_the_sentence_is_shown_as_written() -> None:
    text = f"Eat {PECAN} pie. Then go to {CHONGQING}."
    assert [words for words, _ in kokoro.split_utterances(text, "en")] == [
        "Eat pecan pie.",
        "Then go to 重庆.",
    ]
    assert annotated.to_written(text) == "Eat pecan pie. Then go to 重庆."


@pytest.mark.parametrize("front_end", [KokoroFrontend(), Frontend()])
@pytest.mark.parametrize(
    "reading",
    [
        Annotation("hello", "zh", phonemes="ni3 hao3 " * 4),
        Annotation("hello", "zh", words="你好" * 4),
        Annotation("", "ja", words="コンニチワ" * 2),
    ],
)
def test_words_count_in_the_language_in_which_they_are_spoken(
    front_end: KokoroFrontend | Frontend, reading: Annotation
) -> None:
    spoken = spoken_languages(f"{reading} hello", "en", front_end)
    assert spoken == {"en", reading.language}
    chinese = Annotation("你好", "en", words="hello there my dear old friends")
    assert spoken_languages(str(chinese), "zh", front_end) == {"en"}
    assert check_speakable(f"{reading}", "en", front_end) == []


def test_pauses_divide_a_text() -> None:
    half, second = Annotation(" ", pause_ms=500), Annotation(" ", pause_ms=1000)
    text = f"{half}One.{second}{half}. Two{half}"
    assert annotated.split_at_pauses(text) == [("", 0.5), ("One.", 1.5), (". Two", 0.5)]
    assert annotated.split_at_pauses("One.") == [("One.", None)]
    assert annotated.count_spoken(f"ab{PECAN}{half}") == 2 + 5
    assert annotated.to_written(text) == " One.  . Two "
