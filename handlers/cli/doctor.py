"""`voicedrop doctor`: check what works on this machine, and list the settings in force."""

from __future__ import annotations

import platform
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial

from core.audio import ffmpeg
from core.audio.sandbox import Crashed, Sandbox
from core.crypto.keys import Keyring, LocalKeys
from core.documents.signed import key_id
from core.errors import JobError
from core.result.cost import parse_prices
from core.settings import SETTINGS, Settings, unknown_variables
from core.speech import recognise
from handlers import wiring
from handlers.cli import exit_codes, screen
from handlers.cli.describe import describe_cost
from handlers.cli.screen import CommandOutput
from handlers.secret_settings import SecretReader, describe_sources
from handlers.server.tokens import create_tokens

PROBE_BYTES = 256 * 1024
"""Size of the object that is written into a folder to see whether a short output has space."""


@dataclass(frozen=True, slots=True)
class DoctorCheck:
    what: str
    ok: bool
    detail: str
    needed: bool = True
    """If False, voicedrop works without it."""


def check_environment(environ: Mapping[str, str]) -> CommandOutput:
    checks, rows = list(_checks(environ)), list(_settings_in_force(environ))
    lines = [f"{_mark(check)} {check.what}: {check.detail}" for check in checks]
    lines += [f"     {row['variable']}={row['value']} ({row['source']})" for row in rows]
    is_ready = all(check.ok or not check.needed for check in checks)
    lines.append("Ready." if is_ready else "Not ready: correct what is marked BAD.")
    data = {"ready": is_ready, "findings": [asdict(check) for check in checks], "settings": rows}
    return CommandOutput(data, lines, exit_codes.DONE if is_ready else exit_codes.MISCONFIGURED)


def _mark(check: DoctorCheck) -> str:
    if check.ok:
        return "ok  "
    return "BAD " if check.needed else "-   "


def _checks(environ: Mapping[str, str]) -> Iterator[DoctorCheck]:
    yield DoctorCheck("Python", True, platform.python_version())
    yield _attempt("ONNX Runtime", _onnx_runtime)
    for variable, remark in unknown_variables(environ):
        yield DoctorCheck(variable, False, remark, needed=False)
    try:
        settings = Settings.from_environ(environ)
        settings.refuse_loops()
    except JobError as exc:
        yield DoctorCheck("settings", False, _explain(exc))
        return
    if settings.prices:
        yield _attempt("prices", partial(_describe_prices, settings.prices))
    credentials = wiring.CurrentCredentials(environ)
    reader = wiring.secret_reader(settings, credentials)
    if settings.redis:
        yield _attempt("redis", partial(_describe_tokens, settings, reader))
    if settings.webhook:
        yield _attempt("webhook", partial(_describe_webhook, settings, reader))
    yield _attempt(
        "keys", lambda: _describe_keys(wiring.load_keyring(settings, credentials), settings)
    )
    for name in ("inbox", "results", "control"):
        place = str(getattr(settings, name))
        yield _attempt(name, partial(_check_bucket, place, name, settings, credentials))
    yield _attempt("caches", partial(_describe_caches, settings, reader))
    yield _check_sandbox(settings)
    yield _attempt(f"voice {settings.engine}", lambda: _describe_voice(settings))
    yield _check_whisper(settings)
    where = shutil.which("ffmpeg")
    formats = ", ".join(form.title for form in ffmpeg.FORMATS.values())
    yield DoctorCheck(
        f"ffmpeg, to read {formats}", where is not None, where or ffmpeg.INSTALL, False
    )


def _describe_voice(settings: Settings) -> str:
    voice = wiring.load_voice(settings)
    hardware = getattr(voice, "hardware", "")
    languages = f"speaks {', '.join(sorted(voice.languages))}"
    return ", ".join(filter(None, (voice.name, hardware, languages)))


def _describe_keys(ring: Keyring, settings: Settings) -> str:
    def source(name: str) -> str:
        text = str(getattr(settings, name))
        return describe_sources(SETTINGS[name].variable, text) if text else str(settings.keys)

    local, kek = ring.wrapping, f"in KMS ({settings.kms_key})"
    if isinstance(local, LocalKeys):
        kek = f"{', '.join(local.keys)} ({source('kek')})"
    signing, marks = key_id(ring.signing.public_key()), ", ".join(ring.watermark)
    return (
        f"signing key {signing} ({source('signing_key')}); watermark keys {marks} "
        f"({source('watermark_key')}); key-encryption keys {kek}"
    )


