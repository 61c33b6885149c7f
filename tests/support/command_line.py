"""`voicedrop` as a process of its own, in a folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.forked_command import run_command

ROOT = Path(__file__).parents[2]
EXAMPLE_INBOX = ROOT / "examples" / "inbox"


@dataclass(frozen=True)
class Workspace:
    """A folder in which the command line runs."""

    root: Path

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run `voicedrop ARGUMENTS` and wait for its end."""
        return run_command(arguments, self.root, _environ(environ))

    def start(self, *arguments: str, **environ: str) -> subprocess.Popen[str]:
        """Start `voicedrop ARGUMENTS` without waiting for its end."""
        command = [sys.executable, "-m", "handlers.cli", *arguments]
        pipe, env = subprocess.PIPE, _environ(environ)
        return subprocess.Popen(
            command, cwd=self.root, env=env, stdout=pipe, stderr=pipe, text=True
        )

    def json(self, *arguments: str) -> Any:
        """Run `voicedrop ARGUMENTS --json`, which must succeed, and return what it prints."""
        ran = self.run(*arguments, "--json")
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout)


def _environ(environ: dict[str, str]) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("VOICEDROP_")}
    return clean | {"PYTHONPATH": str(ROOT)} | environ
