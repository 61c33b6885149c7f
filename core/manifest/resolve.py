"""A job as the pipeline sees it: defaults resolved, texts clean, bad items set aside.

What is wrong with the document as a whole raises Refused; what is wrong with one item costs that
item alone. How pointers are written: core/manifest/parse.py.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import msgspec

from core.errors import Notice, Refused, raising
from core.manifest import chapters, clean_text, reference_key
from core.manifest import fields as manifest
from core.manifest import parse as draft
from core.manifest.fields import Delivery, Format, Label, Manifest, Mode, Subtitle, Voice
from core.manifest.parse import Entry, Limits, ParsedManifest
from core.manifest.validate import join_pointer, suggest

LIMITS = Limits()
OPUS_RATES = frozenset({8000, 12000, 16000, 24000, 48000})


class Item(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One thing to say, complete."""

    index: int
    """Place among the manifest's items, from 0, bad ones counted."""
    id: str
    text: str
    """Clean, composed (NFC), not empty."""
    voice: str
    """A key of `Job.voices`."""
    language: str
    format: Format
    sample_rate: int | None
    """Hz; None: the engine's own, or the nearest rate the container allows."""
    speed: float
    seed: int | None
    """None: to be derived from the item."""
    pause_ms: int
    """Silence at the end."""
    after_ms: int | None
    """Silence after it in a joined file, in place of `pause_ms`."""
    chapter: str
    """Empty if it is in none."""
    subtitle: tuple[Subtitle, ...]
    meta: dict[str, Any] | None
    pointer: str
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True)
class ItemError:
    index: int
    id: str
    """As far as the item has a valid one, else empty."""
    error: Refused
    chapters: tuple[str, ...] = ()
    """Those it may belong to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    id: str
    """The producer's own name for it, or empty; not the job_id."""
    labels: dict[str, str]
    voices: dict[str, Voice]
    """Only keys and names are checked: whether the objects exist is for the pipeline to see."""
    label: Label
    output: Delivery
    format: Format
    """Of the joined files."""
    subtitle: tuple[Subtitle, ...]
    """Of the joined files, where items are joined."""
    wait_s: int
    items: list[Item]
    errors: list[ItemError]
    """In the order of the manifest, like `items`; no index stands in both."""
    notices: list[Notice]
    mode: Mode = "run"
    retry_of: str = ""
    """An earlier job, or empty."""


def job_id(bucket: str, key: str, data: bytes) -> str:
    """The first 32 hex digits of a SHA-256 over four fields, each after its own length in eight
    bytes, most significant first: `voicedrop/job/1`, bucket and key in UTF-8, and the 32 bytes of
    the manifest's SHA-256."""
    digest = hashlib.sha256()
    fields = (manifest.SCHEMA.encode(), bucket.encode(), key.encode())
    for part in (*fields, hashlib.sha256(data).digest()):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:32]


def parse_job(data: bytes, *, lines: bool = False, limits: Limits = LIMITS) -> Job:
    """The job in a manifest; `lines`: JSON Lines, a header and then one item a line.

    Raises Refused with any code of the manifest, text or label family for the document as a whole.
    """
    return resolve(parse_manifest(data, lines=lines, limits=limits), limits)


def parse_manifest(data: bytes, *, lines: bool = False, limits: Limits = LIMITS) -> ParsedManifest:
    """The manifest as written. Raises Refused with any code of the manifest family."""
    if len(data) > limits.manifest_bytes:
        message = f"The manifest has {len(data)} bytes; at most {limits.manifest_bytes}."
        raise Refused("MANIFEST_TOO_LARGE", message)
    written = (draft.parse_lines if lines else draft.parse_document)(data, limits)
    if not written.entries:
        raise Refused("ITEMS_EMPTY", pointer="" if lines else "/items")
    _refuse_duplicate_ids(written.entries)
    return written


