"""The documentation names only files, modules, functions and pages that exist; the glossary."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
FOLDERS = sorted(path.parent.name for path in ROOT.glob("*/*.*") if path.parent.name[0] != ".")
PYTHON_FILES = {path.name for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
FILE = re.compile(rf"({'|'.join(FOLDERS)})/[\w./-]*|\w+\.py")
MODULE = re.compile(r"(?:bench|cloud|core|events|handlers|tests|watermark)(?:\.[A-Za-z_]\w*)+")
LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)")


def missing_names(text: str) -> list[str]:
    """List the files, modules and functions in code spans that do not exist."""
    words = {word.strip("`,:;()\"'") for code in CODE.findall(text) for word in code.split()}
    files = {word for word in words if FILE.fullmatch(word) and not file_exists(word)}
    modules = {name for word in words for name in MODULE.findall(word) if "/" not in word}
    return sorted(files | {name for name in modules if not module_exists(name)})


def file_exists(name: str) -> bool:
    """Tables name a test by its path in tests/, and a module by its file name alone."""
    if "/" in name:
        return (ROOT / name).exists() or ("/test_" in name and (ROOT / "tests" / name).exists())
    return name in PYTHON_FILES


def module_exists(name: str) -> bool:
    """Whether a dotted name is a package, a module, or a name that a module defines or imports."""
    path, _, last = name.replace(".", "/").rpartition("/")
    if (ROOT / path / last).is_dir() or (ROOT / path / f"{last}.py").is_file():
        return True
    files = [ROOT / f"{path}.py", ROOT / path / "__init__.py"]
    return any(re.search(rf"\b{last}\b", file.read_text()) for file in files if file.is_file())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_only_what_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert missing_names(text) == []
    assert [link for link in LINK.findall(text) if not (page.parent / link).exists()] == []


def test_a_name_that_does_not_exist_is_found() -> None:
    page = "`core/errors.py` `core/gone.py` `python -m bench.gone` `core.errors.Refused` `gone.py`"
    page += " `core.errors.Gone`\n```sh\nscripts/test tests/gone -k x\n```\n`out/<job_id>/`"
    gone = ["bench.gone", "core.errors.Gone", "core/gone.py", "gone.py", "tests/gone"]
    assert missing_names(page) == gone


def test_the_glossary_is_in_alphabetical_order_and_translates_every_term() -> None:
    page = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    terms = [term.casefold() for term, *_ in rows[1:]]
    assert terms == sorted(set(terms))
    assert all(len(row) == 4 and re.search("[一-鿿]|SoVITS", row[3]) for row in rows)
