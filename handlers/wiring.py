"""Build a `Runtime` from settings. Stores, keys and voice engines are chosen here alone."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from core.audio import sandbox
from core.crypto import keys
from core.crypto.keys import KeyProvider, Keyring, ReadingKeys
from core.errors import Misconfigured
from core.inference import LoadedOnce
from core.job.label_policy import LabelPolicy
from core.job.quota import Quota
from core.job.rates import Rates
from core.job.runtime import Runtime, Step
from core.result.cost import parse_prices
from core.settings import SETTINGS, Settings
from core.storage.local import LocalStore
from core.storage.port import Store
from core.text.spoken import FrontEnd
from core.voice import Voice
from handlers.secret_settings import SecretReader

if TYPE_CHECKING:
    from core.speech.recognise import Recogniser, Transcribe
    from core.storage.oss import Credentials
    from core.storage.redis_cache import RedisCache

log = logging.getLogger("voicedrop.steps")


_of_this_call: ContextVar[Credentials | None] = ContextVar("credentials", default=None)


class CurrentCredentials:
    """Returns the credentials of the current call, or else those of the environment.

    Those of a call belong to its context, which the threads that work for it get as a copy: calls
    that are carried out at once do not see each other's, and nothing keeps them after the call.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    @contextmanager
    def of_call(self, credentials: Credentials | None) -> Iterator[None]:
        """Use these credentials in the block. None: those of the environment."""
        token = _of_this_call.set(credentials)
        try:
            yield
        finally:
            _of_this_call.reset(token)

    def __call__(self) -> Credentials:
        """Raises Misconfigured SETTING_INVALID if there are none."""
        return _of_this_call.get() or self._from_environ()

    def _from_environ(self) -> Credentials:
        from core.storage.oss import Credentials

        for prefix, token in (("OSS", "SESSION"), ("ALIBABA_CLOUD", "SECURITY")):
            key = self._environ.get(f"{prefix}_ACCESS_KEY_ID", "")
            secret = self._environ.get(f"{prefix}_ACCESS_KEY_SECRET", "")
            if key and secret:
                return Credentials(key, secret, self._environ.get(f"{prefix}_{token}_TOKEN", ""))
        raise Misconfigured("SETTING_INVALID", "Set OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET.")


def is_folder(place: str) -> bool:
    """Tell whether a place is a folder, not a bucket of OSS."""
    return not place.startswith("oss://")


def open_store(place: str, settings: Settings, credentials: Callable[[], Credentials]) -> Store:
    """Return the store at a place: a folder, or `oss://bucket`."""
    if is_folder(place):
        return LocalStore(Path(place))
    from core.storage.oss import OssStore

    if not settings.oss_region:
        raise Misconfigured("SETTING_INVALID", "Set VOICEDROP_OSS_REGION.")
    endpoint = settings.oss_endpoint or f"https://oss-{settings.oss_region}.aliyuncs.com"
    bucket = place.removeprefix("oss://").rstrip("/")
    return OssStore(bucket, endpoint, settings.oss_region, credentials)


def open_redis_cache(settings: Settings, reader: SecretReader) -> RedisCache | None:
    """Return the Redis in which something of voices is kept; None if nothing is.

    Raises Misconfigured SETTING_INVALID.
    """
    using = [name for name in ("voice_cache", "speech_cache") if getattr(settings, name) == "redis"]
    if not using:
        return None
    if not settings.redis:
        variable = SETTINGS[using[0]].variable
        message = f"{variable}=redis needs the address of the Redis in VOICEDROP_REDIS."
        raise Misconfigured("SETTING_INVALID", message)
    from core.storage.redis_cache import RedisCache

    url = reader.reveal("VOICEDROP_REDIS", settings.redis)
    return RedisCache(url, settings.control, settings.cache_hours * 3600)


def secret_reader(
    settings: Settings,
    credentials: Callable[[], Credentials],
    learn: Callable[[str], None] = lambda _: None,
) -> SecretReader:
    """Return what reads the secrets to which settings refer. `learn`: as in `SecretReader`."""
    control = cache(partial(open_store, settings.control, settings, credentials))
    return SecretReader(control, cache(partial(open_kms, settings, credentials)), learn)


