from __future__ import annotations

import re
from pathlib import Path

import pytest

from core import errors
from core.errors import Failed, JobError, Misconfigured, Notice, Refused, Unavailable, raising

ROOT = Path(__file__).parents[1]
FAMILIES = [Refused, Failed, Misconfigured, Unavailable]


def sources() -> str:
    folders = ("core", "events", "handlers")
    files = [f for folder in folders for f in sorted((ROOT / folder).rglob("*.py"))]
    return "\n".join(f.read_text() for f in files if f.name != "errors.py")


def test_no_code_is_in_two_families() -> None:
    codes = [code for family in FAMILIES for code in family.codes] + list(errors.NOTICES)
    assert len(codes) == len(set(codes))


def test_the_docstring_names_every_family_and_its_retry_flag() -> None:
    for family in FAMILIES:
        line = re.search(rf"── {family.__name__} +(yes|no) ", errors.__doc__ or "")
        assert line
        assert (line[1] == "yes") == family.retry


def test_an_unknown_code_cannot_be_raised() -> None:
    with pytest.raises(KeyError):
        Refused("AUDIO_BROKEN")
    with pytest.raises(KeyError):
        Notice("HELLO")


def test_every_raised_code_is_in_its_family() -> None:
    raised = re.findall(r'\b(Refused|Failed|Misconfigured|Unavailable)\(\s*"([A-Z_]+)"', sources())
    assert len(raised) > 40
    for family, code in raised:
        assert code in getattr(errors, family).codes, f"{family}({code})"


def test_every_code_in_the_tables_is_used() -> None:
    text = sources()
    listed = [code for family in FAMILIES for code in family.codes] + list(errors.NOTICES)
    assert [code for code in listed if f'"{code}"' not in text] == []


def test_an_error_says_what_where_and_what_to_do() -> None:
    error = Refused("TEXT_EMPTY", "No text.", pointer="/items/0/text")
    assert str(error) == "TEXT_EMPTY: No text. (at /items/0/text)"
    assert error.advice == "The text is empty."
    assert Refused("TEXT_EMPTY").message == error.advice


def test_exceptions_of_libraries_become_job_errors_with_a_cause() -> None:
    with pytest.raises(JobError) as caught, raising(Unavailable("NO_SPACE"), on=OSError):
        raise OSError("disk")
    assert isinstance(caught.value.__cause__, OSError)


def test_a_notice_has_a_default_message() -> None:
    assert Notice("BOM").message == "A byte order mark was removed."


def test_the_operations_page_covers_every_code_of_the_operator() -> None:
    page = (Path(__file__).parents[1] / "docs/operations.md").read_text("utf-8")
    named = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)*)`", page))
    theirs = {code for family in (Misconfigured, Unavailable, Failed) for code in family.codes}
    assert sorted(theirs - named) == []
    settings = {name for name in named if name.startswith("VOICEDROP_")}
    assert sorted(named - settings - theirs - set(Refused.codes) - set(errors.NOTICES)) == []
