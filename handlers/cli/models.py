"""`voicedrop models ...`: convert GPT-SoVITS checkpoints into bundles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.progress import BarColumn, DownloadColumn, TextColumn
from rich.progress import Progress as Bars

from handlers.cli import exit_codes, screen
from handlers.cli.files import writing
from handlers.cli.options import AsJson, read_settings
from handlers.cli.screen import CommandOutput

if TYPE_CHECKING:
    from rich.progress import TaskID

    from core.voice.gpt_sovits.convert.bundle import Sources

models_app = typer.Typer(
    help="GPT-SoVITS models: download, convert, verify, list.", no_args_is_help=True
)
Precision = Literal["fp32", "int8", "fast", "fp16"]


@models_app.command()
def convert(  # noqa: PLR0913, PLR0917 - one parameter an option, as typer reads them
    out: Annotated[Path, typer.Option(help="Folder of the new bundle; must not exist.")],
    t2s: Annotated[Path, typer.Option(help="S1 checkpoint (.ckpt, .safetensors).")],
    sovits: Annotated[Path, typer.Option(help="S2 checkpoint (.pth, .safetensors).")],
    hubert: Annotated[Path, typer.Option(help="Folder of chinese-hubert-base.")],
    speaker_encoder: Annotated[
        Path | None, typer.Option(help="ERes2NetV2, for v2Pro and v2ProPlus.")
    ] = None,
    bert: Annotated[Path | None, typer.Option(help="Folder of the RoBERTa for Chinese.")] = None,
    precision: Annotated[
        Precision, typer.Option(help="fp32 exact; int8 default; fast; fp16 for CUDA.")
    ] = "int8",
    licence: Annotated[str, typer.Option(help="Licence of the weights, kept in the bundle.")] = (
        "unstated"
    ),
    as_json: AsJson = False,
) -> None:
    """Convert official or fine-tuned checkpoints, without torch.

    The files are read as data only: a checkpoint that would run code is refused.
    """
    from core.voice.gpt_sovits.convert.bundle import Sources

    sources = Sources(t2s, sovits, hubert, speaker_encoder, bert)
    with writing(out):
        output = _convert(sources, out, precision, licence, quiet=as_json)
    screen.show(output, as_json=as_json)


@models_app.command()
def verify(
    bundle: Annotated[Path, typer.Argument(help="A converted bundle.")],
    golden: Annotated[Path, typer.Argument(help="Folder with the results of upstream's own code.")],
    as_json: AsJson = False,
) -> None:
    """Compare a bundle with golden results, stage by stage."""
    from core.voice.gpt_sovits.bundle import Bundle
    from core.voice.gpt_sovits.convert.checks import format_table
    from core.voice.gpt_sovits.convert.verify import verify as run_checks

    checks = list(run_checks(Bundle(bundle), golden))
    rows = [{"stage": c.stage, "value": c.value, "bound": c.bound, "ok": c.passed} for c in checks]
    passed = all(check.passed for check in checks)
    code = exit_codes.DONE if passed else exit_codes.FAILED
    output = CommandOutput({"passed": passed, "checks": rows}, [format_table(checks)], code)
    screen.show(output, as_json=as_json)


@models_app.command()
def get(
    name: Annotated[
        str, typer.Argument(help="gpt-sovits-v2, gpt-sovits-v2pro or gpt-sovits-v2proplus.")
    ],
    mirror: Annotated[bool, typer.Option("--mirror", help="Download from hf-mirror.com.")] = False,
    precision: Annotated[Precision, typer.Option(help="Precision of the bundle.")] = "int8",
    as_json: AsJson = False,
) -> None:
    """Download the official files and convert them.

    An interrupted download is resumed.
    """
    from core.voice.gpt_sovits.convert import download

    download.find_model(name)  # raises before the display of the progress begins
    cache = read_settings().cache
    url = download.MIRROR_URL if mirror else download.OFFICIAL_URL
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    bars = Bars(*columns, console=screen.stderr(quiet=as_json))
    with writing(cache, "VOICEDROP_CACHE"), bars:
        tasks: dict[str, TaskID] = {}

        def show_progress(path: str, received: int, total: int) -> None:
            if path not in tasks:
                tasks[path] = bars.add_task(path)
            bars.update(tasks[path], completed=received, total=total or None)

        sources = download.download_model(
            name, cache / "checkpoints", base_url=url, progress=show_progress
        )
    out = cache / "bundles" / f"{name}-{precision}"
    with writing(out, "VOICEDROP_CACHE"):
        output = _convert(sources, out, precision, download.LICENCE, quiet=as_json)
    screen.show(output, as_json=as_json)


@models_app.command(name="list")
def list_(as_json: AsJson = False) -> None:
    """Show the bundles that are installed."""
    from core.voice.gpt_sovits.convert.download import MODELS, installed_bundles

    folder = read_settings().cache / "bundles"
    bundles, lines = [], []
    for one in installed_bundles(folder):
        version, precision = one.spec.version, one.spec.precision
        size = sum(part.size for part in one.spec.parts.values())
        fields = {"version": version, "precision": precision, "bytes": size}
        bundles.append({"bundle": str(one.folder), **fields})
        lines.append(f"{one.folder}  {version} {precision} {size / 1e6:.0f} MB")
    names = ", ".join(MODELS)
    lines = lines or [f"None in {folder}. `voicedrop models get NAME` can download {names}."]
    screen.show(CommandOutput({"bundles": bundles}, lines), as_json=as_json)


def _convert(
    sources: Sources, out: Path, precision: Precision, licence: str, *, quiet: bool
) -> CommandOutput:
    from core.voice.gpt_sovits.convert.bundle import convert

    with screen.stderr(quiet=quiet).status("converting") as status:
        spec = convert(
            sources,
            out,
            precision=precision,
            licence=licence,
            progress=lambda what, done: status.update(f"converting: {what} ({done:.0%})"),
        )
    lines = [
        f"{out}: {spec.version}, {spec.precision}",
        f"Use it: VOICEDROP_ENGINE=gpt_sovits VOICEDROP_BUNDLE={out}",
    ]
    data = {"bundle": str(out), "version": spec.version, "precision": spec.precision}
    return CommandOutput(data, lines)
