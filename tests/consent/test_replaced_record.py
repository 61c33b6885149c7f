"""A worker stores an output and dies; the consent record is another one when the job goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from core import audit
from core.consent import records
from core.consent.records import Scope
from core.job.runtime import Runtime
from core.storage.local import LocalStore
from core.storage.port import Body
from core.voice import SpeechChunk, Voiceprint
from handlers.jobs import integrate_log
from tests.audit.conftest import open_sources
from tests.support.present import present
from tests.support.runtime import (
    REFERENCE,
    BuzzVoice,
    consent_record,
    finish_job,
    local_runtime,
    put_job,
    run_job,
)

ITEMS = [
    {"id": "en", "text": "These are words in English."},
    {"id": "zh", "text": "这是我的声音，今天天气很好。", "language": "zh"},
]


class DiesAtTheSecondItem(BuzzVoice):
    def speak(self, text: str, voiceprint: Voiceprint, **options: Any) -> Iterator[SpeechChunk]:
        if len(self.spoken) == 1:
            self.spoken.append("")
            raise KeyboardInterrupt
        return super().speak(text, voiceprint, **options)


@pytest.mark.parametrize(
    ("changes", "codes"),
    [
        ({"scope": Scope(languages=["zh"])}, ["CONSENT_SCOPE", ""]),
        ({"valid_until": datetime(2026, 2, 1, tzinfo=UTC)}, ["CONSENT_EXPIRED"] * 2),
        ({}, ["", ""]),
    ],
    ids=["narrower", "expired", "the same"],
)
def test_a_stored_output_is_signed_only_if_the_record_still_allows_it(
    tmp_path: Path, changes: dict[str, Any], codes: list[str]
) -> None:
    """What it no longer allows is removed and named, so that an audit finds nothing."""
    runtime = local_runtime(tmp_path, voice=DiesAtTheSecondItem())
    key = put_job(runtime, items=ITEMS)
    with pytest.raises(KeyboardInterrupt):
        run_job(key, runtime)
    record = records.format_consent(consent_record(REFERENCE.read_bytes(), **changes))
    runtime.inbox.put("consent/alice.json", record)
    done = finish_job(key, runtime)
    assert [item.error.code if item.error else "" for item in done.items] == codes
    stored = {i.key for i in runtime.results.list("out/") if i.key.endswith(".sealed")}
    assert stored == {present(item.output).key for item in done.items if item.output}
    removed = [notice.code for notice in done.items[0].notices]
    assert removed == (["OUTPUT_REMOVED"] if codes[0] else [])
    assert findings(runtime, tmp_path) == []


class DiesBeforeTheResult(LocalStore):
    dies = True

    def put_once(self, key: str, data: Body, *, metadata: Mapping[str, str] | None = None) -> bool:
        if self.dies and key.endswith("result.json"):
            raise KeyboardInterrupt
        return super().put_once(key, data, metadata=metadata)


@pytest.mark.parametrize("are_kept", [False, True])
def test_a_stored_joined_file_is_signed_only_if_the_record_still_allows_it(
    tmp_path: Path, are_kept: bool
) -> None:
    """Also if its items are kept from an earlier job, and remain."""
    (tmp_path / "results").mkdir()
    results = DiesBeforeTheResult(tmp_path / "results")
    runtime = local_runtime(tmp_path, results=results)
    fields: dict[str, Any] = {}
    if are_kept:
        results.dies = False
        fields["retry_of"] = finish_job(put_job(runtime, items=ITEMS[:1]), runtime).job_id
        results.dies = True
    key = put_job(runtime, name="book", items=ITEMS[:1], output={"concatenate": "book"}, **fields)
    with pytest.raises(KeyboardInterrupt):
        run_job(key, runtime)
    ended = consent_record(REFERENCE.read_bytes(), valid_until=datetime(2026, 2, 1, tzinfo=UTC))
    runtime.inbox.put("consent/alice.json", records.format_consent(ended))
    results.dies = False
    done = finish_job(key, runtime)
    assert [one.output for one in done.chapters] == [None]
    assert [notice.code for notice in done.notices] == ["OUTPUT_REMOVED"]
    assert bool(done.items[0].output) == are_kept
    assert findings(runtime, tmp_path) == []


def findings(runtime: Runtime, root: Path) -> list[tuple[str, str]]:
    integrate_log(runtime)
    sources = open_sources(root)
    report = audit.build_report(audit.audit_bucket(sources), sources, "")
    return [(finding.code, finding.key) for finding in report.findings]
