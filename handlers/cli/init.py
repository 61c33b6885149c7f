"""`voicedrop init`: create the folders and keys."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from core.crypto import keys
from core.errors import JobError
from core.settings import Settings
from core.storage.object_keys import OUTPUTS, job_id_of, result_key
from handlers import wiring
from handlers.cli.files import make_folder, writing
from handlers.cli.screen import CommandOutput

_FIRST_KEYS = {
    "kek-001.key": "opened",
    "watermark-001.key": "traced",
    "sign-001.pem": "verified",
}
"""The file of the first key of a kind -> what is done with it to results. A later signing key has
the earlier public ones beside it."""


def create_folders_and_keys(settings: Settings, bucket: Path | None = None) -> CommandOutput:
    """Create what is missing; replace nothing. `bucket`: the option, which the next commands need
    too."""
    created: list[Path] = []
    for place in (settings.inbox, settings.results, settings.control):
        folder = Path(place)
        if wiring.is_folder(place) and not folder.is_dir():
            make_folder(folder, "--bucket")
            created.append(folder)
    with writing(settings.keys, "VOICEDROP_KEYS"):
        created += keys.create_keys(settings.keys)
    warnings = list(_warn_of_new_keys(created, settings))
    lines = [f"created {path}" for path in created] or ["Everything exists already."]
    lines += warnings
    lines.append(
        f"Keep the folder {settings.keys} safe and private: without its keys nothing can be opened."
    )
    lines.append(
        f"Next: `voicedrop submit MANIFEST FILES` puts a job into {settings.inbox}, and `voicedrop "
        "watch --once` carries it out."
        + (f" Both need `--bucket {shlex.quote(str(bucket))}` too." if bucket else "")
    )
    data = {"made": [str(path) for path in created], "warnings": warnings}
    return CommandOutput(data, lines)


def _warn_of_new_keys(created: Iterable[Path], settings: Settings) -> Iterator[str]:
    """Say for what the keys that were just created are not those with which there are results."""
    new = [path for path in created if path.name in _FIRST_KEYS]
    if new and _has_results(settings):
        for path in new:
            yield (
                f"Warning: {path} is new, and with it the results in {settings.results} cannot be "
                f"{_FIRST_KEYS[path.name]}. If you have the earlier key, put it there instead, "
                "before anything else is made."
            )


def _has_results(settings: Settings) -> bool:
    """Tell whether there is a result; not if the bucket is out of reach."""
    with suppress(JobError):
        results = wiring.open_store(
            settings.results, settings, wiring.CurrentCredentials(os.environ)
        )
        return any(info.key == result_key(job_id_of(info.key)) for info in results.list(OUTPUTS))
    return False
