"""A job whose texts are read by a lexicon."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from core.consent import records
from core.job.runtime import Runtime
from core.text import lexicon
from core.text.annotated import to_written
from tests.support.present import present
from tests.support.runtime import (
    REFERENCE,
    consent_record,
    local_runtime,
    put_job,
    run_job,
    split_job,
    voice_of,
)
from tests.support.shards import run_all_shards

ITEMS = [
    {"id": "a", "text": "We met Nguyen in Hanoi. It rained."},
    {"id": "b", "text": "Nothing of this is a name."},
]
DEFAULTS = {"lexicon": "lex/names.json", "subtitle": ["json"]}


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return local_runtime(tmp_path, shard_items=3)


def put_lexicon(runtime: Runtime, words: str = "win", key: str = "lex/names.json") -> str:
    """Put a lexicon into the inbox; return its SHA-256."""
    entry = {"term": "Nguyen", "language": "zh" if words > "z" else "en", "as": words}
    data = json.dumps({"schema": lexicon.SCHEMA, "entries": [entry]}).encode()
    runtime.inbox.put(key, data)
    return hashlib.sha256(data).hexdigest()


def errors(done: Any) -> list[str]:
    return [item.error.code if item.error else "" for item in done.items]


@pytest.mark.slow
def test_a_changed_lexicon_speaks_those_items_again_that_it_changes(runtime: Runtime) -> None:
    digest = put_lexicon(runtime)
    first = run_job(put_job(runtime, items=ITEMS, defaults=DEFAULTS), runtime)
    assert first.status == "succeeded"
    assert first.lexicons == {"lex/names.json": digest}
    assert first.totals.characters == len("We met win in Hanoi. It rained.") + len(ITEMS[1]["text"])
    spoken = voice_of(runtime).spoken
    assert spoken[0] != ITEMS[0]["text"]
    assert sorted(map(to_written, spoken)) == sorted(item["text"] for item in ITEMS)
    assert [sentence.chars for sentence in first.items[0].sentences] == [24, 34]
    put_lexicon(runtime, "wing")
    again = put_job(runtime, name="two", items=ITEMS, defaults=DEFAULTS, retry_of=first.job_id)
    second = run_job(again, runtime)
    assert [bool(item.kept_from) for item in second.items] == [False, True]
    assert second.lexicons != first.lexicons


def test_words_of_another_language_need_consent(runtime: Runtime) -> None:
    put_lexicon(runtime, "这是没有得到许可的中文")
    items = [{"id": "a", "text": "Nguyen and nothing else."}]
    key = put_job(runtime, items=items, defaults={"lexicon": "lex/names.json"})
    limited = consent_record(REFERENCE.read_bytes(), scope=records.Scope(languages=["en"]))
    runtime.inbox.put("consent/alice.json", records.format_consent(limited))
    assert errors(run_job(key, runtime)) == [""]  # a Chinese entry does not apply to English words
    entry = {"term": "Nguyen", "language": "en", "as": "这是没有得到许可的中文"}
    document = {"schema": lexicon.SCHEMA, "entries": [entry]}
    runtime.inbox.put("lex/names.json", json.dumps(document).encode())
    key = put_job(runtime, name="two", items=items, defaults={"lexicon": "lex/names.json"})
    runtime.inbox.put("consent/alice.json", records.format_consent(limited))
    assert errors(run_job(key, runtime)) == ["CONSENT_SCOPE"]


def test_a_lexicon_that_cannot_be_used_fails_the_items_that_name_it(runtime: Runtime) -> None:
    items = [
        {"id": "a", "text": "One, two.", "lexicon": "lex/none.json"},
        {"id": "b", "text": "One, two.", "lexicon": "lex/bad.json"},
        {"id": "c", "text": "Nguyen " * 600, "lexicon": "lex/long.json"},
    ]
    runtime.inbox.put("lex/bad.json", b'{"schema": "voicedrop/lexicon/1"}')
    put_lexicon(runtime, "a long name " * 10, "lex/long.json")
    for mode in ("validate", "run"):
        done = run_job(put_job(runtime, name=mode, items=items, mode=mode), runtime)
        assert errors(done) == ["LEXICON_MISSING", "LEXICON_INVALID", "TEXT_TOO_LONG"]
        assert present(done.items[1].error).pointer == "lex/bad.json#/entries"


@pytest.mark.slow
def test_pauses_are_silence_of_the_stated_length(runtime: Runtime) -> None:
    text = '<break time="400ms"/>One part. <break time="2s"/>Another <break time="1s"/>part.'
    items: list[dict[str, Any]] = [
        {"id": "a", "text": text + '<break time="0.5s"/>', "markup": "ssml", "subtitle": ["json"]},
        {"id": "b", "text": "<b>One</b> part.", "subtitle": ["json"]},
        {"id": "c", "text": "<b>One</b> part.", "markup": "ssml"},
    ]
    done = run_job(put_job(runtime, items=items, defaults={"format": "wav"}), runtime)
    assert errors(done) == ["", "", "MARKUP_INVALID"]
    made, one = (present(item.output).duration_s for item in done.items[:2])
    sentences = done.items[0].sentences
    assert [sentence.chars for sentence in sentences] == [11, 20, 27]
    starts = [sentence.start_ms for sentence in sentences]
    ends = [sentence.end_ms for sentence in sentences]
    gaps = [start - end for start, end in zip(starts[1:], ends, strict=False)]
    assert abs(starts[0] - 400) < 80
    assert [abs(gap - asked) < 80 for gap, asked in zip(gaps, (2000, 1000), strict=True)]
    assert abs(made * 1000 - ends[-1] - 500) < 80
    assert made > one + 3.4
    assert len(voice_of(runtime).spoken) == 4  # three parts, and the other item


@pytest.mark.slow
def test_all_shards_use_the_lexicon_with_which_the_job_was_cut(runtime: Runtime) -> None:
    digest = put_lexicon(runtime)
    items = [ITEMS[0] | {"id": f"i{n}"} for n in range(4)]
    key = put_job(runtime, items=items, defaults={"lexicon": "lex/names.json"})
    done = run_all_shards(runtime, key)
    assert (done.status, done.lexicons) == ("succeeded", {"lex/names.json": digest})
    key = put_job(runtime, name="two", items=items, defaults={"lexicon": "lex/names.json"})
    split_job(key, runtime)
    put_lexicon(runtime, "wing")
    done = run_all_shards(runtime, key)
    assert done.totals.failed == 4
    assert {code for part in done.parts for code in part.errors} == {"LEXICON_CHANGED"}
