"""Pages as a browser shows them: headless Chromium, found or installed by scripts/browser."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PROBE = """<script>addEventListener("load", async () => { const told = await (async () => {%s})();
const out = document.createElement("pre"); out.id = "told";
out.textContent = JSON.stringify(told); document.body.append(out); });</script>"""


@cache
def chromium() -> str:
    """Skips the test where there is none: scripts/browser says how to get one."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if not found:
        pytest.skip("no Chromium here: `scripts/browser` as root installs Debian's")
    return found


def _run(folder: Path, *arguments: str) -> str:
    command = [
        chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--no-first-run", "--host-resolver-rules=MAP * ~NOTFOUND", "--force-prefers-reduced-motion",
        "--autoplay-policy=no-user-gesture-required", "--virtual-time-budget=20000",
        f"--user-data-dir={folder / 'profile'}", *arguments,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def screenshot(page: Path, picture: Path, *, width: int = 1000, height: int = 1600) -> bytes:
    """The PNG file that was written."""
    size = f"--window-size={width},{height}"
    _run(picture.parent, size, f"--screenshot={picture}", page.as_uri())
    return picture.read_bytes()


def ask(page: Path, folder: Path, script: str) -> Any:
    """What `script`, the body of an async function run when the page has loaded, returns."""
    probed = folder / f"probed-{page.name}"
    probed.write_text(page.read_text(encoding="utf-8") + PROBE % script, encoding="utf-8")
    shown = _run(folder, "--dump-dom", probed.as_uri())
    told = re.search(r'<pre id="told">(.*?)</pre>', shown, flags=re.DOTALL)
    assert told, "the script did not end"
    return json.loads(html.unescape(told[1]))