def _refuse_duplicate_ids(entries: list[Entry]) -> None:
    first: dict[str, Entry] = {}
    for entry in entries:
        # Ids become file names, and some file systems fold case.
        earlier = first.setdefault(entry.id.casefold(), entry)
        if entry.id and earlier is not entry:
            message = f"The id {entry.id!r} stands at {earlier.pointer} already (case ignored)."
            raise Refused("DUPLICATE_ID", message, pointer=f"{entry.pointer}/id")


def resolve(written: ParsedManifest, limits: Limits = LIMITS) -> Job:
    """Defaults filled in, texts cleaned. Raises Refused with any code of the text or label family
    for the document as a whole."""
    head = written.header
    if head.defaults.voice is not None and head.defaults.voice not in head.voices:
        raise _unknown_voice(head.defaults.voice, head, "/defaults/voice")
    voices, notices = _check_voices(head.voices)
    chapters_of = chapters.assign(written.entries, head)
    joined = head.output.concatenate != "none"
    if not joined and any(any(names) for names in chapters_of):
        notices.append(Notice("CHAPTERS_NOT_JOINED"))
    items: list[Item] = []
    errors: list[ItemError] = []
    placed = zip(written.entries, chapters_of, strict=True)
    for index, (entry, names) in enumerate(placed, written.first):
        try:
            items.append(_resolve_item(index, entry, names[0], head, limits))
        except Refused as exc:
            errors.append(ItemError(index, entry.id, draft.without_traceback(exc), names))
    chars = sum(len(item.text) for item in items)
    if chars > limits.job_chars:
        message = f"The texts have {chars} characters; at most {limits.job_chars}: split the job."
        raise Refused("TEXT_TOO_LONG", message, pointer="/items")
    return Job(
        id=head.id or "",
        labels=_check_labels(head.labels),
        voices=voices,
        label=_check_label(head.label),
        output=_check_titles(head.output),
        format=head.output.format or head.defaults.format,
        subtitle=tuple(sorted(set(head.defaults.subtitle))) if joined else (),
        wait_s=head.wait_s,
        items=items,
        errors=errors,
        notices=written.notices + notices,
        mode=head.mode,
        retry_of=head.retry_of or "",
    )


def _resolve_item(index: int, entry: Entry, chapter: str, head: Manifest, limits: Limits) -> Item:
    spec, pointer, defaults = entry.spec, entry.pointer, head.defaults
    if isinstance(spec, Refused):
        raise spec
    voice = spec.voice or defaults.voice or _only_voice(head, pointer)
    if voice not in head.voices:
        raise _unknown_voice(voice, head, f"{pointer}/voice")
    language = spec.language or defaults.language or head.voices[voice].language
    text, notices = clean_text.clean(
        spec.text, language=language, limit=limits.item_chars, pointer=f"{pointer}/text"
    )
    format_ = spec.format or defaults.format
    subtitle = defaults.subtitle if spec.subtitle is None else spec.subtitle
    return Item(
        index=index,
        id=spec.id,
        text=text,
        voice=voice,
        language=language,
        format=format_,
        sample_rate=_check_rate(spec.sample_rate or defaults.sample_rate, format_, pointer),
        speed=defaults.speed if spec.speed is None else spec.speed,
        seed=defaults.seed if spec.seed is None else spec.seed,
        pause_ms=defaults.pause_ms if spec.pause_ms is None else spec.pause_ms,
        after_ms=defaults.after_ms if spec.after_ms is None else spec.after_ms,
        chapter=chapter,
        subtitle=tuple(sorted(set(subtitle))) if subtitle else (),
        meta=_check_meta(spec.meta, limits, pointer) if spec.meta else spec.meta,
        pointer=pointer,
        notices=tuple(notices),
    )


def _only_voice(head: Manifest, pointer: str) -> str:
    if len(head.voices) == 1:
        return next(iter(head.voices))
    message = "Name a voice here or in the defaults: the manifest defines several."
    raise Refused("FIELD_MISSING", message, pointer=f"{pointer}/voice")


