"""`voicedrop lexicon ...`: make lexicons of those of other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from core.errors import Refused
from handlers.cli import exit_codes
from handlers.cli.files import create_file, read_file
from handlers.cli.options import AsJson
from handlers.cli.screen import CommandOutput, show

lexicon_app = typer.Typer(help="Pronunciation lexicons.", no_args_is_help=True)


@lexicon_app.callback()
def _group() -> None: ...


@lexicon_app.command("import")
def import_lexicon(
    file: Annotated[Path, typer.Argument(help="A lexicon in W3C PLS 1.0.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="The lexicon. Default: FILE as .json.")
    ] = None,
    language: Annotated[str, typer.Option(help="Its language, if it states none.")] = "",
    as_json: AsJson = False,
) -> None:
    """Write the lexicon of another tool as voicedrop/lexicon/1.

    Names each word that neither engine can say so, and why. Exit code 1 if there is one; the others
    are written all the same.
    """
    show(import_file(file, out or file.with_suffix(".json"), language), as_json=as_json)


def import_file(file: Path, out: Path, language: str = "") -> CommandOutput:
    """Raises Refused LEXICON_INVALID, LANGUAGE_UNSUPPORTED, FILE_EXISTS, OBJECT_MISSING."""
    from core.text import lexicon, pls  # every other command would wait for them

    imported = pls.read(read_file(file, limit=pls.MAX_BYTES), language)
    entries, problems = lexicon.drop_equal(imported.entries, imported.problems)
    if not entries:
        message = "Nothing in it can be said: " + (problems[0] if problems else "it is empty")
        raise Refused("LEXICON_INVALID", f"{message}.", pointer=str(file), advice="")
    data = lexicon.dump(entries)
    lexicon.parse(data, str(out))
    create_file(out, data)
    lines = [f"{file} -> {out}: {len(entries)} entries"]
    lines += [f"not imported: {problem}" for problem in problems]
    summary = {"out": str(out), "entries": len(entries), "problems": problems}
    return CommandOutput(summary, lines, exit_codes.FAILED if problems else exit_codes.DONE)
