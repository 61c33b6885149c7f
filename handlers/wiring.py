"""Settings -> Runtime: the only place where adapters are chosen."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from core.audio.waveform import Audio
from core.crypto import keys
from core.crypto.keys import KeyProvider, Keyring, ReadingKeys
from core.errors import Misconfigured
from core.job.quota import Quota
from core.job.runtime import Runtime, Step
from core.settings import Settings
from core.storage.local import LocalStore
from core.storage.port import Store
from core.voice import SpeechChunk, Voice, Voiceprint

if TYPE_CHECKING:
    from core.speech.recognise import Recogniser, Transcribe
    from core.storage.oss import Credentials
    from handlers.oss import Worker

log = logging.getLogger("voicedrop.steps")


class CurrentCredentials:
    """The credentials in force: those of the last call, or the environment's."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._current: Credentials | None = None

    def replace(self, credentials: Credentials | None) -> None:
        self._current = credentials

    def __call__(self) -> Credentials:
        """Raises Misconfigured SETTING_INVALID if there are none anywhere."""
        return self._current or self._from_environ()

    def _from_environ(self) -> Credentials:
        from core.storage.oss import Credentials

        for prefix, token in (("OSS", "SESSION"), ("ALIBABA_CLOUD", "SECURITY")):
            key = self._environ.get(f"{prefix}_ACCESS_KEY_ID", "")
            secret = self._environ.get(f"{prefix}_ACCESS_KEY_SECRET", "")
            if key and secret:
                return Credentials(key, secret, self._environ.get(f"{prefix}_{token}_TOKEN", ""))
        raise Misconfigured("SETTING_INVALID", "OSS_ACCESS_KEY_ID and its secret are not set")


def store(place: str, settings: Settings, credentials: Callable[[], Credentials]) -> Store:
    """A folder, or `oss://bucket`."""
    if not place.startswith("oss://"):
        return LocalStore(Path(place))
    from core.storage.oss import OssStore

    if not settings.oss_region:
        raise Misconfigured("SETTING_INVALID", "VOICEDROP_OSS_REGION is not set")
    endpoint = settings.oss_endpoint or f"https://oss-{settings.oss_region}.aliyuncs.com"
    bucket = place.removeprefix("oss://").rstrip("/")
    return OssStore(bucket, endpoint, settings.oss_region, credentials)


def keyring(settings: Settings, credentials: Callable[[], Credentials]) -> Keyring:
    """From setting values if any is given, else from the folder `settings.keys`."""
    wrapping = _kms(settings, credentials) if settings.kms_key else None
    if settings.signing_key or settings.watermark_key or settings.kek:
        return keys.keyring_from_values(
            kek=settings.kek,
            signing=settings.signing_key,
            watermark=settings.watermark_key,
            wrapping=wrapping,
        )
    return keys.load_keyring(settings.keys, wrapping=wrapping)


def reading_keys(settings: Settings, credentials: Callable[[], Credentials]) -> ReadingKeys:
    """As much of a keyring as there is: auditors hold public keys, and perhaps some secrets."""
    if settings.signing_key or settings.watermark_key or settings.kek:
        ring = keyring(settings, credentials)
        return ReadingKeys(ring.verifying, ring.wrapping, ring.watermark)
    wrapping = _kms(settings, credentials) if settings.kms_key else None
    return keys.load_reading_keys(settings.keys, wrapping=wrapping)


def voice(settings: Settings) -> Voice:
    if settings.engine == "kokoro":
        from core.voice.kokoro import KokoroVoice

        return KokoroVoice.load(
            settings.cache, model=settings.kokoro, threads=settings.threads or 1
        )
    if settings.bundle is None:
        raise Misconfigured(
            "ENGINE_UNSUPPORTED", "VOICEDROP_BUNDLE is not set: `voicedrop models list` shows them."
        )
    from core.voice.gpt_sovits.bundle import Bundle
    from core.voice.gpt_sovits.engine import GptSovits
    from core.voice.gpt_sovits.frontend import Frontend
    from core.voice.gpt_sovits.guard import Guard

    bundle = Bundle(settings.bundle, threads=settings.threads or None)
    if settings.guard == "words":
        _recogniser()  # one that is missing is to be known before the first sentence
    return GptSovits(bundle, Frontend(), guard=Guard(transcribe=transcriber(settings)))


