"""`voicedrop init`: create the folders and keys."""

from __future__ import annotations

from pathlib import Path

from core.crypto import keys
from core.settings import Settings
from handlers.cli.files import make_folder, writing
from handlers.cli.screen import CommandOutput


def create_folders_and_keys(settings: Settings) -> CommandOutput:
    """Create what is missing; replace nothing."""
    created: list[Path] = []
    for place in (settings.inbox, settings.results, settings.control):
        folder = Path(place)
        if not place.startswith("oss://") and not folder.is_dir():
            make_folder(folder, "--bucket")
            created.append(folder)
    with writing(settings.keys, "VOICEDROP_KEYS"):
        created += keys.create_keys(settings.keys)
    lines = [f"created {path}" for path in created] or ["Everything exists already."]
    lines.append(
        f"Keep the keys in {settings.keys} safe and private: without them nothing can be opened."
    )
    lines.append(f"Next: put files into {settings.inbox}, then run `voicedrop watch --once`.")
    return CommandOutput({"made": [str(path) for path in created]}, lines)
