"""What works on this machine, what is missing and how to get it, and the settings in force."""

from __future__ import annotations

import importlib.util
import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from functools import partial

from core.errors import JobError
from core.settings import SETTINGS, Settings
from handlers import wiring
from handlers.cli.screen import Report

DEPLOYMENT = frozenset(
    f"VOICEDROP_{name}"
    for name in ("IMAGE", "INBOX_BUCKET", "RESULTS_BUCKET", "CONTROL_BUCKET", "DOMAIN", "CERT_ID")
)
"""Variables that s.yaml reads where it is deployed; no settings."""


@dataclass(frozen=True, slots=True)
class DoctorCheck:
    what: str
    ok: bool
    detail: str
    needed: bool = True
    """Nothing works without it."""


def examine(environ: Mapping[str, str]) -> Report:
    checks, chosen = list(_checks(environ)), list(_in_force(environ))
    marks = {
        (True, True): "ok  ",
        (True, False): "ok  ",
        (False, True): "BAD ",
        (False, False): "-   ",
    }
    lines = [f"{marks[check.ok, check.needed]} {check.what}: {check.detail}" for check in checks]
    lines += [f"     {row['variable']}={row['value']} ({row['source']})" for row in chosen]
    bad = any(check.needed and not check.ok for check in checks)
    lines.append("Something needs you." if bad else "Ready.")
    data = {"ready": not bad, "findings": [asdict(check) for check in checks], "settings": chosen}
    return Report(data, lines, 4 if bad else 0)


def _checks(environ: Mapping[str, str]) -> Iterator[DoctorCheck]:
    yield DoctorCheck("Python", True, platform.python_version())
    yield _tried("ONNX Runtime", _runtime)
    yield from _unknown(environ)
    try:
        settings = Settings.from_environ(environ)
        settings.refuse_loops()
    except JobError as exc:
        yield DoctorCheck("settings", False, _told(exc))
        return
    credentials = wiring.CurrentCredentials(environ)
    yield _tried("keys", lambda: repr(wiring.keyring(settings, credentials)))
    for name in ("inbox", "results", "control"):
        place = str(getattr(settings, name))
        yield _tried(name, partial(_bucket, place, name, settings, credentials))
    yield _tried(f"voice {settings.engine}", lambda: wiring.voice(settings).name)
    yield _optional("whisper, to check words", "ctranslate2", "scripts/setup asr")


def _unknown(environ: Mapping[str, str]) -> Iterator[DoctorCheck]:
    known = {row.variable for row in SETTINGS.values()} | DEPLOYMENT
    for variable in environ:
        if variable.startswith("VOICEDROP_") and variable not in known:
            name = variable.removeprefix("VOICEDROP_").lower()
            nearest = get_close_matches(name, SETTINGS, n=1)
            hint = f" Did you mean {SETTINGS[nearest[0]].variable}?" if nearest else ""
            yield DoctorCheck(variable, False, f"Unknown setting, ignored.{hint}", needed=False)


def _in_force(environ: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Settings that have a value, except wrong ones: those are a finding."""
    for row in SETTINGS.values():
        try:
            value = row.read(environ)
        except JobError:
            continue
        if value not in ("", None):
            given = environ.get(row.variable) or value != row.default
            yield {
                "variable": row.variable,
                "value": "set" if row.secret else str(value),
                "source": "environment" if given else "default",
            }


def _runtime() -> str:
    from core import inference

    found = inference.providers()
    return f"{', '.join(found.names)}: {found.reason}"


def _bucket(
    place: str, name: str, settings: Settings, credentials: wiring.CurrentCredentials
) -> str:
    wiring.store(place, settings, credentials).check(writable_once=name == "results")
    return place


def _tried(what: str, attempt: Callable[[], str]) -> DoctorCheck:
    try:
        return DoctorCheck(what, True, attempt())
    except JobError as exc:
        return DoctorCheck(what, False, _told(exc))


def _optional(what: str, module: str, how: str) -> DoctorCheck:
    there = importlib.util.find_spec(module) is not None
    return DoctorCheck(what, there, "installed" if there else how, needed=False)


def _told(error: JobError) -> str:
    return f"{error} {error.advice if error.advice not in str(error) else ''}".strip()