def load_keyring(
    settings: Settings,
    credentials: Callable[[], Credentials],
    learn: Callable[[str], None] = lambda _: None,
) -> Keyring:
    """Return the keys in the settings if there are any, or else those in the folder of keys.
    `learn`: gets each key that is read because a setting refers to it."""
    wrapping = open_kms(settings, credentials) if settings.kms_key else None
    if _has_keys(settings):
        reveal = secret_reader(settings, credentials, learn).reveal
        return keys.keyring_from_values(
            kek="" if wrapping else reveal("VOICEDROP_KEK", settings.kek),
            signing=reveal("VOICEDROP_SIGNING_KEY", settings.signing_key),
            watermark=reveal("VOICEDROP_WATERMARK_KEY", settings.watermark_key),
            wrapping=wrapping,
        )
    try:
        return keys.load_keyring(settings.keys, wrapping=wrapping)
    except Misconfigured as exc:
        # New keys neither open nor verify what there is already.
        if exc.code != "KEY_NOT_FOUND" or not _is_empty(settings.results):
            raise
        message = (
            f"{exc.message} Is the installation in another folder? Change to it with `cd`, or set "
            "VOICEDROP_BUCKET and VOICEDROP_KEYS. Run `voicedrop init` for a new one."
        )
        raise Misconfigured("KEY_NOT_FOUND", message) from exc


def _has_keys(settings: Settings) -> bool:
    """Tell whether the settings contain the keys, so that the folder of keys is not read. Raises
    Misconfigured KEY_UNUSABLE if they contain some of them only; a key of KMS replaces
    VOICEDROP_KEK."""
    values = {
        "VOICEDROP_KEK": settings.kek,
        "VOICEDROP_SIGNING_KEY": settings.signing_key,
        "VOICEDROP_WATERMARK_KEY": settings.watermark_key,
    }
    given = [name for name, value in values.items() if value]
    absent = [name for name in values if name not in given]
    if settings.kms_key and "VOICEDROP_KEK" in absent:
        absent.remove("VOICEDROP_KEK")
    if given and absent:
        message = (
            f"{' and '.join(given)} {'is' if len(given) == 1 else 'are'} set, so "
            f"{' and '.join(absent)} must be set too (or none of the three: keys are then read "
            f"from {settings.keys})."
        )
        raise Misconfigured("KEY_UNUSABLE", message, advice="")
    return bool(given)


def _is_empty(place: str) -> bool:
    """Tell whether a place is a folder that is empty or missing."""
    return is_folder(place) and not (Path(place).is_dir() and any(Path(place).iterdir()))


def load_reading_keys(settings: Settings, credentials: Callable[[], Credentials]) -> ReadingKeys:
    """Return the keys of an auditor: public keys, and secret ones if there are any."""
    if _has_keys(settings):
        ring = load_keyring(settings, credentials)
        return ReadingKeys(ring.verifying, ring.wrapping, ring.watermark)
    wrapping = open_kms(settings, credentials) if settings.kms_key else None
    return keys.load_reading_keys(settings.keys, wrapping=wrapping)


def load_voice(settings: Settings) -> Voice:
    if settings.engine == "kokoro":
        from core.voice.kokoro import KokoroVoice

        return KokoroVoice.load(
            settings.cache, model=settings.kokoro, threads=settings.threads or 1
        )
    from core.voice.gpt_sovits.bundle import HOW_TO_GET, Bundle

    if settings.bundle is None:
        message = f"VOICEDROP_BUNDLE is not set. {HOW_TO_GET}"
        raise Misconfigured("ENGINE_UNSUPPORTED", message)
    from core.voice.gpt_sovits.engine import GptSovits
    from core.voice.gpt_sovits.frontend import Frontend
    from core.voice.gpt_sovits.guard import Guard

    bundle = Bundle(settings.bundle, threads=settings.threads or None)
    if settings.guard == "words":
        _recogniser()  # raises now if it is not installed, not at the first sentence
    return GptSovits(bundle, Frontend(), guard=Guard(transcribe=create_transcriber(settings)))


def _identify_kokoro() -> str:
    from core.voice.kokoro import FINGERPRINT

    return FINGERPRINT


def create_transcriber(settings: Settings) -> Transcribe | None:
    """Return a speech recogniser if the guard checks words. Its first call loads the model."""
    if settings.guard != "words":
        return None
    return lambda audio, language: _recogniser().transcribe(audio, language)


def create_statement_transcriber(settings: Settings) -> Transcribe | None:
    """Return a speech recogniser for statements of consent if one is installed, or if the policy
    demands one; its first call loads the model."""
    from core.speech import recognise

    if settings.consent != "verified" and not recognise.is_installed():
        return None
    return lambda audio, language: _recogniser().transcribe(audio, language)


def require_recogniser(settings: Settings) -> None:
    """Raise Misconfigured MODEL_MISSING if the policy on consent demands a speech recogniser and
    there is none. For whoever carries out jobs, not to learn it at the first statement."""
    if settings.consent == "verified":
        _recogniser()


