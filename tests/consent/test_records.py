"""core.consent: required fields, checks, the policy and the published schema."""

from __future__ import annotations

import contextlib
import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from core.consent import records
from core.consent.gate import Gate
from core.consent.records import Consent, ConsentClaim, ConsentRef, Scope, StatementAudio, Subject
from core.errors import Notice, Refused
from core.settings import ConsentPolicy
from core.voice.kokoro.text import KokoroFrontend

SCHEMA_FILE = Path(__file__).parents[2] / "docs/schemas/consent-1.json"
REFERENCE = hashlib.sha256(b"alice.wav").hexdigest()
CLAIM = ConsentClaim("consent/a.json", REFERENCE, "/voices/a", "refs/a.wav")
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
END = NOW + timedelta(days=1)
RECORD = Consent(
    schema=records.SCHEMA,
    id="alice-2026",
    subject=Subject(name="Alice Example"),
    controller="Example Books Ltd",
    purposes=["audiobooks"],
    scope=Scope(languages=["en", "zh"], channels=["web"]),
    valid_from=NOW - timedelta(days=1),
    valid_until=END,
    method="own-voice",
    statement_text="I agree.",
    ref_audio_sha256=["0" * 64, REFERENCE],
    created_by="studio",
)


def use(record: bytes | None, **changes: Any) -> Consent:
    arguments: dict[str, Any] = {
        "claim": CLAIM,
        "languages": ["en"],
        "at": NOW,
        "revoked": False,
    }
    return records.check_consent(record, **(arguments | changes))


def code(record: bytes | None, **changes: Any) -> str:
    with pytest.raises(Refused) as caught:
        use(record, **changes)
    assert caught.value.pointer == "/voices/a"
    assert "Alice" not in str(caught.value)
    return caught.value.code


def altered(**fields: Any) -> bytes:
    """Return the record with fields changed; None removes a field."""
    values = {**json.loads(records.format_consent(RECORD)), **fields}
    return json.dumps({k: v for k, v in values.items() if v is not None}).encode()


def test_a_valid_record_is_returned() -> None:
    assert use(records.format_consent(RECORD)) == RECORD


def test_a_missing_record_is_refused() -> None:
    assert code(None) == "CONSENT_MISSING"


def test_withdrawal_is_checked_first() -> None:
    assert code(records.format_consent(RECORD), revoked=True) == "CONSENT_REVOKED"
    assert code(None, revoked=True) == "CONSENT_REVOKED"
    assert code(b"broken", revoked=True) == "CONSENT_REVOKED"


@pytest.mark.parametrize(
    "changes",
    [{"claim": CLAIM._replace(reference_sha256="1" * 64)}, {"languages": ["ja"]}],
    ids=["another recording", "another language"],
)
def test_a_use_outside_the_scope_is_refused(changes: dict[str, Any]) -> None:
    assert code(records.format_consent(RECORD), **changes) == "CONSENT_SCOPE"


def test_a_record_of_another_recording_is_named_with_it() -> None:
    with pytest.raises(Refused) as refusal:
        use(altered(ref_audio_sha256=["1" * 64]))
    begin = "The record consent/a.json does not cover refs/a.wav. "
    assert refusal.value.message.startswith(begin)
    assert "`voicedrop consent new` " in refusal.value.message


def test_an_empty_language_list_sets_no_limit() -> None:
    assert use(altered(scope={}), languages=["ja"]).scope.languages == []


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        pytest.param(RECORD.valid_from - timedelta(seconds=1), "CONSENT_EXPIRED", id="too early"),
        pytest.param(RECORD.valid_from, None, id="start"),
        pytest.param(END - timedelta(seconds=1), None, id="last second"),
        pytest.param(END, "CONSENT_EXPIRED", id="the end is not included"),
    ],
)
def test_a_record_is_valid_from_its_start_until_its_end(at: datetime, expected: str | None) -> None:
    if expected:
        assert code(records.format_consent(RECORD), at=at) == expected
    else:
        assert use(records.format_consent(RECORD), at=at) == RECORD


def test_a_record_without_an_end_stays_valid() -> None:
    assert use(altered(valid_until=None), at=NOW + timedelta(days=36500)).valid_until is None


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff\xfe{\0", id="UTF-16"),
        pytest.param(b"[]", id="a list"),
        pytest.param(altered(schema="voicedrop/consent/2"), id="another schema"),
        pytest.param(altered(schema=None), id="no schema"),
        pytest.param(altered(id=None), id="no id"),
        pytest.param(altered(id="a b"), id="id with a space"),
        pytest.param(altered(id="a\n"), id="id with a newline"),
        pytest.param(altered(extra=1), id="unknown field"),
        pytest.param(altered(subject={}), id="no name"),
        pytest.param(altered(purposes=[]), id="no purpose"),
        pytest.param(altered(ref_audio_sha256=[]), id="no recording"),
        pytest.param(altered(ref_audio_sha256=["abc"]), id="not a digest"),
        pytest.param(altered(valid_from="2026-01-01T00:00:00"), id="no time zone"),
        pytest.param(altered(valid_from="yesterday"), id="not a time"),
        pytest.param(altered(valid_until="2020-01-01T00:00:00Z"), id="ends before it begins"),
        pytest.param(altered(scope={"languages": ["english"]}), id="not a language code"),
        pytest.param(altered(scope={"languages": ["en\n"]}), id="language with a newline"),
        pytest.param(altered(ref_audio_sha256=["0" * 64 + "\n"]), id="digest with a newline"),
        pytest.param(altered(method="shrug"), id="unknown method"),
        pytest.param(altered(statement_text=""), id="own voice without statement"),
        pytest.param(altered(method="recorded-statement"), id="no recorded statement"),
        pytest.param(altered(method="signed-document"), id="no document"),
        pytest.param(altered(method="public-domain"), id="no source"),
        pytest.param(altered(method="synthetic-voice"), id="synthetic without source"),
        pytest.param(
            records.format_consent(RECORD).replace(b'"revocable"', b'"id": "other",\n"revocable"'),
            id="a duplicate key",
        ),
    ],
)
def test_invalid_records_are_refused(record: bytes) -> None:
    assert code(record) == "CONSENT_INVALID"


