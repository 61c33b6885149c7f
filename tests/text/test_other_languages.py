"""Japanese, Korean and Cantonese cases that are not among the golden rows."""

from __future__ import annotations

import pytest

from core.text import ko, ko_numbers, phonemise
from core.text.zh_words import split_word


def phones(text: str, language: str) -> str:
    return " ".join(phonemise(text, language).phones)


def test_japanese_marks_pitch_and_phrase_boundaries() -> None:
    assert phones("橋と箸。", "ja") == "h a [ sh i ] t o UNK h a ] sh i ."


def test_japanese_devoiced_vowels_count_as_vowels() -> None:
    assert "s u" in phones("好きです", "ja")


@pytest.mark.parametrize("text", ["・", "ー", "", " ", "゛"])
def test_japanese_punctuation_alone_is_accepted(text: str) -> None:
    assert set(phonemise(text, "ja").phones) <= {"UNK"}


def test_japanese_pause_within_a_run() -> None:
    assert "_" in phonemise("リンゴ・ミカン", "ja").phones


@pytest.mark.slow
@pytest.mark.parametrize(
    ("written", "sounds"),
    [
        ("밟다", "ㅂㅏㅂㄸㅏ"),
        ("넓다", "ㄴㅓㄹㄸㅏ"),
        ("넓죽하다", "ㄴㅓㅂㅉㅜㅋㅏㄷㅏ"),
        ("굳이", "ㄱㅜㅈㅣ"),
        ("같이", "ㄱㅏㅊㅣ"),
        ("닫히다", "ㄷㅏㅊㅣㄷㅏ"),
        ("읽고", "ㅇㅣㄹㄲㅗ"),
        ("앉다", "ㅇㅏㄴㄸㅏ"),
        ("삶다", "ㅅㅏㅁㄸㅏ"),
        ("값이", "ㄱㅏㅂㅆㅣ"),
        ("좋다", "ㅈㅗㅌㅏ"),
        ("신라", "ㅅㅣㄹㄹㅏ"),
        ("국물", "ㄱㅜㅇㅁㅜㄹ"),
        ("희망", "ㅎㅣㅁㅏㅇ"),
        ("가져", "ㄱㅏㅈㅓ"),
        ("핥이다", "ㅎㅏㄹㅊㅣㄷㅏ"),
        ("서울역", "ㅅㅓㅇㅜㄹㄹㅕㄱ"),
        ("갈 것이다", "ㄱㅏㄹ ㄲㅓㅅㅣㄷㅏ"),
    ],
)
def test_korean_pronunciation_rules(written: str, sounds: str) -> None:
    assert ko.pronounce(written) == sounds


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("1,000원", "천원"),
        ("8:30", "여덟 시 삼십 분"),
        ("9:00", "아홉 시"),
        ("2024-06-15", "이천이십사년 유월 십오일"),
        ("10월", "시월"),
        ("20살", "스무살"),
        ("100개", "백개"),
        ("3.14", "삼점일사"),
        ("-5도", "마이너스 오도"),
        ("60km", "육십킬로미터"),
        ("1번째", "첫번째"),
        ("10~20분", "십에서 이십분"),
        ("₩5,000", "오천원"),
        ("1/2", "이분의 일"),
        ("12345", "만이천삼백사십오"),
        ("120000000", "일억이천만"),
        ("0", "영"),
        ("007", "공공칠"),
    ],
)
def test_korean_numbers(written: str, spoken: str) -> None:
    assert ko_numbers.expand(written) == spoken


def test_korean_spells_latin_letters_and_adds_a_full_stop() -> None:
    assert phones("TV", "ko") == "ㅌ ㅣ ㅂ ㅡ ㅇ ㅣ ."


def test_korean_that_the_tagger_splits_differently_is_kept() -> None:
    assert phonemise("ㅋㅋ 값!", "ko").phones[-1] == "!"


@pytest.mark.slow
def test_cantonese_reads_either_script() -> None:
    assert phonemise("你係香港人。", "yue").phones[-1] == "."
    assert phonemise("龘瓧。", "yue").word2ph


def test_cantonese_phones_align_with_characters() -> None:
    reading = phonemise("我哋1,000個人，好嘢！", "yue")
    assert reading.text == "我哋一千个人,好嘢!"
    assert sum(reading.word2ph) == len(reading.phones)
    assert len(reading.word2ph) == len(reading.text)


def test_words_are_split_at_their_inner_boundary() -> None:
    assert split_word("纸老虎") == ("纸", "老虎")
    assert split_word("好") == ("好", "")