@LoadedOnce
def _recogniser() -> Recogniser:
    from core.speech.recognise import Recogniser

    return Recogniser.load()


def engine_front_end(settings: Settings) -> FrontEnd:
    """Return the text front end of the engine, without loading the engine."""
    if settings.engine == "kokoro":
        from core.voice.kokoro.text import KokoroFrontend

        return KokoroFrontend()
    from core.voice.gpt_sovits.frontend import Frontend

    return Frontend()


def create_local_runtime(
    settings: Settings, observe: Callable[[Step], None] | None = None
) -> Runtime:
    """Return the runtime of a command, with the credentials of the environment."""
    return create_runtime(settings, CurrentCredentials(os.environ), observe)


def create_runtime(
    settings: Settings,
    credentials: Callable[[], Credentials],
    observe: Callable[[Step], None] | None = None,
    learn: Callable[[str], None] = lambda _: None,
) -> Runtime:
    """Return the runtime for these settings. The voice engine is loaded when it is first used.
    `learn`: gets each key that is read because a setting refers to it."""
    settings.refuse_loops()
    require_sandbox(settings)
    return Runtime(
        inbox=open_store(settings.inbox, settings, credentials),
        results=open_store(settings.results, settings, credentials),
        control=open_store(settings.control, settings, credentials),
        load_voice=LoadedOnce(partial(load_voice, settings)),
        identify_voice=_identify_kokoro if settings.engine == "kokoro" else None,
        front_end=engine_front_end(settings),
        keys=load_keyring(settings, credentials, learn),
        worker=f"{os.getpid():x}-{secrets.token_hex(4)}"[-16:],
        mark=settings.mark,
        consent=settings.consent,
        prepare=settings.prepare,
        producer=settings.label_producer,
        labels=label_policy(settings),
        lease_seconds=settings.lease_seconds,
        max_attempts=settings.max_attempts,
        quota=Quota(
            jobs=settings.quota_jobs,
            characters=settings.quota_characters,
            traces=settings.quota_traces,
            by=settings.quota_by,
        ),
        trace_seconds=settings.trace_seconds,
        shard_items=settings.shard_items,
        lanes=settings.lanes,
        redis=open_redis_cache(settings, secret_reader(settings, credentials, learn)),
        voice_cache=settings.voice_cache,
        speech_cache=settings.speech_cache,
        cache_seconds=settings.cache_hours * 3600,
        price=settings.price,
        prices=parse_prices(settings.prices),
        rates=Rates(settings.engine),
        hear_statement=create_statement_transcriber(settings),
        transcribe=create_transcriber(settings),
        observe=observe or _log_step,
        tell=_open_webhook(settings, credentials, learn),
    )


def _open_webhook(
    settings: Settings, credentials: Callable[[], Credentials], learn: Callable[[str], None]
) -> Callable[[str, bytes], str] | None:
    if not settings.webhook:
        return None
    from handlers import webhook

    reader = secret_reader(settings, credentials, learn)
    secrets = reader.reveal("VOICEDROP_WEBHOOK_SECRET", settings.webhook_secret)
    receiver = webhook.open_webhook(settings.webhook, secrets, settings.webhook_networks)
    control = open_store(settings.control, settings, credentials)
    return partial(webhook.deliver, control, receiver)


def label_policy(settings: Settings) -> LabelPolicy:
    return LabelPolicy(least=settings.label_min, codes=frozenset(settings.label_codes.split()))


def require_sandbox(settings: Settings) -> None:
    """Set what the sandbox of this process needs before it decodes a recording."""
    sandbox.require(settings.sandbox == "required")


def check_stores(runtime: Runtime) -> None:
    """Check that the buckets exist, and that an object in results cannot be overwritten."""
    runtime.inbox.check(writable_once=False)
    runtime.results.check(writable_once=True)
    runtime.control.check(writable_once=False)


def _log_step(step: Step) -> None:
    if step.seconds is not None:
        fields = {"job": step.job, "item": step.item, "seconds": round(step.seconds, 3)}
        log.info(step.stage, extra=fields)


def open_kms(settings: Settings, credentials: Callable[[], Credentials]) -> KeyProvider:
    """Return KMS with the key of the settings, which decrypting does not need."""
    from core.crypto.kms import AliyunKms

    return AliyunKms(
        settings.kms_key,
        region=settings.oss_region,
        credentials=credentials,
        endpoint=settings.kms_endpoint,
    )
