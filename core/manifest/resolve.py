"""The job that a manifest describes: defaults applied, texts cleaned, bad items set apart.

An error in the document raises Refused; an error in one item fails that item alone. For the form of
pointers see core/manifest/parse.py.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import msgspec

from core.errors import Notice, Refused, raising
from core.manifest import chapters, clean_text, parse, reference_key
from core.manifest import fields as manifest
from core.manifest.fields import Delivery, Format, Label, Manifest, Markup, Mode, Subtitle, Voice
from core.manifest.parse import Entry, Limits, ParsedManifest
from core.manifest.validate import join_pointer, suggest

LIMITS = Limits()
OPUS_RATES = frozenset({8000, 12000, 16000, 24000, 48000})


class Item(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One text to speak, with all defaults applied."""

    index: int
    """Index among all items of the manifest, from 0."""
    id: str
    text: str
    """Cleaned, in NFC, not empty. `core.job.wording` reads its markup, and annotates it."""
    voice: str
    """A key of `Job.voices`."""
    language: str
    format: Format
    sample_rate: int | None
    """Hz; None: the engine's rate, or the nearest that the container allows."""
    speed: float
    seed: int | None
    """None: derived from the item."""
    pause_ms: int
    """Milliseconds of silence at the end."""
    after_ms: int | None
    """Milliseconds of silence after it in a joined file, instead of `pause_ms`."""
    chapter: str
    """Empty if none."""
    subtitle: tuple[Subtitle, ...]
    meta: dict[str, Any] | None
    pointer: str
    notices: tuple[Notice, ...] = ()
    markup: Markup | None = None
    lexicon: str = ""
    """Key of the lexicon in the inbox; empty if none."""


@dataclass(frozen=True, slots=True)
class ItemError:
    index: int
    id: str
    """Empty if the item has no valid one."""
    error: Refused
    chapters: tuple[str, ...] = ()
    """Chapters that the item may belong to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    id: str
    """The producer's name for the job, or empty; not the job_id."""
    labels: dict[str, str]
    voices: dict[str, Voice]
    """Keys and names are valid; the pipeline finds out whether the objects exist."""
    label: Label
    output: Delivery
    format: Format
    """Format of the joined files."""
    subtitle: tuple[Subtitle, ...]
    """Subtitle formats of the joined files; empty if items are not joined."""
    wait_s: int
    items: list[Item]
    errors: list[ItemError]
    """In the order of the manifest, like `items`; every index is in one of the two."""
    notices: list[Notice]
    mode: Mode = "run"
    retry_of: str = ""
    """Id of an earlier job, or empty."""
    lexicons: dict[str, str] = field(default_factory=dict)
    """Key of each lexicon that was used -> its SHA-256."""


def job_id(bucket: str, key: str, data: bytes) -> str:
    """Return the first 32 hex digits of a SHA-256 over four fields, each preceded by its length as
    eight bytes, big-endian: `voicedrop/job/1`, bucket and key in UTF-8, and the 32 bytes of the
    manifest's SHA-256."""
    digest = hashlib.sha256()
    fields = (manifest.SCHEMA.encode(), bucket.encode(), key.encode())
    for part in (*fields, hashlib.sha256(data).digest()):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:32]


def parse_job(data: bytes, *, lines: bool = False, limits: Limits = LIMITS) -> Job:
    """Parse a manifest and resolve it into a job. `lines`: it is JSON Lines.

    Raises Refused with any code for manifests, texts or labels if the document is wrong.
    """
    return resolve(parse_manifest(data, lines=lines, limits=limits), limits)


def parse_manifest(data: bytes, *, lines: bool = False, limits: Limits = LIMITS) -> ParsedManifest:
    """Parse a manifest without applying defaults. Raises Refused with any code for manifests."""
    if len(data) > limits.manifest_bytes:
        message = f"The manifest has {len(data)} bytes; at most {limits.manifest_bytes}."
        raise Refused("MANIFEST_TOO_LARGE", message)
    parsed = (parse.parse_lines if lines else parse.parse_document)(data, limits)
    if not parsed.entries:
        raise Refused("ITEMS_EMPTY", pointer="" if lines else "/items")
    _refuse_duplicate_ids(parsed.entries)
    return parsed


