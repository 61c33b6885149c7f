"""What the deployer itself makes of s.yaml: `python -m tests.acceptance.deployer`.

Runs Serverless Devs (build/deployer, by `scripts/acceptance deployer`) for each machine, with
secrets in the environment and without any account:

1. `s preview`. Nothing that it prints or writes into its logs contains a secret in any spelling.
2. A plain `s deploy` whose components only note what they are given. It is what `cloud.template`
   renders, on which the offline checks rely, and no image would be pushed.
3. The same with a plain secret in place of its source. It stops before any component is called, and
   the secret is not printed.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from cloud import template
from cloud.machines import MACHINES
from tests.handlers.server.test_secrets import key_settings_of, leaks
from tests.support.command_line import ROOT

DEPLOYER = ROOT / "build/deployer/node_modules/.bin/s"
REDIS = "redis-password-1"
ACCOUNT = {"AccountID": "1234567890123456", "AccessKeyID": "none", "AccessKeySecret": "none"}
NOTE = """
const fs = require('fs')
exports.default = class { async deploy({ props, args }) {
  const name = (props.functionName || '-domain').split('-')[1]
  fs.writeFileSync(`${__dirname}/${name}`, JSON.stringify({ props, args }))
} }
"""


def run(folder: Path, environ: dict[str, str], *arguments: str) -> tuple[int, str]:
    """Run the deployer in a folder; return its exit code, and all that it printed and logged."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    account = {"default_serverless_devs_key": json.dumps(ACCOUNT)}
    env = {"PATH": path, "HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)} | account | environ
    ran = subprocess.run(
        [DEPLOYER, *arguments],
        cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    logs = (path for path in (folder / "home").rglob("*") if path.is_file())
    printed = [ran.stdout, ran.stderr, *(path.read_text(errors="replace") for path in logs)]
    return ran.returncode, "\n".join(printed)


def copy_template(folder: Path) -> None:
    """Put s.yaml into a folder, with components that note what they are given."""
    (folder / "home").mkdir()
    (folder / "note").mkdir()
    (folder / "note" / "index.js").write_text(NOTE)
    (folder / "cloud").symlink_to(ROOT / "cloud")
    text = (ROOT / "s.yaml").read_text(encoding="utf-8")
    text, count = re.subn(r"component: fc3(-domain)?", "component: ./note", text)
    assert count == len(yaml.safe_load(text)["resources"])
    (folder / "note.yaml").write_text(text)
    (folder / "s.yaml").symlink_to(ROOT / "s.yaml")


def noted(folder: Path, name: str) -> Any:
    path = folder / "note" / name
    note = json.loads(path.read_text())
    path.unlink()
    return note


def main() -> int:
    ours = yaml.safe_load((ROOT / "s.yaml").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_template(folder)
        keys = key_settings_of(folder / "keys")
        more = {
            "VOICEDROP_REDIS": f"redis://:{REDIS}@host:1/0",
            "OSS_ACCESS_KEY_SECRET": "key-1234",
        }
        secrets = [*keys.values(), *more.values(), REDIS]
        for machine in MACHINES:
            environ = {"VOICEDROP_MACHINE": machine}
            code, printed = run(folder, keys | more | environ, "preview", "-t", "s.yaml")
            assert code == 0, printed
            assert leaks(printed, secrets) == []
            code, deployed = run(folder, keys | more | environ, "deploy", "-y", "-t", "note.yaml")
            assert code == 0, deployed
            assert leaks(deployed, secrets) == []
            for resource in ours["resources"]:
                given = noted(folder, resource)
                assert given["props"] == template.resolve_props(ours, resource, environ), given
                assert resource != "worker" or "--skip-push" in given["args"]
            print(f"{machine}: {len(printed)} characters printed, no secret; rendered as we do")
        for variable, value in keys.items():
            plain = {f"{variable}_SOURCE": value}
            code, printed = run(folder, plain, "deploy", "-y", "-t", "note.yaml")
            assert code, printed
            assert list((folder / "note").iterdir()) == [folder / "note" / "index.js"]
            assert leaks(printed, [value]) == [], variable
            print(f"{variable}_SOURCE as plain text: refused before anything is deployed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
