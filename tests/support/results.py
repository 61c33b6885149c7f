"""Result documents for tests; `FULL` has almost every field set."""

from __future__ import annotations

from core.consent.records import ConsentRef
from core.crypto import sealing
from core.documents.signed import Signature
from core.errors import Notice, Refused
from core.result.document import Engine, ManifestRef, Result, Totals
from core.result.item_result import ItemResult, LabelUsed, Output, Problem, VoiceUsed, Watermark
from core.voice import Match

JOB = "0123456789abcdef0123456789abcdef"
DIGEST = "ab" * 32
MANIFEST = ManifestRef(
    bucket="inbox",
    key="jobs/2026/书.manifest.json",
    sha256=DIGEST,
    size=512,
    etag="688A7BF4F233DC9C88A80BF985AB7329",
)
ENVELOPE = sealing.Envelope(
    kek="local:k1",
    kek_ver="1",
    wdek="AAAA",
    commit="BBBB",
    ctx=sealing.Context(job=JOB, item="hello", mt="audio/wav"),
    ct_sha256=DIGEST,
    ct_len=1056,
    pt_sha256=DIGEST,
    pt_len=1000,
)
GOOD = ItemResult(
    id="hello",
    index=0,
    status="succeeded",
    output=Output(
        key=f"out/{JOB}/hello.wav.sealed",
        bytes=1056,
        sealed_sha256=DIGEST,
        plain_sha256=DIGEST,
        media_type="audio/wav",
        duration_s=1.25,
        sample_rate=24000,
    ),
    watermark=Watermark(scheme="tf-gain/2", key_id="k1", payload="00c0ffee", score=12.5),
    label=LabelUsed(profile="cn", cue="morse-start", producer="001191", produce_id=f"{JOB}/hello"),
    envelope=ENVELOPE,
    voice="alice",
    redrawn=1,
    timings={"speak": 0.5, "mark": 0.03125},
    notices=[Notice("TEXT_BIDI", pointer="/items/0/text")],
    meta={"row": 17, "名": [1.5, None]},
)
BAD = ItemResult(
    id="",
    index=1,
    status="failed",
    error=Problem.from_error(Refused("ID_INVALID", pointer="/items/1/id")),
)
FULL = Result(
    job_id=JOB,
    status="partial",
    manifest=MANIFEST,
    processor="0.1.0",
    started="2026-11-22T23:59:58.000Z",
    finished="2026-11-23T00:00:01.500Z",
    consent_policy="required",
    engine=Engine(name="kokoro-adapt (approximate)", fingerprint="kokoro/1/abc"),
    id="book-42",
    labels={"team": "a"},
    totals=Totals(items=2, succeeded=1, failed=1, characters=28, audio_s=1.25),
    voices={
        "alice": VoiceUsed(
            reference="refs/小明.wav",
            reference_sha256=DIGEST,
            consent=ConsentRef(id="consent-1", sha256=DIGEST, method="own-voice"),
            match={"ge2e": Match(default=0.5, achieved=0.75, same_person=0.875)},
            notices=[Notice("TRIMMED")],
        )
    },
    items=[GOOD, BAD],
    stages={"fetch": 0.25, "speak": 0.5},
    notices=[Notice("BOM")],
    signature=Signature(key_id="0" * 16, value="A" * 86),
)


def rejected() -> Result:
    return Result(
        job_id=JOB,
        status="rejected",
        manifest=MANIFEST,
        processor="0.1.0",
        started="2026-11-22T12:00:00.000Z",
        finished="2026-11-22T12:00:00.125Z",
        consent_policy="optional",
        error=Problem.from_error(Refused("JSON_SYNTAX", "Expecting ',': line 3 column 7.")),
    )
