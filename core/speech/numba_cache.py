"""Start the preparation of recordings where numba, which librosa imports, has no cache folder."""

from __future__ import annotations

import importlib
import os
import site
import tempfile
from pathlib import Path


def warm_up() -> None:
    """Choose a folder for what numba compiles, then warm up `core.speech.preparation`."""
    choose_folder()
    importlib.import_module("core.speech.preparation").warm_up()


def choose_folder() -> None:
    """Set NUMBA_CACHE_DIR if numba has no folder of its own to write to.

    numba writes beside librosa or into the user's cache folder, and librosa's import fails if
    neither is possible: then the folder is a new one, which only this user can read, because numba
    runs what it finds there.
    """
    if "NUMBA_CACHE_DIR" not in os.environ and not any(map(_is_writable, _usual_folders())):
        os.environ["NUMBA_CACHE_DIR"] = tempfile.mkdtemp(prefix="voicedrop-numba-")


def _usual_folders() -> list[Path]:
    user = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return [*map(Path, site.getsitepackages()), Path(user)]


def _is_writable(folder: Path) -> bool:
    """Tell whether the folder can be written, or created if it is missing."""
    while not folder.exists():
        folder = folder.parent
    return os.access(folder, os.W_OK)
