"""Lanes read texts at the same time, and the first ones load the dictionaries together."""

from __future__ import annotations

import pytest

from core.text import phonemise
from core.voice.kokoro.text import LANGUAGES, split_utterances
from tests.support.stores import together

TEXTS = [
    ("en", "Dr. Smith records 1,234 quick foxes, xylophonicness and a live wound for $5.20."),
    ("zh", "我们在2024年3月5日买了纸老虎，hello，一起去银行行长那里重重地说。"),
    ("ja", "東京都で3人が1,200円の本を読みました。橋の端で箸を使う。"),
    ("ko", "저는 3월 5일에 서울에서 책을 12권 읽었습니다. 닭이 값이 없다."),
    ("yue", "我哋今日去咗香港買嘢，有3個人。"),
]


def read(language: str, text: str) -> str:
    tokens = list(split_utterances(text, language)) if language in LANGUAGES else []
    return f"{phonemise(text, language)} {tokens}"


@pytest.mark.slow
def test_texts_that_are_read_at_the_same_time_are_read_as_alone() -> None:
    at_once = together(5, lambda n: [read(*TEXTS[(n + i) % 5]) for i in range(5)])
    alone = [read(*text) for text in TEXTS]
    assert at_once == [[alone[(n + i) % 5] for i in range(5)] for n in range(5)]
