"""A worker stores an output and dies; the consent record is another one when the job goes on."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from core import audit
from core.consent import records
from core.consent.records import Scope
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
    integrate_log(runtime)
    sources = open_sources(tmp_path)
    report = audit.build_report(audit.audit_bucket(sources), sources, "")
    assert [(finding.code, finding.key) for finding in report.findings] == []
