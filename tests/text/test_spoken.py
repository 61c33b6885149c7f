"""core.text.spoken: the languages of a text are those in which the engine's front end reads it.

`python -m tests.acceptance.languages` compares every character of Unicode and 20,000 mixed texts.
"""

from __future__ import annotations

import time

import pytest

from core.text.spoken import count_in_rows, spoken_languages
from core.voice.gpt_sovits.frontend import Frontend
from core.voice.kokoro.text import KokoroFrontend
from tests.acceptance.languages import FRONT_ENDS, WORD, characters, count, mixed_texts, read

RAISED = "ʰʲʳʷʸˡˢˣⁱⁿ"
SOME = [
    char
    for i, char in enumerate(characters())
    if (char < "ɐ" or char in RAISED or "ぁ" <= char < "㄰" or i % 401 == 0) and WORD.match(char)
]
KOKORO, GPT_SOVITS = KokoroFrontend(), Frontend()
ZH = "今天天气很好我们去公园散步然后回家吃饭"
JA = "昨日東京の大学で"
EN = "we are going to the big park today and then we shall go home to eat"
NO_WORD = "二頻検不押洋"
"""OpenJTalk reads each of these characters, but not all of them together."""


@pytest.mark.repeats
@pytest.mark.slow
@pytest.mark.parametrize("name", FRONT_ENDS)
def test_a_character_counts_if_and_only_if_it_is_read(name: str) -> None:
    assert [char for char in SOME if count(name, char) != read(name, char)] == []


@pytest.mark.repeats
@pytest.mark.slow
@pytest.mark.parametrize("name", FRONT_ENDS)
def test_the_languages_that_count_are_those_in_which_a_text_is_read(name: str) -> None:
    texts = filter(WORD.search, mixed_texts(40))
    assert [text for text in texts if count(name, text) != read(name, text)] == []


@pytest.mark.parametrize(
    ("text", "language", "kokoro", "gpt_sovits"),
    [
        ("The word 你好 is a greeting.", "en", "en", "en"),
        ("我们用iPhone上网。", "zh", "zh", "zh"),
        (ZH, "en", "zh", "zh"),
        (" ".join(char + " Æ Æ" for char in ZH), "en", "zh", "zh"),
        (" ".join(ZH[i : i + 5] + " ƛ" * 10 for i in range(0, len(ZH), 5)), "en", "zh", "zh"),
        (" ".join(word + "㐂㐃㐇" for word in EN.split()), "zh", "en", "en"),
        (" ".join(word + "ㄅㄆㄇ" for word in EN.split()), "zh", "en", "en"),
        (" ".join(word + NO_WORD for word in EN.split()), "ja", "en", "en"),
        (EN.replace(" ", "ゟゟ"), "ja", "ja", "en"),  # Kokoro reads ゟ as より
        (EN.replace(" ", " ɑɕ "), "zh", "en", "en"),
        (JA, "en", "ja", "ja zh"),  # GPT-SoVITS reads kanji in English text as Mandarin
        (JA, "zh", "zh", "zh"),
        ("".join(f"&#{ord(char)};" for char in ZH), "en", "zh", "zh"),
        ("".join(f"&#x{ord(char):x};" for char in EN), "zh", "en", "en"),
        ("・" + JA, "en", "ja", "ja zh"),
        ("・きのうとうきょうのだいがくで", "zh", "ja", "ja"),
        ("人々 and nothing else", "en", "en", "en"),
        (f"人々 said {ZH}. " + "Plain English words follow it. " * 9, "en", "en zh", "en zh"),
        (ZH + EN.replace(" ", "-"), "zh", "en zh", "en zh"),
        (ZH + EN.replace(" ", ""), "zh", "zh", "zh"),
        (ZH + EN.replace(" ", "") * 2, "zh", "en zh", "en zh"),
        (ZH + " don't let's", "zh", "zh", "zh"),
        ("a" * 400 + ZH, "en", "en zh", "en zh"),
        ("今天。 " + "Fine. " * 20 + "很好我们去", "en", "en", "en"),
        ("OK", "zh", "en", "en"),
        ("……", "zh", "zh", "zh"),
        ("안녕하세요 여러분 만나서", "en", "en", "ko"),  # Kokoro leaves hangul out
        ("Bonjour, 今天天气很好。", "fr", "fr", "fr"),
    ],
)  # fmt: skip
def test_a_quotation_does_not_count_and_silence_hides_nothing(
    text: str, language: str, kokoro: str, gpt_sovits: str
) -> None:
    assert spoken_languages(text, language, KOKORO) == set(kokoro.split())
    assert spoken_languages(text, language, GPT_SOVITS) == set(gpt_sovits.split())


def test_languages_that_are_allowed_need_not_be_told_from_quotations() -> None:
    text = ZH + EN
    assert spoken_languages(text, "zh", KOKORO) == {"en", "zh"}
    assert spoken_languages(text, "zh", KOKORO, {"en", "zh"}) == {"en", "zh"}
    assert spoken_languages("用iPhone。", "zh", KOKORO, {"zh"}) == {"zh"}
    assert spoken_languages(ZH, "en", KOKORO, {"zh"}) == {"zh"}


def test_units_are_words_numbers_and_characters() -> None:
    def rows(text: str, language: str) -> list[tuple[str, int]]:
        runs = KOKORO.split_by_language(text, language)
        return count_in_rows(runs, language, KOKORO)

    assert rows("Don't e\u0301at 25 naïve Æ ½.", "en") == [("en", 5)]
    assert rows("第25行 Æ Wi-Fi 很", "zh") == [("zh", 5), ("en", 2), ("zh", 1)]  # 第二十五行
    assert rows("internationalisation 好", "zh") == [("en", 2), ("zh", 1)]
    assert rows("好 Æ 好。\n好", "en") == [("zh", 3)]
    assert rows("㋌㋌㋌ ⓐⓑⓒ ＡＢＣ 𝐇𝐢", "en") == [("en", 4)]
    assert count_in_rows([("ko", "한국ᆪᆪᆪ")], "ko", GPT_SOVITS) == [("ko", 3)]
    assert rows("カー 25", "ja") == [("ja", 5)]  # 二十五


@pytest.mark.repeats
@pytest.mark.parametrize("name", FRONT_ENDS)
def test_counting_takes_linear_time(name: str) -> None:
    front_end, language = FRONT_ENDS[name]
    rare = "".join(chr(code) for code in range(0x5000, 0x5000 + 1600))
    for text in (
        "".join(f"{char}a가" for char in rare),
        "中" + "a'" * 2499,
        "中a" + "。." * 2499,
        "の" + "中" * 4998 + "a",
    ):
        start = time.process_time()
        spoken_languages(text, language, front_end)
        assert time.process_time() - start < 2
