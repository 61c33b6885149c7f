"""The commands of `voicedrop` and their options.

Results go to standard output (with --json as one JSON document, which for an error is `error` with
its code, message and pointer), progress and errors to standard error. Exit codes are in
`exit_codes.py`.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from core.errors import JobError, Refused
from core.version import VERSION
from handlers.cli import exit_codes, screen
from handlers.cli.consent import consent_app
from handlers.cli.keys import keys_app
from handlers.cli.lexicon import lexicon_app
from handlers.cli.log import log_app
from handlers.cli.models import models_app
from handlers.cli.options import (
    AsJson,
    Bucket,
    Mark,
    check_seconds,
    read_environment,
    read_settings,
)
from handlers.cli.protect import protect_app
from handlers.server.secrecy import disable_core_dumps

NamedJob = Annotated[
    str, typer.Argument(help="A job id or its first digits (four or more), or a manifest.")
]

app = typer.Typer(
    name="voicedrop",
    help="Drop a manifest and a reference recording; get watermarked, sealed speech in that voice.",
    epilog="To begin: `init`, then `submit` a manifest and its files, `watch --once`, and `open` "
    "the result. Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 waiting for a file, "
    "4 a setting or key is missing or wrong, 5 try again later. Settings: see the README.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(consent_app, name="consent")
app.add_typer(protect_app, name="protect")
app.add_typer(keys_app, name="keys")
app.add_typer(lexicon_app, name="lexicon")
app.add_typer(models_app, name="models")
app.add_typer(log_app, name="log")


def _print_version(is_requested: bool) -> None:
    if is_requested:
        typer.echo(VERSION)
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None: ...


@app.command()
def init(bucket: Bucket = None, as_json: AsJson = False) -> None:
    """Make the folders and keys.

    Safe to repeat: nothing is ever replaced.
    """
    from handlers.cli.init import create_folders_and_keys

    screen.show(create_folders_and_keys(read_settings(bucket), bucket), as_json=as_json)


@app.command()
def watch(
    bucket: Bucket = None,
    once: Annotated[bool, typer.Option("--once", help="Stop when nothing is left to do.")] = False,
    poll: Annotated[
        float,
        typer.Option(callback=check_seconds, help="Seconds between listings of the inbox."),
    ] = 2.0,
    as_json: AsJson = False,
) -> None:
    """Carry out the manifests in the inbox.

    Carries out every manifest that has no result yet, then waits for more, unless --once.
    """
    from handlers.cli.watch import watch_inbox

    with screen.Progress(quiet=as_json) as progress:
        output = watch_inbox(read_settings(bucket), once=once, poll=poll, progress=progress)
    screen.show(output, as_json=as_json)


@app.command()
def serve(
    bucket: Bucket = None,
    host: Annotated[str, typer.Option(help="Address on which it listens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8000,
) -> None:
    """Answer over HTTP, and carry out the jobs.

    Makes folders and keys if there are none. What is copied into the inbox is carried out too. On
    another address than 127.0.0.1, callers need tokens (docs/http.md).
    """
    from handlers.cli.serve import serve_until_stopped

    with screen.Progress() as progress:
        output = serve_until_stopped(read_settings(bucket), bucket, host, port, progress)
    screen.show(output, as_json=False)


@app.command()
def submit(
    manifest: Annotated[Path, typer.Argument(help="A .manifest.json file.")],
    files: Annotated[
        list[Path] | None, typer.Argument(help="Recordings and consent records it names.")
    ] = None,
    as_is: Annotated[
        bool, typer.Option("--as-is", help="Submit it although items have errors; they will fail.")
    ] = False,
    bucket: Bucket = None,
    as_json: AsJson = False,
) -> None:
    """Put a manifest and its files into the inbox.

    The manifest is checked first and stored last, because its arrival starts the job.

    A file is stored under the key of that name in the manifest: my/alice.wav as refs/alice.wav if
    the manifest says so.

    If an item has an error, nothing is stored, unless --as-is: then only that item fails.
    """
    from handlers.cli.submit import submit_job

    output = submit_job(read_settings(bucket), manifest, files or [], as_is=as_is)
    screen.show(output, as_json=as_json)


@app.command(name="open")
def open_(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Job ids or their first digits (four or more), manifests, result.json, .sealed "
            "files."
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the audio.")] = Path(),
    bucket: Bucket = None,
    as_json: AsJson = False,
) -> None:
    """Unseal the audio of results.

    The signature, the envelopes and every digest are checked before a file appears. No file with
    other content is replaced: then the files go into a folder named after their job. Exit code 1
    if an item of a result failed.
    """
    from handlers.cli.open_result import open_results

    screen.show(open_results(read_settings(bucket), sources, out), as_json=as_json)


@app.command()
def retry(
    job: NamedJob,
    bucket: Bucket = None,
    as_json: AsJson = False,
) -> None:
    """Run a job again after a correction.

    Stores a manifest that names the job in `retry_of`: a new job, which keeps the items that
    succeeded and makes the others. For corrections outside the manifest, such as a consent record
    or a recording; a corrected manifest is submitted again instead.
    """
    from handlers.cli.retry import retry_job

    screen.show(retry_job(read_settings(bucket), job), as_json=as_json)


@app.command()
def status(
    jobs: Annotated[
        list[str] | None,
        typer.Argument(help="Job ids or their first digits (four or more), or manifests."),
    ] = None,
    bucket: Bucket = None,
    as_json: AsJson = False,
) -> None:
    """Show how far jobs are, and what failed.

    Without a job: how many are finished, how many of them not successfully, and what the others
    wait for. Exit codes: 0 succeeded, 1 something failed, 3 waiting for a file, 5 not finished;
    without a job 0, or 1 if a result cannot be read.
    """
    from handlers.cli.status import show_status

    screen.show(show_status(read_settings(bucket), jobs or []), as_json=as_json)


@app.command(name="list")
def list_(
    bucket: Bucket = None,
    limit: Annotated[int, typer.Option(min=1, help="Finished jobs that are shown.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List the jobs, the last finished ones last."""
    from handlers.cli.status import list_jobs

    screen.show(list_jobs(read_settings(bucket), limit), as_json=as_json)


