"""SSML: what is read, and what is refused by name and place."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import ExplainedError, Refused
from core.settings import Engine
from core.text import ssml, xml_tree
from core.text.annotated import find_annotations, split_at_pauses, to_written
from handlers.cli.text import annotate, show_reading

ALL = frozenset({"en", "ja", "ko", "yue", "zh"})


def read(text: str, language: str = "en") -> str:
    return ssml.read(text, language, ALL, lambda words, of: words, "/items/0/text")


def readings(text: str, language: str = "en") -> list[str]:
    found = find_annotations(read(text, language))
    return [f"{a.language} {a.words}{a.phonemes}" for a in found if a.pause_ms is None]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("plain &amp; &#x4f60;", "plain & 你"),
        ('<speak version="1.1" xml:lang="en-GB" xmlns="urn:x">Hi</speak>', "Hi"),
        ('<?xml version="1.0"?><speak>Hi</speak>', "Hi"),
        ('One<break time="1s"/>two', "One two"),
        ('<sub alias="World Wide Web">WWW</sub>', "WWW"),
        ('<lang xml:lang="zh-CN">你<sub alias="坏">好</sub></lang>!', "你好!"),
        ("a&#x200b;b&#xfffa;c&#x100000;", "abc"),
    ],
)
def test_the_written_text_is_what_is_in_the_elements(text: str, written: str) -> None:
    assert to_written(read(text)) == written


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('<phoneme alphabet="ipa" ph="pɪˈkɑːn">pecan</phoneme>', ["en P IH0 K AA1 N"]),
        ('<phoneme ph="wɪn">Nguyen</phoneme>', ["en W IH1 N"]),
        ('<phoneme alphabet="x-sampa" ph="wIn">Nguyen</phoneme>', ["en W IH1 N"]),
        ('<lang xml:lang="zh-CN">你<sub alias="坏">好</sub></lang>', ["zh 你", "zh 坏"]),
        ('<lang xml:lang="zh-HK">你</lang>', ["yue 你"]),
        (
            '<lang xml:lang="zh"><phoneme alphabet="pinyin" ph="hao4">好</phoneme></lang>',
            ["zh hao4"],
        ),
    ],
)  # fmt: skip
def test_elements(text: str, expected: list[str]) -> None:
    assert readings(text) == expected


SAY_AS = [
    ("en", "characters", "", "A1-b", "A, one, dash, B"),
    ("zh", "characters", "", "AB12", "A，B，一，二"),
    ("ja", "spell-out", "", "A/1", "A、スラッシュ、イチ"),
    ("ko", "characters", "", "a1", "A, 일"),
    ("en", "digits", "", "1990", "one nine nine zero"),
    ("zh", "digits", "", "110", "一一零"),
    ("ja", "digits", "", "10", "イチ・ゼロ"),
    ("en", "cardinal", "", "-1990", "minus one thousand, nine hundred ninety"),
    ("zh", "cardinal", "", "302", "三百零二"),
    ("yue", "cardinal", "", "1,302", "一千三百零二"),
    ("ko", "number", "", "302", "삼백이"),
    ("ja", "cardinal", "", "302", "302"),
    ("en", "ordinal", "", "22nd", "twenty-second"),
    ("zh", "ordinal", "", "22", "第二十二"),
    ("ja", "ordinal", "", "3", "第3"),
    ("ko", "ordinal", "", "3", "제삼"),
    ("en", "date", "", "2024-03-05", "March fifth, twenty twenty-four"),
    ("en", "date", "dmy", "3/5/2024", "May third, twenty twenty-four"),
    ("en", "date", "md", "12.24", "December twenty-fourth"),
    ("en", "date", "y", "1999", "nineteen ninety-nine"),
    ("zh", "date", "yyyymmdd", "20240305", "2024年3月5日"),
    ("ko", "date", "ymd", "2024/3/5", "2024년 3월 5일"),
    ("en", "time", "", "2:30pm", "2:30 P M"),
    ("en", "time", "hms24", "14:30:01", "14:30 and 1 second"),
    ("zh", "time", "", "14:30", "14点30分"),
    ("ja", "time", "hms12", "2:05 p.m.", "14時5分"),
    ("en", "telephone", "1", "+1 (555) 010", "plus one, five five five, zero one zero"),
    ("zh", "telephone", "", "010-110", "零幺零，幺幺零"),
    ("ko", "telephone", "", "010-1", "공일공, 일"),
]


@pytest.mark.parametrize(("language", "kind", "form", "text", "words"), SAY_AS)
def test_say_as(language: str, kind: str, form: str, text: str, words: str) -> None:
    form = f' format="{form}"' if form else ""
    element = f'<say-as interpret-as="{kind}"{form}>{text}</say-as>'
    assert readings(element, language) == [f"{language} {words}"]


@pytest.mark.parametrize(
    ("text", "place", "named"),
    [
        ('<prosody rate="fast">x</prosody>', "line 1, column 1", "<prosody>"),
        ('one\n two <break tim="1s"/>', "line 2, column 6", "`tim`"),
        ('<speak onvoice="x">a</speak>', "line 1, column 1", "`onvoice`"),
        ('<break time="11s"/>', "line 1, column 1", "11s"),
        ('<break time="1"/>', "line 1, column 1", "500ms"),
        ('<break strength="loud"/>', "line 1, column 1", "x-strong"),
        ("<break>x</break>", "line 1, column 1", "no content"),
        ("<sub>x</sub>", "line 1, column 1", "`alias`"),
        ('<sub alias=" ">x</sub>', "line 1, column 1", "no word"),
        (f'<sub alias="{"a" * 201}">x</sub>', "line 1, column 1", "200"),
        ('<sub alias="a"><break/></sub>', "line 1, column 16", "<sub>"),
        ('<lang xml:lang="zh"><speak/></lang>', "line 1, column 21", "<speak>"),
        ('<phoneme ph="ʘ">x</phoneme>', "line 1, column 1", "BILABIAL CLICK"),
        ('<phoneme alphabet="sapi" ph="x">x</phoneme>', "line 1, column 1", "'sapi'"),
        ('<say-as interpret-as="currency">5</say-as>', "line 1, column 1", "telephone"),
        ('<say-as interpret-as="date">soon</say-as>', "line 1, column 1", "'soon'"),
        ('<say-as interpret-as="date">2024-13-01</say-as>', "line 1, column 1", "month"),
        ('<say-as interpret-as="date" format="x">1</say-as>', "line 1, column 1", "'x'"),
        ('<say-as interpret-as="time">25:00</say-as>', "line 1, column 1", "25:00"),
        ('<say-as interpret-as="cardinal">x</say-as>', "line 1, column 1", "'x'"),
        ('<say-as interpret-as="digits">12a</say-as>', "line 1, column 1", "12a"),
        ('<say-as interpret-as="characters">“</say-as>', "line 1, column 1", "“"),
        ('<say-as interpret-as="digits" format="x">12</say-as>', "line 1, column 1", "'x'"),
        ("<speak>a", "line 1, column 9", ""),
        ("a < b", "line 1, column 4", ""),
        ("&foo;", "line 1, column 1", "entity"),
        ("<a:b>x</a:b>", "line 1, column 1", "<a:b>"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "line 1, column 3", ""),
        ('<?xml version="1.0"?>\n<!DOCTYPE speak><speak/>', "line 2, column 16", "document type"),
        ("<lang xml:lang='zh'>" * 40, "line 1, column 621", "nested"),
        ('<break time="10s"/>' * 7, "", "70 s"),
    ],
)  # fmt: skip
def test_anything_else_is_refused_by_name_and_place(text: str, place: str, named: str) -> None:
    with pytest.raises(Refused) as refused:
        read(text)
    assert (refused.value.code, refused.value.pointer) == ("MARKUP_INVALID", "/items/0/text")
    assert refused.value.message.startswith(f"{place}: " if place else "The pauses")
    assert named in refused.value.message


@pytest.mark.parametrize("language", ["fr", "ko"])
def test_a_language_that_the_engine_does_not_speak(language: str) -> None:
    text = f'Hi <lang xml:lang="{language}">x</lang>'
    with pytest.raises(Refused, match="line 1, column 4") as refused:
        ssml.read(text, "en", {"en", "zh"}, lambda words, of: words)
    assert refused.value.code == "LANGUAGE_UNSUPPORTED"


def test_pauses() -> None:
    text = read('One <break/><break time=".25s"/>two <break strength="none"/>.<break time="40ms"/>')
    assert split_at_pauses(text) == [("One ", 1.0), ("two  .", 0.04)]


def test_a_long_text_in_another_language_is_divided() -> None:
    found = find_annotations(read(f'<lang xml:lang="zh">{"你好，世界。" * 100}</lang>'))
    assert len(found) > 5
    assert max(len(one.words) for one in found) <= 200


PIECES = st.sampled_from(
    [
        "<speak>", "</speak>", "<break/>", '<break time="1s"/>', '<sub alias="b c">', "</sub>",
        '<say-as interpret-as="date">', "</say-as>", '<phoneme ph="a">', "</phoneme>", "2024-1-2",
        '<lang xml:lang="zh">', "</lang>", "&amp;", "&#65529;", "&#1114109;", "<![CDATA[x]]>",
        "<!--x-->", "<", ">", "\n", "\x0b", "\ud800", "<?x?>", "one ", "你好。",
    ]
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(PIECES, max_size=12).map("".join))
def test_any_text_is_read_or_refused(text: str) -> None:
    codes = [""]
    try:
        found = read(text)
    except Refused as exc:
        found, codes = "", [exc.code]
    assert codes in ([""], ["MARKUP_INVALID"])
    assert not set(to_written(found)) & set("\ufff9\ufffa\ufffb\U0010fffd")


def test_a_tree_from_bytes_of_an_unknown_encoding() -> None:
    with pytest.raises(ExplainedError):
        xml_tree.parse(b'<?xml version="1.0" encoding="x-none"?><a/>')


@pytest.mark.parametrize("engine", ["kokoro", "gpt_sovits"])
def test_the_command_shows_pauses_and_readings(engine: Engine) -> None:
    text = 'Hi <break time="1.5s"/> <phoneme ph="wɪn">Nguyen</phoneme>.'
    shown = show_reading(annotate(text, "en", engine, None, is_ssml=True), "en", engine=engine)
    assert "  pause   1.5 s" in shown.lines
    assert any("Nguyen" in line for line in shown.lines)
    assert any("W IH1 N" in line or "wˈɪn" in line for line in shown.lines)
