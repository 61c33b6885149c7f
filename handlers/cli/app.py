"""`voicedrop`: the same pipeline over folders or buckets, for people and for scripts.

Results go to standard output (with --json as one JSON document), progress to standard error.
Exit codes: 0 done; 1 something was refused or failed; 2 wrong usage; 3 a job waits for a file;
4 a setting or key needs you; 5 try again later.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from core.errors import JobError, Misconfigured, Unavailable
from core.version import VERSION
from handlers.cli import screen
from handlers.cli.consent import consent_app
from handlers.cli.log import log_app
from handlers.cli.models import models_app
from handlers.cli.options import AsJson, Bucket, Mark, environment, settings
from handlers.server.secrecy import disable_core_dumps

app = typer.Typer(
    name="voicedrop",
    help="Drop a manifest and a reference recording; get watermarked, sealed speech in that voice.",
    epilog="To begin: `init`, then `submit` a manifest and its files, `watch --once`, and `open` "
    "the result. Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 waiting for a file, "
    "4 a setting or key needs you, 5 try again later. Settings: see the README.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(consent_app, name="consent")
app.add_typer(models_app, name="models")
app.add_typer(log_app, name="log")

EXIT_FAILED, EXIT_WAITING, EXIT_OPERATOR, EXIT_LATER = 1, 3, 4, 5


def _tell_version(asked: bool) -> None:
    if asked:
        typer.echo(VERSION)
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_tell_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None: ...


@app.command()
def init(bucket: Bucket = None, as_json: AsJson = False) -> None:
    """Make the folders and keys.

    Safe to repeat: nothing is ever replaced.
    """
    from handlers.cli import desk

    screen.show(desk.init(settings(bucket)), as_json=as_json)


@app.command()
def watch(
    bucket: Bucket = None,
    once: Annotated[bool, typer.Option("--once", help="Stop when nothing is left to do.")] = False,
    poll: Annotated[float, typer.Option(help="Seconds between looks at the inbox.")] = 2.0,
    as_json: AsJson = False,
) -> None:
    """Carry out the manifests in the inbox.

    Every manifest that has no result yet; then wait for more, unless --once.
    """
    from handlers.cli import watch as watching

    with screen.Progress(quiet=as_json) as progress:
        found = watching.watch(settings(bucket), once=once, poll=poll, progress=progress)
    screen.show(found, as_json=as_json)
    raise typer.Exit(found.exit_code)


@app.command()
def submit(
    manifest: Annotated[Path, typer.Argument(help="A .manifest.json file.")],
    files: Annotated[
        list[Path] | None, typer.Argument(help="Recordings and consent records it names.")
    ] = None,
    bucket: Bucket = None,
    as_json: AsJson = False,
) -> None:
    """Put a manifest and its files into the inbox.

    The manifest is checked first and stored last, because its arrival starts the job.

    A file goes to the key of that name in the manifest: my/alice.wav becomes refs/alice.wav if
    that is what the manifest says.
    """
    from handlers.cli import desk

    screen.show(desk.submit(settings(bucket), manifest, files or []), as_json=as_json)


@app.command(name="open")
def open_(
    source: Annotated[str, typer.Argument(help="A job id, result.json, or a .sealed file.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the audio.")] = Path(),
    bucket: Bucket = None,
    as_json: AsJson = False,
) -> None:
    """Unseal the audio of a result.

    The signature, the envelopes and every digest are checked before a file appears.
    """
    from handlers.cli import desk

    screen.show(desk.open_result(settings(bucket), source, out), as_json=as_json)


@app.command()
def trace(
    clips: Annotated[list[Path], typer.Argument(help="Audio files of any origin.")],
    index: Annotated[
        Path | None, typer.Option(help="index.json of an audit, in place of the bucket.")
    ] = None,
    bucket: Bucket = None,
    as_json: AsJson = False,
) -> None:
    """Tell which job made these clips, of up to ten hours each.

    Reads the watermark. It says "carries our mark" or not, never what is genuine.
    """
    from handlers.cli import audit as auditing

    found = auditing.trace(settings(bucket), clips, index)
    screen.show(found, as_json=as_json)
    raise typer.Exit(found.exit_code)


@app.command()
def audit(
    bucket: Bucket = None,
    since: Annotated[str, typer.Option(help="Results from this day on, YYYY-MM-DD (UTC).")] = "",
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("audit"),
    jobs: Annotated[int, typer.Option(min=1, help="Jobs looked at side by side.")] = 2,
    checkpoint: Annotated[
        Path | None, typer.Option(help="A checkpoint of the log that was kept elsewhere.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check every result of a bucket.

    Signed, there, unchanged, marked, logged, consented to? Reads only, and needs public keys
    only; what it cannot check without the others it says. Writes report.html, items.csv,
    report.json and index.json. Cut off, it goes on where it was.

    Exit codes: 0 clean, 1 findings, 2 it could not be done.
    """
    from handlers.cli import audit as auditing

    request = auditing.AuditRequest(out=out, since=since, workers=jobs, checkpoint=checkpoint)
    with screen.Progress(quiet=as_json) as progress:
        found = auditing.audit(settings(bucket), request, progress)
    screen.show(found, as_json=as_json)
    raise typer.Exit(found.exit_code)