ODD_TIMES = [
    "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999999Z", "2026-06-01T00:00:00+14:00", "2026-02-29T00:00:00Z",
    "2026-01-01T24:00:00Z", "2026-01-01T23:59:60Z", "2026-01-01", "NaN", "",
    1e308, 10**400, -1, [], {},
]  # fmt: skip


@pytest.mark.parametrize("field", ["valid_from", "valid_until"])
def test_an_odd_time_is_read_or_refused_at_any_moment(field: str) -> None:
    ends = (datetime.min.replace(tzinfo=UTC), NOW, datetime.max.replace(tzinfo=UTC))
    for at in ends:
        for value in ODD_TIMES:
            with contextlib.suppress(Refused):
                use(altered(**{field: value}), at=at)


def test_every_method_accepts_its_evidence() -> None:
    evidence = {
        "statement_audio": StatementAudio(key="consent/alice.wav", sha256="0" * 64),
        "evidence_sha256": "0" * 64,
        "statement_text": "I agree.",
        "source": "LibriVox, public domain in the USA",
    }
    for method, field in records.REQUIRED_EVIDENCE.items():
        record = msgspec.structs.replace(RECORD, method=method, **{field: evidence[field]})
        assert use(records.format_consent(record)).method == method


def test_an_invalid_record_is_not_written() -> None:
    with pytest.raises(Refused, match=r"CONSENT_INVALID.*purposes"):
        records.format_consent(msgspec.structs.replace(RECORD, purposes=[]))


def test_results_refer_to_the_record_and_not_the_person() -> None:
    record = records.format_consent(RECORD)
    cited, notices = gate("required", record)
    assert cited == ConsentRef(
        id="alice-2026", sha256=hashlib.sha256(record).hexdigest(), method="own-voice"
    )
    assert notices == []
    assert b"Alice" not in msgspec.json.encode(cited)


def gate(
    policy: ConsentPolicy, record: bytes | None, *, revoked: bool = False
) -> tuple[ConsentRef | None, list[Notice]]:
    opened = Gate(
        policy=policy,
        record=record,
        claim=CLAIM,
        at=NOW,
        front_end=KokoroFrontend(),
        is_revoked=revoked,
    )
    return opened.admit("en")


def test_the_optional_policy_waives_a_missing_record_with_a_notice() -> None:
    cited, notices = gate("optional", None)
    assert cited is None
    assert [notice.code for notice in notices] == ["CONSENT_OPTIONAL"]


def test_the_optional_policy_is_noted_even_with_a_record() -> None:
    cited, notices = gate("optional", records.format_consent(RECORD))
    assert cited is not None
    assert [notice.code for notice in notices] == ["CONSENT_OPTIONAL"]


@pytest.mark.parametrize(
    ("policy", "record", "revoked", "expected"),
    [
        ("required", None, False, "CONSENT_MISSING"),
        ("optional", None, True, "CONSENT_REVOKED"),
        ("optional", b"{}", False, "CONSENT_INVALID"),
        ("optional", altered(ref_audio_sha256=["1" * 64]), False, "CONSENT_SCOPE"),
    ],
    ids=["required", "withdrawn", "broken", "another recording"],
)
def test_no_policy_accepts_a_withdrawn_or_wrong_record(
    policy: ConsentPolicy, record: bytes | None, revoked: bool, expected: str
) -> None:
    with pytest.raises(Refused) as caught:
        gate(policy, record, revoked=revoked)
    assert caught.value.code == expected


def test_ids_are_random_and_valid() -> None:
    ids = {records.new_id() for _ in range(50)}
    assert len(ids) == 50
    for identity in ids:
        assert use(altered(id=identity)).id == identity


def test_the_published_schema_accepts_our_records_and_refuses_typos() -> None:
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA_FILE.read_text()))
    assert validator.is_valid(json.loads(records.format_consent(RECORD)))
    typos: list[dict[str, Any]] = [{"extra": 1}, {"purposes": []}, {"method": "shrug"}]
    for wrong in typos:
        assert not validator.is_valid(json.loads(altered(**wrong)))
