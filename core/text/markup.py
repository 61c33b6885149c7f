"""Markup that people paste is removed: HTML and its entities, Markdown, and typed rules (=====).

Only marks that form markup go: `a < b`, `2 * 3` and `snake_case` stay as they are.
"""

from __future__ import annotations

import html
import re

_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});")
_ELEMENTS = (
    "abbr|article|aside|audio|blockquote|body|button|center|cite|code|dd|del|div|dl|dt|em|"
    "figcaption|figure|font|footer|form|h[1-6]|head|header|html|img|ins|kbd|label|li|link|main|mark|"
    "meta|nav|ol|pre|rp|rt|ruby|samp|section|small|span|strike|strong|style|sub|sup|table|tbody|td|"
    "tfoot|th|thead|title|tr|ul|video|wbr|br|hr|"
    "speak|voice|prosody|emphasis|break|say-as|phoneme|lang|p|s|b|i|u|q|a"
)
"""Elements of HTML, and of SSML 1.1 (https://www.w3.org/TR/speech-synthesis11/)."""
_ATTRIBUTES = r"(?:\s[\w:.-]{1,40}\s?=[^<>]{0,800})?"
_TAG = re.compile(rf"<(?P<end>/?)(?P<name>{_ELEMENTS})(?P<rest>{_ATTRIBUTES}\s?/?)>", re.I)
_BLOCK = re.compile("(?:p|div|br|hr|li|tr|h[1-6]|title|blockquote|section|article)$", re.I)
_COMMENT = re.compile(
    r"<!--.{0,2000}?-->|<!DOCTYPE[^<>]{0,200}>|<\?xml[^<>]{0,200}\?>", re.S | re.I
)
_CAN_BE_VARIABLE = frozenset("psbiuqa")

_LINES = (
    (re.compile(r"^[ \t]*(?:```|~~~)[\w+-]*[ \t]*$", re.M), ""),
    (re.compile(r"^[ \t]*([-=*_~#+])(?:[ \t]?\1){2,}[ \t]*$", re.M), ""),
    (re.compile(r"^[ \t]*\|?(?:[ \t]*:?-{3,}:?[ \t]*\|)+[ \t]*(?::?-{3,}:?)?[ \t]*$", re.M), ""),
    (re.compile(r"^[ \t]*\|(.*)\|[ \t]*$", re.M), lambda m: m[1].replace("|", ", ")),
    (re.compile(r"^ {0,3}#{1,6}[ \t]+(.*?)[ \t]*#*$", re.M), r"\1"),
    (re.compile(r"^[ \t]*(?:>[ \t]?)+", re.M), ""),
    (re.compile(r"^[ \t]*[-*+•][ \t]+(?:\[[ xX]\][ \t]+)?", re.M), ""),
)
_SPANS = (
    (re.compile(r"!?\[([^\[\]\n]{0,300})\]\([^()\s]{0,500}(?:\s\"[^\"\n]{0,200}\")?\)"), r"\1"),
    (re.compile(r"(?<![\d*])\*\*(?=\S)([^*\n]{1,300})(?<=\S)\*\*(?![\d*])"), r"\1"),
    (re.compile(r"(?<![\w*])\*(?=[^\s*])([^*\n]{1,300})(?<=\S)\*(?![\w*])"), r"\1"),
    (re.compile(r"(?<![\w])__?(?=[^\s_])([^_\n]{1,300})(?<=\S)__?(?!\w)"), r"\1"),
    (re.compile(r"~~(?=\S)([^~\n]{1,300})(?<=\S)~~"), r"\1"),
    (re.compile(r"(`{1,3})([^`\n]{1,300})\1"), r"\2"),
    (re.compile(r"([=*_#~])\1{3,}"), " "),
)  # fmt: skip


def without_markup(text: str) -> str:
    """Return a text without markup. Elements that begin a line in HTML begin one here."""
    if "<" in text:
        text = _TAG.sub(_tag, _COMMENT.sub(" ", text))
    if "&" in text:
        text = _ENTITY.sub(lambda entity: html.unescape(entity[0]), text)
    if _MARKDOWN.search(text):
        for pattern, plain in (*_LINES, *_SPANS):
            text = pattern.sub(plain, text)
    return text


_MARKDOWN = re.compile(r"[*_`=~#|>\]]|^[ \t]*[-+•]", re.M)


def _tag(match: re.Match[str]) -> str:
    name = match["name"].lower()
    rest = match.string[match.end() : match.end() + 2000].lower()
    is_bare = name in _CAN_BE_VARIABLE and not match["end"] and not match["rest"].strip()
    if is_bare and f"</{name}" not in rest:  # `a<b>c` compares
        return "\n" if name == "p" else match[0]
    return "\n" if _BLOCK.match(name) else ""
