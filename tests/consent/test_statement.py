"""core.consent.statement: whole sentences in the speaker's language."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from core.consent import statement
from core.consent.statement import Statement
from core.text.spoken import spoken_languages
from core.voice.gpt_sovits.frontend import Frontend

START, END = datetime(2026, 6, 1, tzinfo=UTC), datetime(2027, 6, 1, tzinfo=UTC)


def write(language: str, controller: str = "Example Ltd", **changes: object) -> str:
    fields = {"name": "Alice Müller", "purposes": ["books", "radio"], "start": START, "end": END}
    return Statement(controller=controller, **(fields | changes)).write(language)  # type: ignore[arg-type]


def test_english_is_read_as_it_stands() -> None:
    assert write("en") == (
        "I, Alice Müller, agree that Example Ltd may use recordings of my voice to make and use "
        "synthetic speech that sounds like me, for these purposes: books and radio. This holds "
        "from 1 June 2026 until 1 June 2027. I can withdraw it at any time."
    )
    assert write("en", "", purposes=["a", "b", "c"], end=None) == (
        "I, Alice Müller, confirm that the recorded voice is my own, and agree that it is used to "
        "make synthetic speech that sounds like me, for these purposes: a, b and c. This holds "
        "from 1 June 2026 until I withdraw it, which I can do at any time."
    )
    assert write("en", "", name="me").startswith("I confirm that")


@pytest.mark.parametrize("language", statement.LANGUAGES)
@pytest.mark.parametrize("end", [END, None])
@pytest.mark.parametrize("controller", ["Example Ltd", ""])
def test_a_statement_is_in_its_language_and_complete(
    language: str, end: datetime | None, controller: str
) -> None:
    words = write(language, controller, end=end)
    assert all(part in words for part in ("Alice Müller", controller, "books", "radio", "2026"))
    assert ("2027" in words) == (end is not None)
    assert "{" not in words
    # The words around the names are in the language itself.
    assert language in spoken_languages(words, language, Frontend())
    own = words.replace("Alice Müller", "").replace(controller, "")
    assert own.isascii() == (language == "en")


def test_any_other_language_is_answered_in_english() -> None:
    assert write("fr") == write("en")


def test_chinese_has_its_own_punctuation() -> None:
    words = write("zh", "示例公司", name="王芳", purposes=["有声书", "广播"])
    assert words == (
        "本人王芳单独同意示例公司使用本人的声音录音，合成与本人声音相似的语音并予以使用，用途限于："
        "有声书、广播。有效期自2026年6月1日至2027年6月1日。本人可以随时撤回本同意。"
    )
    assert not set(words) & set(",.:;")


@pytest.mark.parametrize(
    ("name", "controller", "expected"),
    [
        ("김민준", "한빛출판사", "본인 김민준은 한빛출판사가 본인의"),
        ("이서아", "예담", "본인 이서아는 예담이 본인의"),
        ("Alice", "Example", "본인 Alice은(는) Example이(가) 본인의"),
    ],
)
def test_korean_particles_follow_the_last_syllable(
    name: str, controller: str, expected: str
) -> None:
    assert write("ko", controller, name=name).startswith(expected)
