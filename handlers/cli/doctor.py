"""What works on this machine, what is missing, and how to get it."""

from __future__ import annotations

import importlib.util
import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial

from core.errors import JobError
from core.settings import Settings
from handlers import wiring
from handlers.cli.screen import Report


@dataclass(frozen=True, slots=True)
class Finding:
    what: str
    ok: bool
    detail: str
    needed: bool = True
    """Nothing works without it."""


def examine(read_settings: Callable[[], Settings], environ: Mapping[str, str]) -> Report:
    findings = list(_findings(read_settings, environ))
    marks = {
        (True, True): "ok  ",
        (True, False): "ok  ",
        (False, True): "BAD ",
        (False, False): "-   ",
    }
    lines = [f"{marks[f.ok, f.needed]} {f.what}: {f.detail}" for f in findings]
    bad = any(f.needed and not f.ok for f in findings)
    lines.append("Something needs you." if bad else "Ready.")
    data = {"ready": not bad, "findings": [asdict(f) for f in findings]}
    return Report(data, lines, 4 if bad else 0)


def _findings(
    read_settings: Callable[[], Settings], environ: Mapping[str, str]
) -> Iterator[Finding]:
    yield Finding("Python", True, platform.python_version())
    yield _tried("ONNX Runtime", _runtime)
    try:
        settings = read_settings()
        settings.refuse_loops()
    except JobError as exc:
        yield Finding("settings", False, _told(exc))
        return
    credentials = wiring.CurrentCredentials(environ)
    yield _tried("keys", lambda: repr(wiring.keyring(settings, credentials)))
    for name in ("inbox", "results", "control"):
        place = str(getattr(settings, name))
        yield _tried(name, partial(_bucket, place, name, settings, credentials))
    yield _tried(f"voice {settings.engine}", lambda: wiring.voice(settings).name)
    yield _optional("whisper, to check words", "ctranslate2", "scripts/setup asr")


def _runtime() -> str:
    from core import inference

    found = inference.providers()
    return f"{', '.join(found.names)}: {found.reason}"


def _bucket(
    place: str, name: str, settings: Settings, credentials: wiring.CurrentCredentials
) -> str:
    wiring.store(place, settings, credentials).check(writable_once=name == "results")
    return place


def _tried(what: str, attempt: Callable[[], str]) -> Finding:
    try:
        return Finding(what, True, attempt())
    except JobError as exc:
        return Finding(what, False, _told(exc))


def _optional(what: str, module: str, how: str) -> Finding:
    there = importlib.util.find_spec(module) is not None
    return Finding(what, there, "installed" if there else how, needed=False)


def _told(error: JobError) -> str:
    return f"{error} {error.advice if error.advice not in str(error) else ''}".strip()
