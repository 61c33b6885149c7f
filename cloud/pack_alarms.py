"""Put the code of the function `voicedrop-alarms` together: `python -m cloud.pack_alarms FOLDER`.

s.yaml runs it before it deploys. The function has a built-in Python without packages, so the folder
holds what it needs of the project, and nothing else.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILES = (
    "core/__init__.py",
    "core/crypto/__init__.py",
    "core/crypto/openapi.py",
    "handlers/__init__.py",
    *(f"handlers/alarms/{name}.py" for name in ("__init__", "actions", "receiver", "services")),
)
ENTRY = "from handlers.alarms.receiver import handler\n\n__all__ = ['handler']\n"


def pack(folder: Path) -> None:
    """Replace a folder by one with the code of the function."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in FILES:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
    (folder / "index.py").write_text(ENTRY, encoding="utf-8")


if __name__ == "__main__":
    pack(Path(sys.argv[1]))