@app.command()
def abx(
    recordings: Annotated[list[Path], typer.Argument(help="Recordings, or folders of them.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The page.")] = Path("abx.html"),
    trials: Annotated[
        int, typer.Option(min=1, max=100, help="Questions a listener is asked.")
    ] = 16,
    seconds: Annotated[float, typer.Option(min=1, max=30, help="Length of an excerpt.")] = 5.0,
    mark: Mark = None,
    as_json: AsJson = False,
) -> None:
    """Make a listening test: can a person hear the mark?

    Writes one HTML file that works from disk. In each trial X is A or B, one of them marked; at the
    end the page weighs the answers against guessing (binomial test) and saves them as JSON.
    Twelve of sixteen right happen by luck to four listeners in a hundred.
    """
    from handlers.cli import listening_test

    with screen.Progress(quiet=as_json) as progress:
        found = listening_test.make(
            recordings,
            out,
            trials=trials,
            seconds=seconds,
            preset=mark or settings().mark,
            progress=progress,
        )
    screen.show(found, as_json=as_json)


@app.command()
def sweep(
    bucket: Bucket = None,
    grace: Annotated[
        float, typer.Option(help="Seconds in which a new manifest's notification may still come.")
    ] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Finish what lost notifications and dead workers left behind.

    Manifests without result are carried out, results without event announced, stale marks removed;
    what is left over is explained. Safe at any time, beside running workers.
    """
    from handlers.cli import sweep as sweeping

    with screen.Progress(quiet=as_json) as progress:
        found = sweeping.run(settings(bucket), grace=grace, progress=progress)
    screen.show(found, as_json=as_json)
    raise typer.Exit(found.exit_code)


@app.command()
def doctor(bucket: Bucket = None, as_json: AsJson = False) -> None:
    """Tell what works here and what is missing, and list the settings."""
    from handlers.cli.doctor import examine

    found = examine(environment(bucket))
    screen.show(found, as_json=as_json)
    raise typer.Exit(found.exit_code)


@app.command()
def schema(
    name: Annotated[str, typer.Argument(help="job, result, event or consent.")] = "job",
) -> None:
    """Print the JSON Schema of a document."""
    from handlers.cli import desk

    screen.show_document(desk.schema(name))


@app.command()
def text(
    words: Annotated[str, typer.Argument(help="What shall be read.")],
    language: Annotated[str, typer.Option(help="zh, en, ja, ko, yue, or auto.")] = "auto",
    cut: Annotated[str, typer.Option(help="How to cut it: sentence, or cut0 to cut5.")] = (
        "sentence"
    ),
    as_json: AsJson = False,
) -> None:
    """Show how GPT-SoVITS will read a text.

    The normalised text, the phonemes and their ids: why does a word sound wrong?
    """
    from handlers.cli import text as textcmd

    screen.show(textcmd.read(words, language, cut), as_json=as_json)


def main() -> None:
    """Entry point: errors end in a sentence and an exit code, never in a traceback."""
    disable_core_dumps()
    try:
        app()
    except JobError as error:
        Console(stderr=True, highlight=False).print(f"{error}\n{error.advice}", markup=False)
        sys.exit(_exit_code(error))
    except KeyboardInterrupt:
        sys.exit(130)


def _exit_code(error: JobError) -> int:
    if isinstance(error, Misconfigured):
        return EXIT_OPERATOR
    return EXIT_LATER if isinstance(error, Unavailable) else EXIT_FAILED


if __name__ == "__main__":
    main()