def _unknown_voice(voice: str, head: Manifest, pointer: str) -> Refused:
    near = suggest(voice, head.voices) or " Add it under `voices`."
    return Refused("VOICE_UNKNOWN", f"There is no voice `{voice}`.{near}", pointer=pointer)


def _check_rate(rate: int | None, format_: Format, pointer: str) -> int | None:
    if format_ == "opus" and rate is not None and rate not in OPUS_RATES:
        allowed = ", ".join(map(str, sorted(OPUS_RATES)))
        message = f"Opus has no sample rate of {rate} Hz: use one of {allowed}."
        raise Refused("VALUE_RANGE", message, pointer=f"{pointer}/sample_rate")
    return rate


def _check_meta(meta: dict[str, Any], limits: Limits, pointer: str) -> dict[str, Any]:
    pointer = f"{pointer}/meta"
    with raising(Refused("TEXT_SURROGATE", pointer=pointer), on=UnicodeEncodeError):
        size = len(msgspec.json.encode(meta))
    if size > limits.meta_bytes:
        message = f"At most {limits.meta_bytes} bytes of meta an item, not {size}."
        raise Refused("VALUE_RANGE", message, pointer=pointer)
    return meta


def _check_voices(voices: dict[str, Voice]) -> tuple[dict[str, Voice], list[Notice]]:
    checked: dict[str, Voice] = {}
    notices: list[Notice] = []
    for name, voice in voices.items():
        pointer = join_pointer("/voices", name)
        checked[name], remarks = _check_voice(name, voice, pointer)
        notices += remarks
    return checked, notices


def _check_voice(name: str, voice: Voice, pointer: str) -> tuple[Voice, list[Notice]]:
    if not draft.valid_id(name):
        raise Refused("ID_INVALID", pointer=pointer)
    reference_key.check(voice.reference, f"{pointer}/reference")
    if voice.consent is not None:
        reference_key.check(voice.consent, f"{pointer}/consent")
    transcript = voice.transcript
    notices: list[Notice] = []
    if transcript:
        transcript, notices = clean_text.clean(
            transcript,
            language=voice.language,
            limit=len(transcript),
            pointer=f"{pointer}/transcript",
        )
    sha256 = voice.sha256.lower() if voice.sha256 else None
    return msgspec.structs.replace(voice, sha256=sha256, transcript=transcript), notices


def _check_labels(labels: dict[str, str]) -> dict[str, str]:
    if len(labels) > manifest.MAX_LABELS:
        raise Refused("VALUE_RANGE", f"At most {manifest.MAX_LABELS} labels.", pointer="/labels")
    for name, value in labels.items():
        if not 1 <= len(name) <= manifest.MAX_LABEL_NAME:
            message = f"A label's name has 1-{manifest.MAX_LABEL_NAME} characters."
            raise Refused("VALUE_RANGE", message, pointer=join_pointer("/labels", name))
        _refuse_surrogates(name + value, join_pointer("/labels", name))
    return labels


def _check_titles(output: Delivery) -> Delivery:
    for chapter, title in output.titles.items():
        pointer = join_pointer("/output/titles", chapter)
        _refuse_surrogates(chapter + title, pointer)
        if any(clean_text.classify(c).kind == "control" or c in "\t\n" for c in title):
            raise Refused("TEXT_CONTROL", "A title is one line of text.", pointer=pointer)
    return output


def _check_label(label: Label) -> Label:
    if label.profile == "none" and not label.waiver.strip():
        message = "Say in `waiver` why the label that the law asks for may be left out."
        raise Refused("FIELD_MISSING", message, pointer="/label/waiver")
    _refuse_surrogates(label.waiver, "/label/waiver")
    return label


def _refuse_surrogates(text: str, pointer: str) -> None:
    # Half a character has no UTF-8 form: the result could not be written.
    with raising(Refused("TEXT_SURROGATE", pointer=pointer), on=UnicodeEncodeError):
        text.encode()
