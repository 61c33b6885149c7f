"""Mandarin cases that are not among the golden rows."""

from __future__ import annotations

import pytest

from core.text import phonemise, zh_words
from core.text.zh_numbers import cardinal, expand, quantity
from core.text.zh_sandhi import Word, apply_erhua, apply_sandhi


def phones(text: str) -> str:
    return " ".join(phonemise(text, "zh").phones)


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("看一看。", "k an4 y i5 k an4 ."),
        ("看不懂。", "k an4 b u5 d ong3 ."),
        ("纸老虎。", "zh ir3 l ao2 h u3 ."),
        ("听一听。", "t ing1 y i5 t ing1 ."),
        ("蒙古包。", "m eng2 g u3 b ao1 ."),
        ("所有人。", "s uo2 y ou3 r en2 ."),
        ("岂有此理。", "q i2 y ou3 c i02 l i3 ."),
        ("很不。", "h en3 b u4 ."),
        ("很不", "h en3 b u4"),
        ("写了一。", "x ie3 l e5 y i1 ."),
        ("花儿。", "h ua1 EE er2 ."),
        ("嗯。", "EE en1 ."),
        ("慢慢地走。", "m an4 m an4 d e5 z ou3 ."),
        ("两只猫，三只狗。", "l iang3 zh ir1 m ao1 , s an1 zh ir1 g ou3 ."),
        ("这只猫只有这只是。", "zh e4 zh ir1 m ao1 zh ir2 y ou3 zh e4 zh ir3 sh ir4 ."),
        ("他教我。", "t a1 j iao1 w o3 ."),
        ("银行行长。", "y in2 h ang2 h ang2 zh ang3 ."),
        ("高高兴兴。", "g ao1 g ao5 x ing4 x ing5 ."),
        ("朝鲜。", "ch ao2 x ian3 ."),
        ("他说不。", "t a1 sh uo1 b u4 ."),
        ("欸。", "AA ai1 ."),
        ("女士。", "n v3 sh ir4 ."),
        ("云雨。", "y vn2 y v3 ."),
        ("哦。", "OO o5 ."),
        ("乌龟。", "w u1 g ui1 ."),
    ],
)
def test_tones_and_syllables(text: str, spoken: str) -> None:
    assert phones(text) == spoken


@pytest.mark.parametrize(
    ("finals", "split", "spoken"),
    [
        (["i3", "u3", "ao3"], ("你好", "吗"), ["i2", "u2", "ao3"]),
        (["i3", "u3", "ao3"], ("你", "好吗"), ["i3", "u2", "ao3"]),
        (["i3", "u3", "ao1"], ("你好", "吗"), ["i2", "u3", "ao1"]),
        (["i1", "u3", "ao3"], ("你", "好马"), ["i1", "u2", "ao3"]),
        (["i3", "u3", "ao1"], ("你", "好妈"), ["i2", "u3", "ao1"]),
        (["i3", "u1", "ao3"], ("你", "他马"), ["i3", "u1", "ao3"]),
    ],
    ids=["2+1", "1+2", "first two", "last two", "across", "apart"],
)
def test_third_tones_of_three_syllables_depend_on_the_word_boundary(
    finals: list[str], split: tuple[str, str], spoken: list[str]
) -> None:
    assert apply_sandhi(Word("米老马", "x"), finals, lambda _: split) == spoken


def test_er_as_a_separate_syllable_keeps_its_tone() -> None:
    assert apply_erhua(Word("女儿", "n"), ["v3", "er2"]) == ["v3", "er2"]
    assert apply_erhua(Word("好儿", "a"), ["ao3", "er1"]) == ["ao3", "er2"]
    assert apply_erhua(Word("范儿", "n"), ["an4", "er2"]) == ["an4", "er4"]
    assert apply_erhua(Word("儿", "n"), ["er2"]) == ["er2"]


def test_phonemes_are_counted_for_each_character() -> None:
    reading = phonemise("你好，世界。", "zh")
    assert reading.text == "你好,世界."
    assert reading.word2ph == (2, 2, 1, 2, 2, 1)
    assert sum(reading.word2ph) == len(reading.phones)


def test_requested_pauses_replace_commas() -> None:
    assert phones("停，顿^再￥来。") == "t ing2 SP2 d un4 SP2 z ai4 SP2 l ai2 ."
    assert phones("停^再来。") == "t ing2 SP3 z ai4 l ai2 ."


def test_a_character_without_a_reading_is_unknown() -> None:
    reading = phonemise("好瓧。", "zh")
    assert reading.phones[2] == "UNK"
    assert sum(reading.word2ph) == len(reading.phones)


def test_traditional_characters_are_read_like_simplified_ones() -> None:
    assert phonemise("臺灣", "zh").phones == phonemise("台湾", "zh").phones


@pytest.mark.slow
def test_words_equal_those_of_jieba() -> None:
    import jieba.posseg

    text = "小明硕士毕业于中国科学院计算所，后在日本京都大学深造，欢迎新老师生前来就餐"
    expected = [(pair.word, pair.flag) for pair in jieba.posseg.POSTokenizer().lcut(text)]
    assert [tuple(word) for word in zh_words.tag_words(text)] == expected


@pytest.mark.parametrize(
    ("digits", "spoken"),
    [
        ("0", "零"),
        ("10", "十"),
        ("110", "一百一十"),
        ("1005", "一千零五"),
        ("10050", "一万零五十"),
        ("100000", "十万"),
        ("120000000", "一亿二千万"),
        ("1000000000000", "一万亿"),
        ("3.50", "三点五零"),
        ("007", "七"),
    ],
)
def test_cardinals(digits: str, spoken: str) -> None:
    assert cardinal(digits) == spoken


def test_two_before_a_measure_word() -> None:
    assert [quantity(n) for n in ("2", "12", "20", "2000", "20000")] == [
        "两", "十二", "二十", "两千", "两万",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("共500", "共五百"),
        ("号码1500", "号码幺五零零"),
        ("98.6°F", "九十八点六华氏度"),
        ("5‰", "千分之五"),
        ("1998", "一九九八"),
        ("α和①", "阿尔法和一"),
        ("A&B", "A和B"),
        ("x²", "x的二次方"),
        ("5+", "五加"),
        ("1:99", "一比九十九"),
        ("3×4×5", "三乘四乘五"),
        ("0.5<1", "零点五小于一"),
        ("-.5", "负零点五"),
        ("24年3月", "二四年三月"),
        ("8点30分", "八点三十分"),
        ("0:00", "零点"),
        ("12:00:05", "十二点零分零五秒"),
        ("转8001", "转八零零幺"),
    ],
)
def test_numbers_in_context(written: str, spoken: str) -> None:
    assert expand(written) == spoken