@app.command()
def trace(
    clips: Annotated[list[Path], typer.Argument(help="Audio files of any origin.")],
    index: Annotated[
        Path | None, typer.Option(help="index.json of an audit, in place of the bucket.")
    ] = None,
    bucket: Bucket = None,
    as_json: AsJson = False,
) -> None:
    """Find the jobs that made these clips, of up to ten hours each.

    Reads the watermark. It says whether a clip carries our mark, never whether it is genuine.
    """
    from handlers.cli.trace import trace_clips

    with screen.Progress(quiet=as_json) as progress:
        output = trace_clips(read_settings(bucket), clips, index, progress)
    screen.show(output, as_json=as_json)


@app.command()
def audit(
    bucket: Bucket = None,
    since: Annotated[str, typer.Option(help="Results from this day on, YYYY-MM-DD (UTC).")] = "",
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the report.")] = Path(
        "audit"
    ),
    jobs: Annotated[int, typer.Option(min=1, help="Jobs checked in parallel.")] = 2,
    checkpoint: Annotated[
        Path | None, typer.Option(help="A checkpoint of the log that was kept elsewhere.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check every result of a bucket.

    Is it complete, signed, unchanged, marked, logged and made with consent? Only reads, and needs
    public keys only; the report says what it could not check without secret ones. Writes
    report.html, items.csv, report.json and index.json. An interrupted audit can be resumed.

    Exit codes: 0 clean, 1 findings, 2 it could not be done.
    """
    from handlers.cli.audit import AuditRequest, audit_results

    request = AuditRequest(out=out, since=since, workers=jobs, checkpoint=checkpoint)
    with screen.Progress(quiet=as_json) as progress:
        output = audit_results(read_settings(bucket), request, progress)
    screen.show(output, as_json=as_json)


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
    end the page compares the answers with guessing (binomial test) and saves them as JSON.
    By guessing, four listeners in a hundred get twelve of sixteen right.
    """
    from handlers import wiring
    from handlers.cli.listening_test import make_listening_test

    settings = read_settings()
    wiring.require_sandbox(settings)
    with screen.Progress(quiet=as_json) as progress:
        output = make_listening_test(
            recordings,
            out,
            trials=trials,
            seconds=seconds,
            preset=mark or settings.mark,
            progress=progress,
        )
    screen.show(output, as_json=as_json)


@app.command()
def sweep(
    bucket: Bucket = None,
    grace: Annotated[
        float,
        typer.Option(
            callback=check_seconds,
            help="Seconds in which a new manifest's notification may still come.",
        ),
    ] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Finish what lost notifications and killed workers left undone.

    Carries out manifests without result, writes missing events, removes stale marks, and reports
    the rest. Safe at any time, beside running workers.
    """
    from handlers.cli.sweep import sweep_buckets

    with screen.Progress(quiet=as_json) as progress:
        output = sweep_buckets(read_settings(bucket), grace=grace, progress=progress)
    screen.show(output, as_json=as_json)


@app.command()
def erase(
    job: NamedJob,
    reason: Annotated[str, typer.Option(help="Why; it is signed and logged, so name nobody.")],
    item: Annotated[
        list[str] | None,
        typer.Option(help="An item, or chapters/<id>; may be repeated. Default: every output."),
    ] = None,
    bucket: Bucket = None,
    as_json: AsJson = False,
) -> None:
    """Delete outputs of a finished job for good.

    Subtitles and joined files that contain them go too, also those of later jobs that kept them.
    A signed tombstone stays and is logged, so that an audit can tell this from a removal.
    """
    from handlers.cli.erase import erase_job

    screen.show(erase_job(read_settings(bucket), job, item, reason), as_json=as_json)


@app.command()
def doctor(bucket: Bucket = None, as_json: AsJson = False) -> None:
    """Check what works here and what is missing, and list the settings."""
    from handlers.cli.doctor import check_environment

    screen.print_line(screen.stderr(quiet=as_json), "Checking. This may take half a minute ...")
    screen.show(check_environment(read_environment(bucket)), as_json=as_json)


@app.command()
def schema(
    name: Annotated[
        str, typer.Argument(help="job, consent, result, event ...; another word lists them.")
    ] = "job",
) -> None:
    """Print the JSON Schema of a document."""
    from handlers.cli.schema import json_schema

    screen.print_json(json_schema(name))


@app.command()
def text(
    words: Annotated[str, typer.Argument(help="The text to read.")],
    language: Annotated[str, typer.Option(help="zh, en, ja, ko, yue, or auto.")] = "auto",
    cut: Annotated[str, typer.Option(help="GPT-SoVITS only: sentence, or cut0 to cut5.")] = (
        "sentence"
    ),
    engine: Annotated[
        str, typer.Option(help="kokoro or gpt_sovits; without it, the configured engine.")
    ] = "",
    lexicon: Annotated[Path | None, typer.Option(help="A lexicon that says how to read.")] = None,
    is_ssml: Annotated[bool, typer.Option("--ssml", help="The text is SSML.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show how the engine will read a text.

    Prints each sentence as written, as spoken and as phonemes, and the characters that are left
    out, to find out why a word sounds wrong.
    """
    from handlers.cli.text import annotate, choose_engine, show_reading

    chosen = choose_engine(engine or read_settings().engine)
    if lexicon or is_ssml:
        words = annotate(words, language, chosen, lexicon, is_ssml=is_ssml)
    screen.show(show_reading(words, language, cut, chosen), as_json=as_json)


def main() -> None:
    """Run the command. An error is printed as a sentence, and ends with its exit code."""
    disable_core_dumps()
    try:
        app()
    except JobError as error:
        _end(error)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        _end(Refused("FILE_UNUSABLE", f"{place}{error.strerror or error}."))


def _end(error: JobError) -> NoReturn:
    screen.print_error(error)
    if "--json" in sys.argv[1:]:
        with suppress(OSError):  # standard output may be what cannot be written
            screen.print_json({"error": screen.describe_error(error)})
    sys.exit(exit_codes.of_error(error))