def transcriber(settings: Settings) -> Transcribe | None:
    """A recogniser, if words are to be listened to; loaded when it first hears something."""
    if settings.guard != "words":
        return None
    return lambda audio, language: _recogniser().transcribe(audio, language)


@cache
def _recogniser() -> Recogniser:
    from core.speech.recognise import Recogniser

    return Recogniser.load()


def languages(settings: Settings) -> frozenset[str]:
    """What the engine speaks, without loading it."""
    if settings.engine == "kokoro":
        from core.voice.kokoro.text import LANGUAGES

        return LANGUAGES
    from core.voice.gpt_sovits.frontend import Frontend

    return Frontend().languages


class OnFirstUse:
    """A voice that is loaded when something is asked of it: looking, opening and dry runs need
    none, for `languages` can be told without it."""

    def __init__(self, load: Callable[[], Voice], languages: frozenset[str]) -> None:
        self._load, self.languages = load, languages

    @cached_property
    def _voice(self) -> Voice:
        return self._load()

    @property
    def name(self) -> str:
        return self._voice.name

    @property
    def fingerprint(self) -> str:
        return self._voice.fingerprint

    @property
    def rate(self) -> int:
        return self._voice.rate

    def enrol(self, reference: Audio, transcript: str, language: str) -> Voiceprint:
        return self._voice.enrol(reference, transcript, language)

    def speak(
        self, text: str, voiceprint: Voiceprint, *, language: str, speed: float = 1.0, seed: int = 0
    ) -> Iterator[SpeechChunk]:
        return self._voice.speak(text, voiceprint, language=language, speed=speed, seed=seed)


def on_first_use(settings: Settings) -> OnFirstUse:
    return OnFirstUse(lambda: voice(settings), languages(settings))


def runtime_without_voice(settings: Settings) -> Runtime:
    """For commands that read: the voice is there, but costs nothing until it is used."""
    return runtime(settings, CurrentCredentials(os.environ), on_first_use(settings))


def runtime(
    settings: Settings,
    credentials: Callable[[], Credentials],
    engine: Voice,
    observe: Callable[[Step], None] | None = None,
) -> Runtime:
    settings.refuse_loops()
    return Runtime(
        inbox=store(settings.inbox, settings, credentials),
        results=store(settings.results, settings, credentials),
        control=store(settings.control, settings, credentials),
        voice=engine,
        keys=keyring(settings, credentials),
        worker=f"{os.getpid():x}-{secrets.token_hex(4)}"[-16:],
        mark=settings.mark,
        consent=settings.consent,
        producer=settings.label_producer,
        lease_seconds=settings.lease_seconds,
        max_attempts=settings.max_attempts,
        quota=Quota(
            jobs=settings.quota_jobs,
            characters=settings.quota_characters,
            by=settings.quota_by,
        ),
        shard_items=settings.shard_items,
        price=settings.price,
        transcribe=transcriber(settings),
        observe=observe or _log_step,
    )


def check_stores(runtime: Runtime) -> None:
    """At start-up: the buckets are there, and those that must keep the first writer do."""
    runtime.inbox.check(writable_once=False)
    runtime.results.check(writable_once=True)
    runtime.control.check(writable_once=False)


def worker_from(environ: Mapping[str, str]) -> Worker:
    """What `handlers.server` runs. Raises Misconfigured."""
    from handlers.oss import Worker

    settings = Settings.from_environ(environ)
    settings.refuse_loops()
    return Worker(settings, CurrentCredentials(environ))


def _log_step(step: Step) -> None:
    if step.seconds is not None:
        fields = {"job": step.job, "item": step.item, "seconds": round(step.seconds, 3)}
        log.info(step.stage, extra=fields)


def _kms(settings: Settings, credentials: Callable[[], Credentials]) -> KeyProvider:
    from core.crypto.kms import AliyunKms

    return AliyunKms(settings.kms_key, region=settings.oss_region, credentials=credentials)
