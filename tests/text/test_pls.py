"""PLS lexicons of other tools are imported, and what cannot be said is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import Refused
from core.text import lexicon, pls
from core.text.annotated import find_annotations
from handlers.cli.lexicon import import_file

HEAD = 'version="1.0" xmlns="http://www.w3.org/2005/01/pronunciation-lexicon"'
XSI = (
    'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="http://www.w3.org/'
    '2005/01/pronunciation-lexicon http://www.w3.org/TR/2007/CR-pronunciation-lexicon/pls.xsd"'
)
POLLY = f"""<?xml version="1.0" encoding="UTF-8"?>
<lexicon {HEAD} {XSI} alphabet="ipa" xml:lang="en-US">
  <lexeme><grapheme>W3C</grapheme><alias>World Wide Web Consortium</alias></lexeme>
  <lexeme>
    <grapheme>pecan</grapheme><grapheme>pecans</grapheme>
    <phoneme>ˈpi.kæn</phoneme><phoneme prefer="true">pɪˈkɑːn</phoneme>
  </lexeme>
  <lexeme><grapheme>acai</grapheme><phoneme alphabet="x-sampa">A:.sA:."i:</phoneme></lexeme>
</lexicon>
"""
AZURE = f"""<?xml version="1.0" encoding="UTF-16"?>
<lexicon {HEAD} {XSI}
      alphabet="ipa" xml:lang="en-US">
  <metadata><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/></metadata>
  <lexeme>
    <grapheme>BTW</grapheme>
    <alias>By the way</alias>
  </lexeme>
  <lexeme>
    <grapheme> Benigni </grapheme>
    <phoneme> bɛˈniːnji</phoneme>
  </lexeme>
  <lexeme><grapheme>click</grapheme><phoneme>ʘa</phoneme></lexeme>
  <lexeme><grapheme>mute</grapheme></lexeme>
</lexicon>
"""


def lexemes(content: str, language: str = "en-US", **attributes: str) -> bytes:
    rest = "".join(f' {name}="{value}"' for name, value in attributes.items())
    return f'<lexicon {HEAD} xml:lang="{language}"{rest}>{content}</lexicon>'.encode()


def test_a_lexicon_as_amazon_polly_documents_it(tmp_path: Path) -> None:
    file, out = tmp_path / "polly.pls", tmp_path / "polly.json"
    file.write_text(POLLY)
    output = import_file(file, out)
    assert output.exit_code == 0
    entries = json.loads(out.read_text())["entries"]
    assert [entry["term"] for entry in entries] == ["W3C", "pecan", "pecans", "acai"]
    found = lexicon.parse(out.read_bytes(), "polly.json")
    said = found.annotate("W3C, pecan, acai.", "en", "", frozenset({"en"}))
    readings = [one.words or one.phonemes for one in find_annotations(said)]
    assert readings == ["World Wide Web Consortium", "P IH0 K AA1 N", "AA0 S AA0 IY1"]
    with pytest.raises(Refused, match="FILE_EXISTS"):
        import_file(file, out)


def test_a_lexicon_as_azure_documents_it(tmp_path: Path) -> None:
    file, out = tmp_path / "azure.xml", tmp_path / "new.json"
    file.write_bytes(AZURE.encode("utf-16"))
    output = import_file(file, out)
    assert output.exit_code == 1
    entries = json.loads(out.read_text())["entries"]
    assert [entry["term"] for entry in entries] == ["BTW", "Benigni"]
    assert output.lines[1:] == [
        "not imported: line 13, column 3: click: ʘ (U+0298 LATIN LETTER BILABIAL CLICK) has no "
        "English phoneme",
        "not imported: line 14, column 3: mute: it has no <phoneme> or <alias>",
    ]


@pytest.mark.parametrize(
    ("language", "alphabet", "phonemes", "read"),
    [
        ("cmn-CN", "x-amazon-pinyin", "chong2 qing4", "chong2 qing4"),
        ("zh-HK", "x-amazon-jyutping", "wong6 gok3", "wong6 gok3"),
        ("ja-JP", "x-amazon-pron-kana", "トウキョウ", "トウキョウ"),
    ],
)
def test_alphabets_of_other_tools(language: str, alphabet: str, phonemes: str, read: str) -> None:
    content = f"<lexeme><grapheme>重</grapheme><phoneme>{phonemes}</phoneme></lexeme>"
    imported = pls.read(lexemes(content, language, alphabet=alphabet))
    assert [entry.phonemes for entry in imported.entries] == [read]
    assert imported.problems == []


@pytest.mark.parametrize(
    ("data", "code", "named"),
    [
        (b"<html/>", "LEXICON_INVALID", "<html>"),
        (b"{}", "LEXICON_INVALID", "line 1"),
        (b'<!DOCTYPE lexicon SYSTEM "file:///etc/passwd"><lexicon/>', "LEXICON_INVALID", "type"),
        (lexemes("", "fr-FR"), "LANGUAGE_UNSUPPORTED", "fr-FR"),
        (b"<lexicon/>", "LANGUAGE_UNSUPPORTED", "does not state"),
        pytest.param(b" " * (pls.MAX_BYTES + 1), "OBJECT_TOO_LARGE", "bytes", id="too large"),
    ],
)
def test_what_is_no_such_lexicon(data: bytes, code: str, named: str) -> None:
    with pytest.raises(Refused, match=named) as refused:
        pls.read(data)
    assert refused.value.code == code


def test_each_word_that_is_left_out_is_named(tmp_path: Path) -> None:
    content = (
        "<lexeme><phoneme>a</phoneme></lexeme><entry/>"
        "<lexeme><grapheme>a</grapheme><alias>b</alias><pos>noun</pos></lexeme>"
        "<lexeme><grapheme>A</grapheme><alias>c</alias></lexeme>"
        "<lexeme><grapheme>a</grapheme><alias>d</alias></lexeme>"
    )
    file = tmp_path / "x.pls"
    file.write_bytes(lexemes(content))
    lines = import_file(file, tmp_path / "x.json").lines
    assert lines[0].endswith("2 entries")
    assert [line.rpartition(": ")[2] for line in lines[1:]] == [
        "it has no <grapheme>",
        "<entry> is not read",
        "<pos> is not read",
        "it has an entry already, which is kept",
    ]
    file.write_bytes(lexemes("<lexeme><grapheme>a</grapheme></lexeme>"))
    with pytest.raises(Refused, match="Nothing in it can be said"):
        import_file(file, tmp_path / "y.json")


PIECES = st.sampled_from(
    [
        "<lexeme>", "</lexeme>", "<grapheme>", "</grapheme>", "<phoneme>", "</phoneme>", "<alias>",
        "</alias>", "wɪn", "Nguyen", "重庆", "\u200b", "&#x10fffd;", "<meta/>", "<x:y/>", "<!--",
        "&",
    ]
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(PIECES, max_size=14).map("".join))
def test_any_file_is_imported_or_refused(content: str) -> None:
    codes = ["LEXICON_INVALID"]
    try:
        imported = pls.read(lexemes(content))
    except Refused as exc:
        codes.append(exc.code)
    else:
        kept, _ = lexicon.drop_equal(imported.entries, imported.problems)
        if kept:
            lexicon.parse(lexicon.dump(kept), "x")
    assert set(codes) == {"LEXICON_INVALID"}
