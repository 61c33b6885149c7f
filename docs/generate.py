"""Generate pages and schemas from the code: `python docs/generate.py`.

With `--check`, write nothing and exit with code 1 if a generated file is out of date.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from cloud import prices  # noqa: E402
from core import errors  # noqa: E402
from core.settings import SETTINGS, Setting  # noqa: E402
from handlers.api import openapi  # noqa: E402
from handlers.cli.schema import SCHEMAS  # noqa: E402

FAMILIES = (
    (
        "Refused",
        errors.REFUSED,
        "The producer must act: something in the manifest, a recording or a record is wrong. "
        "Never retried.",
    ),
    (
        "Failed",
        errors.FAILED,
        "The output was made but is not fit for release. Not retried automatically.",
    ),
    (
        "Misconfigured",
        errors.MISCONFIGURED,
        "The operator must act: keys, buckets, policy. Not retried automatically.",
    ),
    (
        "Unavailable",
        errors.UNAVAILABLE,
        "No one must act yet, unless the advice says so: workers and the platform try a job again, "
        "and it continues where it stopped. Any other command must be run again.",
    ),
)

READMES: Mapping[str, Mapping[str, Any]] = {
    "README.md": {
        "head": "| variable | meaning | values | default |",
        "kinds": {str: "text", int: "whole number, {} to {}", float: "number, {} to {}"},
        "path": "path",
        "secret": "secret text",
        "help": {name: row.help for name, row in SETTINGS.items()},
    },
    "README.zh-CN.md": {
        "head": "| 环境变量 | 含义 | 取值 | 默认值 |",
        "kinds": {str: "文本", int: "整数，{} 至 {}", float: "数值，{} 至 {}"},
        "path": "路径",
        "secret": "机密文本",
        "help": json.loads((HERE / "settings.zh-CN.json").read_text(encoding="utf-8")),
    },
}
MARKS = "<!-- {0}: made by docs/generate.py -->", "<!-- end of {0} -->"


def pages() -> dict[Path, str]:
    """Path -> content of every generated file."""
    made = {}
    for make in SCHEMAS.values():
        schema = make()
        name = "-".join(schema["title"].split("/")[1:])  # voicedrop/result/1 -> result-1
        made[HERE / "schemas" / f"{name}.json"] = _format_schema(schema)
    made[HERE / "schemas" / "openapi.json"] = openapi.document().decode() + "\n"
    for name, words in READMES.items():
        path = HERE.parent / name
        page = path.read_text(encoding="utf-8")
        made[path] = _between_marks(page, "settings", settings_table(words))
    path = HERE / "deploy.md"
    page = path.read_text(encoding="utf-8")
    for name, lines in prices.SECTIONS.items():
        page = _between_marks(page, name, "\n".join(lines()))
    made[path] = page
    return made | {HERE / "errors.md": error_page()}


def _format_schema(schema: Mapping[str, Any]) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def error_page() -> str:
    parts = [
        "# Error codes",
        "Generated from `core/errors.py` by `python docs/generate.py`; a test keeps it current.",
        "Every error in a result has a `code`, a `message` about this case, the `advice` below, a "
        "`pointer` and `retryable`. A code never changes its meaning; a message may. The pointer "
        "is a JSON pointer (RFC 6901) into the manifest, `/items/3/text`; in JSON Lines the line "
        "comes first, `line 17/text`; for an object it is the key.",
        "After a correction: a changed manifest is a new job, so store it again. If something else "
        "was corrected, such as a consent record or a recording, `voicedrop retry JOB` runs it "
        "again and keeps what succeeded ([manifest.md](manifest.md)).",
    ]
    for family, codes, who in FAMILIES:
        parts += [f"## {family}", who, table(codes, "what to do")]
    parts += [
        "## Notices",
        "Remarks that stop nothing. They are listed in `notices` of the job, of a voice or of an "
        "item.",
        table(errors.NOTICES, "meaning"),
    ]
    return "\n\n".join(parts) + "\n"


def table(codes: Mapping[str, str], heading: str) -> str:
    rows = [f"| `{code}` | {text.replace('|', '&#124;')} |" for code, text in codes.items()]
    return "\n".join([f"| code | {heading} |", "|---|---|", *rows])


def settings_table(words: Mapping[str, Any]) -> str:
    if list(words["help"]) != list(SETTINGS):
        raise ValueError("settings.zh-CN.json must name the settings of core/settings.py in order")
    lines = [words["head"], "|---|---|---|---|"]
    for name, row in SETTINGS.items():
        help_ = re.sub(r"docs/[\w-]+\.md", r"[\g<0>](\g<0>)", words["help"][name])
        cells = (f"`{row.variable}`", help_, _values(row, words), _default(row))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _values(row: Setting, words: Mapping[str, Any]) -> str:
    if row.choices:
        return ", ".join(f"`{choice}`" for choice in row.choices)
    if row.secret:
        return str(words["secret"])
    kind: str = words["kinds"].get(row.type, words["path"])
    return kind.format(f"{row.low:,}", f"{row.high:,.0f}")


def _default(row: Setting) -> str:
    """Without what depends on this machine: the home folder is `~`."""
    value = row.default
    if isinstance(value, Path) and value.is_relative_to(Path.home()):
        value = Path("~") / value.relative_to(Path.home())
    shown = f"{value:g}" if isinstance(value, float) else str(value)
    return "" if value in ("", None) else f"`{shown}`"


def _between_marks(page: str, name: str, content: str) -> str:
    start, end = (mark.format(name) for mark in MARKS)
    before, rest = page.split(start)
    return f"{before}{start}\n{content}\n{end}{rest.split(end)[1]}"


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        stale = [path.name for path, made in pages().items() if path.read_text("utf-8") != made]
        sys.exit(f"not current: {', '.join(stale)}" if stale else 0)
    for path, content in pages().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, encoding="utf-8")
