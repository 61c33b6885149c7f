"""How the texts of a job are to be read: their markup and lexicon become annotations in them.

An annotated text (core/text/annotated.py) takes the place of the item's text before anything else
looks at it. So fingerprints, seeds, kept speech and the languages that consent has to cover follow
from what is spoken, and a changed lexicon changes those items alone in which it reads a word
otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import msgspec

from core.errors import Refused
from core.job.runtime import Runtime
from core.manifest.parse import without_traceback
from core.manifest.resolve import LIMITS, Item, ItemError, Job
from core.text import annotated, lexicon, ssml
from core.text.lexicon import Lexicon
from core.text.markup import without_markup

Fetch = Callable[[str], bytes]
"""Returns the object of a key in the inbox."""


def annotate_job(
    job: Job, languages: Collection[str], fetch: Fetch, *, pinned: Mapping[str, str] | None = None
) -> Job:
    """Return the job with annotated texts; an item that cannot be read so becomes an error.

    `languages`: those that the engine speaks. `pinned`: the SHA-256 of each lexicon when the job
    was cut. Raises Refused TEXT_TOO_LONG, and what `fetch` raises beyond Refused.
    """
    if not any(item.lexicon or item.markup for item in job.items):
        return job
    lexicons = {key: _read(key, fetch, pinned) for key in _keys(job)}
    items: list[Item] = []
    errors = list(job.errors)
    for item in job.items:
        try:
            items.append(_annotate(item, lexicons, frozenset(languages)))
        except Refused as exc:
            chapters = (item.chapter,) if item.chapter else ("",)
            errors.append(ItemError(item.index, item.id, without_traceback(exc), chapters))
    _refuse_long(items)
    errors.sort(key=lambda error: error.index)
    used = {key: one.sha256 for key, one in lexicons.items() if isinstance(one, Lexicon)}
    return replace(job, items=items, errors=errors, lexicons=used)


def fetch_from(runtime: Runtime) -> Fetch:
    """Return how to read a lexicon from the inbox."""

    def fetch(key: str) -> bytes:
        return runtime.inbox.get(key, limit=lexicon.MAX_BYTES).data

    return fetch


def _keys(job: Job) -> list[str]:
    return sorted({item.lexicon for item in job.items if item.lexicon})


def _read(key: str, fetch: Fetch, pinned: Mapping[str, str] | None) -> Lexicon | Refused:
    """Return a lexicon, or why the items that name it fail."""
    try:
        found = lexicon.parse(fetch(key), key)
    except Refused as exc:
        codes = {"OBJECT_MISSING": "LEXICON_MISSING", "OBJECT_TOO_LARGE": "LEXICON_INVALID"}
        if exc.code in codes:
            message = f"{key}: {Refused(codes[exc.code]).message}"
            return Refused(codes[exc.code], message, pointer=key)
        return exc
    is_other = pinned is not None and pinned.get(key) != found.sha256
    return Refused("LEXICON_CHANGED", pointer=key) if is_other else found


def _annotate(
    item: Item, lexicons: Mapping[str, Lexicon | Refused], languages: frozenset[str]
) -> Item:
    used = lexicons.get(item.lexicon)
    if isinstance(used, Refused):
        raise used

    def look_up(words: str, language: str) -> str:
        return used.annotate(words, language, item.voice, languages) if used else words

    if item.markup:
        text = ssml.read(item.text, item.language, languages, look_up, f"{item.pointer}/text")
    else:
        plain = without_markup(item.text)
        text = look_up(plain, item.language)
        if text == plain:
            return item
    if annotated.count_spoken(text) > LIMITS.item_chars:
        message = f"As spoken, the text has more than {LIMITS.item_chars} characters: split it."
        raise Refused("TEXT_TOO_LONG", message, pointer=f"{item.pointer}/text")
    return msgspec.structs.replace(item, text=text)


def _refuse_long(items: Collection[Item]) -> None:
    spoken = sum(annotated.count_spoken(item.text) for item in items)
    if spoken > LIMITS.job_chars:
        message = f"As spoken, the texts have {spoken} characters; at most {LIMITS.job_chars}."
        raise Refused("TEXT_TOO_LONG", message, pointer="/items")
