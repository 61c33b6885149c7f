"""The Chinese README has everything that the English one has, in Chinese punctuation."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENGLISH, CHINESE = (
    # without the generated table of settings, which tests/result/test_schemas.py compares
    re.sub("<!-- settings.*end of settings -->", "", (ROOT / name).read_text("utf-8"), flags=re.S)
    for name in ("README.md", "README.zh-CN.md")
)


def linked_pages(page: str) -> set[str]:
    return {link for link in re.findall(r"\]\(([^)]+)\)", page) if not link.startswith("README")}


def code_spans(page: str) -> set[str]:
    return set(re.findall(r"`([^`\n]+)`", page))


def commands(page: str) -> list[str]:
    """Return the lines of the shell blocks without comments and subjects of consent."""
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    lines = "".join(blocks).replace("--subject 本人", "--subject me").splitlines()
    return [line.split("  #")[0].rstrip() for line in lines]


def test_both_readmes_have_the_same_sections_links_and_commands() -> None:
    assert len(re.findall("^## ", CHINESE, re.M)) == len(re.findall("^## ", ENGLISH, re.M))
    assert linked_pages(CHINESE) == linked_pages(ENGLISH)
    assert commands(CHINESE) == commands(ENGLISH)
    assert {span for span in code_spans(ENGLISH) if span.isascii()} <= code_spans(CHINESE)


def test_chinese_text_has_full_width_punctuation() -> None:
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", CHINESE, flags=re.DOTALL)
    assert re.findall("[一-鿿][,:;()!?]|[,:;()!?][一-鿿]", prose) == []
