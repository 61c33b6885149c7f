"""`voicedrop` as a process of its own, in a folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
EXAMPLE_INBOX = ROOT / "examples" / "inbox"


@dataclass(frozen=True)
class Workspace:
    """A folder in which the command line runs."""

    root: Path

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run `voicedrop ARGUMENTS` and wait for its end."""
        options = self._options(environ)
        return subprocess.run(_command(arguments), timeout=400, check=False, **options)

    def start(self, *arguments: str, **environ: str) -> subprocess.Popen[str]:
        """Start `voicedrop ARGUMENTS` without waiting for its end."""
        return subprocess.Popen(_command(arguments), **self._options(environ))

    def _options(self, environ: dict[str, str]) -> dict[str, Any]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("VOICEDROP_")}
        env = clean | {"PYTHONPATH": str(ROOT)} | environ
        pipe = subprocess.PIPE
        return {"cwd": self.root, "env": env, "stdout": pipe, "stderr": pipe, "text": True}

    def json(self, *arguments: str) -> Any:
        """Run `voicedrop ARGUMENTS --json`, which must succeed, and return what it prints."""
        ran = self.run(*arguments, "--json")
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout)


def _command(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "handlers.cli", *arguments]