def _describe_prices(text: str) -> str:
    if (table := parse_prices(text)) is None:
        return "none"
    hour, call = (table.cost(seconds, calls) for seconds, calls in ((3600, 0), (0, 1)))
    return f"an hour {describe_cost(hour)}, a call {describe_cost(call)}"


def _describe_webhook(settings: Settings, reader: SecretReader) -> str:
    """Nothing is sent: the server would have to tell a trial from an event."""
    from handlers import webhook

    variable = "VOICEDROP_WEBHOOK_SECRET"
    secrets = reader.reveal(variable, settings.webhook_secret)
    receiver = webhook.open_webhook(settings.webhook, secrets, settings.webhook_networks)
    address = receiver.find_address()
    source = describe_sources(variable, settings.webhook_secret)
    return f"{receiver.place} ({address}); secret: {source}"


def _describe_caches(settings: Settings, reader: SecretReader) -> str:
    """Raises Misconfigured SETTING_INVALID if a Redis is missing or does not answer."""
    if redis := wiring.open_redis_cache(settings, reader):
        redis.check()
    hours = f"for {settings.cache_hours:g} hours"
    voices = {"bucket": "in the control bucket", "redis": f"in Redis {hours}"}
    speech = {"off": "not kept", "bucket": f"kept in the control bucket {hours}"}
    kept = speech.get(settings.speech_cache, f"kept in Redis {hours}")
    return f"voiceprints are {voices[settings.voice_cache]}; the speech of items is {kept}"


def _describe_tokens(settings: Settings, reader: SecretReader) -> str:
    variable, given = SETTINGS["redis"].variable, settings.redis
    create_tokens(settings, reader.reveal(variable, given))
    source = describe_sources(variable, given)
    return f"the address has the right form; the server connects to it ({source})"


def _settings_in_force(environ: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Yield the settings that have a value, except wrong ones, which are a finding."""
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


def _onnx_runtime() -> str:
    from core import inference

    providers = inference.providers()
    return f"{', '.join(providers.names)}: {providers.reason}"


def _check_bucket(
    place: str, name: str, settings: Settings, credentials: wiring.CurrentCredentials
) -> str:
    store = wiring.open_store(place, settings, credentials)
    store.check(writable_once=name == "results")
    if wiring.is_folder(place) and name != "inbox":
        # Names that nobody else uses. Of a bucket, only `check` is asked: objects cost, and some
        # policies allow writing under certain prefixes only.
        key = f"doctor-{uuid.uuid4().hex}"
        store.put(key, bytes(PROBE_BYTES))
        store.delete(key)
    return place


def _check_sandbox(settings: Settings) -> DoctorCheck:
    """Decode nothing in a sandbox of its own, and say what held there."""
    is_needed = settings.sandbox == "required"
    with closing(Sandbox()) as sandbox:
        try:
            held = sandbox.protection()
        except Crashed as exc:
            return DoctorCheck("sandbox", False, f"It does not work: {exc}")
    parts = (
        "system calls are filtered (seccomp)" if held.filtered else "no seccomp",
        f"landlock {held.landlock}" if held.landlock else "no landlock",
        "not dumpable" if held.hidden else "dumpable",
        "as the user nobody" if held.own_user else "as the user of the worker",
    )
    detail = ", ".join(parts)
    if not held.filtered:
        detail += ". A hostile recording could do what this user may do: use Linux with seccomp."
    return DoctorCheck("sandbox", held.filtered, detail, needed=is_needed)


def _attempt(what: str, attempt: Callable[[], str]) -> DoctorCheck:
    try:
        return DoctorCheck(what, True, attempt())
    except JobError as exc:
        return DoctorCheck(what, False, _explain(exc))


def _check_whisper(settings: Settings) -> DoctorCheck:
    what, reasons = "whisper, to check words", []
    if settings.consent == "verified":
        reasons.append("VOICEDROP_CONSENT=verified")
    if settings.guard == "words":
        reasons.append("VOICEDROP_GUARD=words")
    if recognise.is_installed():
        return DoctorCheck(what, True, "installed")
    needs = f"{' and '.join(reasons)} cannot work without it: " if reasons else ""
    return DoctorCheck(what, False, f"{needs}scripts/setup asr", needed=bool(reasons))


def _explain(error: JobError) -> str:
    advice = screen.further_advice(error)
    return f"{str(error).rstrip('.')}. {advice}" if advice else str(error)