def _refuse_duplicate_ids(entries: list[Entry]) -> None:
    first: dict[str, Entry] = {}
    for entry in entries:
        # Ids become file names, and some file systems ignore case.
        earlier = first.setdefault(entry.id.casefold(), entry)
        if entry.id and earlier is not entry:
            message = f"The id {entry.id!r} is used at {earlier.pointer} already (case is ignored)."
            raise Refused("DUPLICATE_ID", message, pointer=f"{entry.pointer}/id")


def resolve(parsed: ParsedManifest, limits: Limits = LIMITS) -> Job:
    """Apply the defaults and clean the texts. Raises Refused with any code for texts or labels if
    the document is wrong."""
    head = parsed.header
    if head.defaults.voice is not None and head.defaults.voice not in head.voices:
        raise _unknown_voice(head.defaults.voice, head, "/defaults/voice")
    voices, notices = _check_voices(head.voices)
    chapters_of = chapters.assign(parsed.entries, head)
    joined = head.output.concatenate != "none"
    if not joined and any(any(names) for names in chapters_of):
        notices.append(Notice("CHAPTERS_NOT_JOINED"))
    items: list[Item] = []
    errors: list[ItemError] = []
    entries = zip(parsed.entries, chapters_of, strict=True)
    for index, (entry, names) in enumerate(entries, parsed.first):
        try:
            items.append(_resolve_item(index, entry, names[0], head, limits))
        except Refused as exc:
            errors.append(ItemError(index, entry.id, parse.without_traceback(exc), names))
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
        notices=parsed.notices + notices,
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
    lexicon, place = spec.lexicon, f"{pointer}/lexicon"
    if lexicon is None:
        lexicon, place = defaults.lexicon, "/defaults/lexicon"
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
        markup=spec.markup or defaults.markup,
        lexicon=reference_key.check(lexicon, place) if lexicon else "",
    )


def _only_voice(head: Manifest, pointer: str) -> str:
    if len(head.voices) == 1:
        return next(iter(head.voices))
    message = "Set a voice here or in `defaults`: the manifest defines several."
    raise Refused("FIELD_MISSING", message, pointer=f"{pointer}/voice")


def _unknown_voice(voice: str, head: Manifest, pointer: str) -> Refused:
    suggestion = suggest(voice, head.voices) or " Add it under `voices`."
    return Refused("VOICE_UNKNOWN", f"There is no voice `{voice}`.{suggestion}", pointer=pointer)


def _check_rate(rate: int | None, format_: Format, pointer: str) -> int | None:
    if format_ == "opus" and rate is not None and rate not in OPUS_RATES:
        allowed = ", ".join(map(str, sorted(OPUS_RATES)))
        message = f"Opus does not support {rate} Hz: use one of {allowed}."
        raise Refused("VALUE_RANGE", message, pointer=f"{pointer}/sample_rate")
    return rate


def _check_meta(meta: dict[str, Any], limits: Limits, pointer: str) -> dict[str, Any]:
    pointer = f"{pointer}/meta"
    with raising(Refused("TEXT_SURROGATE", pointer=pointer), on=UnicodeEncodeError):
        size = len(msgspec.json.encode(meta))
    if size > limits.meta_bytes:
        message = f"`meta` may have at most {limits.meta_bytes} bytes, not {size}."
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
    if not parse.valid_id(name):
        raise Refused("ID_INVALID", pointer=pointer)
    reference_key.check(voice.reference, f"{pointer}/reference")
    for index, key in enumerate(voice.aux):
        reference_key.check(key, f"{pointer}/aux/{index}")
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
            raise Refused("TEXT_CONTROL", "A title must be one line of text.", pointer=pointer)
    return output


def _check_label(label: Label) -> Label:
    if label.profile == "none" and not label.waiver.strip():
        message = "Say in `waiver` why the label that the law requires may be left out."
        raise Refused("FIELD_MISSING", message, pointer="/label/waiver")
    _refuse_surrogates(label.waiver, "/label/waiver")
    return label


def _refuse_surrogates(text: str, pointer: str) -> None:
    # A lone surrogate has no UTF-8 form, so the result could not be written.
    with raising(Refused("TEXT_SURROGATE", pointer=pointer), on=UnicodeEncodeError):
        text.encode()
