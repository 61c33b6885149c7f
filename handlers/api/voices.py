"""Voices that callers keep in the inbox under a name, as a manifest writes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

import msgspec

from core.errors import Refused
from core.manifest.fields import Voice
from core.manifest.validate import convert
from core.storage.object_keys import (
    NAMED_VOICES,
    REVOKED_SUFFIX,
    named_voice_key,
    withdrawals_prefix,
)
from core.storage.port import Store
from handlers.api.callers import Caller

LIMIT = 64 * 1024


class VoiceView(msgspec.Struct, frozen=True, kw_only=True):
    """A voice that is kept under a name."""

    name: str
    """What `voice` is in a request; of another caller, after its name and a slash."""
    language: str
    reference: str
    """Key of the recording in the inbox."""
    consent: str | None = None
    """Key of the consent record in the inbox."""
    withdrawn: bool = False
    """Whether consent was withdrawn, so that the voice says nothing more."""


class VoicePage(msgspec.Struct, frozen=True, kw_only=True):
    """Voices, in the order of their names."""

    voices: list[VoiceView]
    next: str | None = None
    """What `after` must be to get the next page; null on the last one."""


def keep_voice(name: str, voice: dict[str, Any], caller: Caller, inbox: Store) -> None:
    inbox.put(named_voice_key(caller.folder, name), msgspec.json.encode(voice))


def read_voice(name: str, caller: Caller, inbox: Store) -> dict[str, Any] | None:
    """Return a voice that the caller keeps, as a manifest writes it; None if there is none."""
    return _read(named_voice_key(caller.folder, name), inbox)


def list_voices(
    caller: Caller, inbox: Store, results: Store, *, limit: int, after: str = ""
) -> VoicePage:
    """List the voices of a caller. `after`: the field `next` of the page before."""
    folder = NAMED_VOICES if caller.sees_all else NAMED_VOICES + caller.folder
    keys = [info.key for info in islice(inbox.list(folder, after=after), limit + 1)]
    views = [view for key in keys[:limit] for view in _views(key, folder, inbox, results)]
    return VoicePage(voices=views, next=keys[limit - 1] if len(keys) > limit else None)


def _views(key: str, folder: str, inbox: Store, results: Store) -> Iterator[VoiceView]:
    voice = _read(key, inbox)
    if voice is None:
        return
    consent, sha256 = voice.get("consent"), voice.get("sha256")
    is_withdrawn = bool(consent) and inbox.head(f"{consent}{REVOKED_SUFFIX}") is not None
    if sha256 and not is_withdrawn:
        is_withdrawn = next(results.list(withdrawals_prefix(sha256)), None) is not None
    yield VoiceView(
        name=key.removeprefix(folder).removesuffix(".json"),
        language=voice["language"],
        reference=voice["reference"],
        consent=consent,
        withdrawn=is_withdrawn,
    )


def _read(key: str, inbox: Store) -> dict[str, Any] | None:
    with suppress(msgspec.DecodeError, RecursionError, Refused):
        stored = inbox.get(key, limit=LIMIT).data
        voice = msgspec.json.decode(stored, type=dict[str, Any])
        convert(voice, Voice, "")
        return voice
    return None
