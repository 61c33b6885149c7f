"""Valid manifests: defaults are applied, order is kept, job ids are stable."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from typing import Any

import pytest

from core.errors import Notice
from core.manifest import fields, resolve
from tests.support.manifests import ITEM, VOICE, encode, lines, of_item
from tests.support.manifests import manifest as sample


def test_the_minimal_manifest() -> None:
    parsed = resolve.parse_job(encode(sample()))
    assert parsed == resolve.Job(
        id="",
        labels={},
        voices={
            "alice": fields.Voice(
                reference="refs/alice.flac",
                language="en",
                transcript="what alice says in it",
                consent="consent/alice.json",
            )
        },
        label=fields.Label(profile="cn", cue="none"),
        output=fields.Delivery(),
        format="wav",
        subtitle=(),
        wait_s=900,
        items=[
            resolve.Item(
                index=0,
                id="hello",
                text="The first words in her voice.",
                voice="alice",
                language="en",
                format="wav",
                sample_rate=None,
                speed=1.0,
                seed=None,
                pause_ms=0,
                after_ms=None,
                chapter="",
                subtitle=(),
                meta=None,
                pointer="/items/0",
            )
        ],
        errors=[],
        notices=[],
    )


DEFAULTS = {
    "voice": "bob",
    "language": "zh",
    "format": "mp3",
    "sample_rate": 44100,
    "speed": 1.5,
    "seed": 7,
    "pause_ms": 300,
}


def test_defaults_reach_every_item() -> None:
    voices = {"alice": VOICE, "bob": VOICE | {"language": "ja"}}
    items = [{"id": "a", "text": "你好。"}]
    parsed = resolve.parse_job(encode(sample(voices=voices, defaults=DEFAULTS, items=items)))
    item = parsed.items[0]
    assert {name: getattr(item, name) for name in DEFAULTS} == DEFAULTS


def test_an_item_overrides_every_default() -> None:
    own = {
        "voice": "alice",
        "language": "en",
        "format": "opus",
        "sample_rate": 48000,
        "speed": 0.5,
        "seed": 0,
        "pause_ms": 0,
    }
    voices = {"alice": VOICE, "bob": VOICE}
    items = [{"id": "a", "text": "Hello."} | own]
    parsed = resolve.parse_job(encode(sample(voices=voices, defaults=DEFAULTS, items=items)))
    assert {name: getattr(parsed.items[0], name) for name in own} == own


def test_a_single_voice_is_the_default() -> None:
    parsed = resolve.parse_job(encode(sample(items=[{"id": "a", "text": "Hello."}])))
    assert parsed.items[0].voice == "alice"


def test_the_language_of_the_voice_is_the_last_default() -> None:
    voices = {"alice": VOICE | {"language": "ja"}}
    parsed = resolve.parse_job(encode(sample(voices=voices, items=[ITEM | {"text": "こんにちは"}])))
    assert parsed.items[0].language == "ja"


def test_fields_may_come_in_any_order() -> None:
    document = json.dumps(sample(), sort_keys=True).encode()
    assert document.index(b'"items"') < document.index(b'"schema"')
    assert resolve.parse_job(document).items == resolve.parse_job(encode(sample())).items


def test_fields_of_the_producer_are_ignored() -> None:
    voices = {"alice": VOICE | {"x-a": 1}}
    changes = {"x-trace": {"a": [1]}, "defaults": {"x-b": 1}, "label": {"x-c": 1}}
    items = [ITEM | {"x-row": 17}]
    parsed = resolve.parse_job(encode(sample(voices=voices, items=items, **changes)))
    assert [item.id for item in parsed.items] == ["hello"]


def test_unsupported_fields_with_harmless_values_are_accepted() -> None:
    changes = {
        "mode": "run",
        "priority": "normal",
        "encrypt": {"enabled": True},
        "notify": {"events": True},
        "output": {"concatenate": "none"},
        "defaults": {"normalize_text": True},
    }
    items = [ITEM | {"ssml": False}]
    assert resolve.parse_job(encode(sample(items=items, **changes))).items


def test_every_field_for_the_result_is_kept() -> None:
    changes: dict[str, Any] = {
        "id": "book-42",
        "labels": {"team": "a"},
        "wait_s": 0,
        "label": {
            "profile": "cn",
            "cue": "morse-both",
            "producer": "001191110102MAD55U9H0F10002",
            "waiver": "",
        },
    }
    parsed = resolve.parse_job(encode(sample(**changes)))
    assert (parsed.id, parsed.labels, parsed.wait_s) == ("book-42", {"team": "a"}, 0)
    assert parsed.label == fields.Label(**changes["label"])


def test_a_waiver_allows_a_job_without_label() -> None:
    label = {"profile": "none", "waiver": "internal test"}
    assert resolve.parse_job(encode(sample(label=label))).label.profile == "none"


def test_a_pinned_hash_is_lower_case() -> None:
    voices = {"alice": VOICE | {"sha256": "AB" * 32}}
    assert resolve.parse_job(encode(sample(voices=voices))).voices["alice"].sha256 == "ab" * 32


def test_a_voice_needs_no_transcript() -> None:
    voices = {"alice": {"reference": "a.wav", "language": "en"}}
    assert resolve.parse_job(encode(sample(voices=voices))).voices["alice"].transcript == ""


def test_notices_about_a_transcript_belong_to_the_job() -> None:
    voices = {"alice": VOICE | {"transcript": "hello 😀"}}
    parsed = resolve.parse_job(encode(sample(voices=voices)))
    assert parsed.voices["alice"].transcript == "hello"
    (notice,) = parsed.notices
    assert (notice.code, notice.pointer) == ("TEXT_DROPPED_CHARS", "/voices/alice/transcript")


def test_meta_is_returned_unchanged() -> None:
    meta = {"row": 17, "f": 0.5, "deep": {"a": [1, None, True, "é"]}}
    assert of_item(id="b", meta=meta).items[1].meta == meta


def test_a_byte_order_mark_is_removed_with_a_notice() -> None:
    parsed = resolve.parse_job(b"\xef\xbb\xbf" + encode(sample()))
    assert parsed.notices == [Notice("BOM")]
    assert len(parsed.items) == 1


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("last", [True, False], ids=["ended", "not ended"])
def test_json_lines(end: str, last: bool) -> None:
    data = lines(ITEM, ITEM | {"id": "b"}, end=end) + (end.encode() if last else b"")
    parsed = resolve.parse_job(data, lines=True)
    assert [(i.index, i.id, i.pointer) for i in parsed.items] == [
        (0, "hello", "line 2"),
        (1, "b", "line 3"),
    ]
    assert not parsed.errors


def test_a_json_lines_header_may_have_items_jsonl() -> None:
    header = {k: v for k, v in sample().items() if k != "items"} | {"items": "jsonl"}
    assert resolve.parse_job(lines(ITEM, header=header), lines=True).items


def test_json_lines_and_json_give_the_same_items() -> None:
    items = [ITEM | {"id": f"i{n}", "speed": 0.5 + n / 10} for n in range(9)]
    one = resolve.parse_job(encode(sample(items=items)))
    other = resolve.parse_job(lines(*items), lines=True)
    assert [i.id for i in one.items] == [i.id for i in other.items]
    assert [i.speed for i in one.items] == [i.speed for i in other.items]


def test_text_is_normalised_to_nfc() -> None:
    text = unicodedata.normalize("NFD", "Déjà vu, プログラム")
    assert of_item(id="b", text=text).items[1].text == "Déjà vu, プログラム"


def test_job_id_computed_by_hand() -> None:
    """Hashes the bytes that the docstring of `job_id` describes."""
    manifest_hash = hashlib.sha256(b"{}").digest()
    hashed = (
        bytes(7) + b"\x0f" + b"voicedrop/job/1"
        + bytes(7) + b"\x05" + b"inbox"
        + bytes(7) + b"\x14" + b"jobs/a.manifest.json"
        + bytes(7) + b"\x20" + manifest_hash
    )  # fmt: skip
    assert (
        resolve.job_id("inbox", "jobs/a.manifest.json", b"{}")
        == (hashlib.sha256(hashed).hexdigest()[:32])
    )


def test_job_id_vector() -> None:
    """A changed job id would repeat every running job."""
    assert (
        resolve.job_id("inbox", "jobs/参考.manifest.json", b"{}")
        == "c9a4f805663586716f60bbccd36bc3c2"
    )


def test_job_id_does_not_confuse_bucket_and_key() -> None:
    assert resolve.job_id("ab", "c", b"") != resolve.job_id("a", "bc", b"")
