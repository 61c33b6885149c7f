"""Pages in headless Chromium, which scripts/browser finds or installs."""

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
SCRIPT_ELEMENT = """<script>addEventListener("load", async () => {
const result = await (async () => {%s})();
const out = document.createElement("pre"); out.id = "result";
out.textContent = JSON.stringify(result); document.body.append(out); });</script>"""


@cache
def find_chromium() -> str:
    """Return the path of Chromium; skip the test if there is none."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if not path:
        pytest.skip("Chromium is not installed: run `scripts/browser` as root")
    return path


def _run(folder: Path, *arguments: str) -> str:
    command = [
        find_chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--no-first-run", "--host-resolver-rules=MAP * ~NOTFOUND", "--force-prefers-reduced-motion",
        "--autoplay-policy=no-user-gesture-required", "--virtual-time-budget=20000",
        f"--user-data-dir={folder / 'profile'}", *arguments,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def take_screenshot(page: Path, picture: Path, *, width: int = 1000, height: int = 1600) -> bytes:
    """Write a PNG file and return its bytes."""
    size = f"--window-size={width},{height}"
    _run(picture.parent, size, f"--screenshot={picture}", page.as_uri())
    return picture.read_bytes()


def run_script(page: Path, folder: Path, script: str) -> Any:
    """Run `script`, the body of an async function, after the page has loaded; return its result."""
    page_with_script = folder / f"page_with_script-{page.name}"
    page_with_script.write_text(
        page.read_text(encoding="utf-8") + SCRIPT_ELEMENT % script, encoding="utf-8"
    )
    dom = _run(folder, "--dump-dom", page_with_script.as_uri())
    result = re.search(r'<pre id="result">(.*?)</pre>', dom, flags=re.DOTALL)
    assert result, "the script did not finish"
    return json.loads(html.unescape(result[1]))
