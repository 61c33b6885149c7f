"""Targets of `tests.acceptance.fuzz`: every place where the product reads untrusted bytes.

A target takes bytes and returns or raises JobError. Whatever it would put into a result must have a
canonical form, as the result could not be written otherwise. Seeds come from the fixtures of the
tests, so that the fuzzer starts with valid input and with every known mistake.
"""

from __future__ import annotations

import io
import json
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from core.audio import container, decoding, encoding, waveform
from core.batch.plan import Head, Plan
from core.consent import records
from core.consent.protection import Protection
from core.consent.withdrawal import WithdrawalNote
from core.crypto import sealing
from core.crypto.keys import LocalKeys
from core.crypto.voice_key import VoiceKey
from core.documents import canonical, signed
from core.errors import Failed, JobError
from core.job.attempt import FailedAttempt
from core.job.kept_voice import SignedExamination
from core.job.lease import LeaseRecord
from core.job.object_record import SignedRecord
from core.job.statement_check import KeptCheck
from core.job.waiting import WaitingMark
from core.label import aigc as label
from core.manifest import resolve
from core.manifest.parse import ParsedManifest
from core.result import tombstone
from core.result.document import Part, Result
from core.result.item_result import Problem
from core.result.sealed_file import sealed_files
from core.result.tombstone import Tombstone
from core.tlog import log, signed_note, tiles
from core.tlog.leaf import parse_leaf
from core.trace import registry, trace
from core.trace.registry import SignedMark
from core.trace.trace import Trace
from core.voice.gpt_sovits.convert import checkpoint
from events import incoming
from tests.support import manifests, results, torch_files
from tests.support.recordings.files import flac_announcing, id3, noise, pack
from tests.support.runtime import consent_record

ROOT = Path(__file__).parents[2]
KEY = bytes(range(32))
KEYS = LocalKeys({"fuzz": KEY})
CONTEXT = sealing.Context(job="0" * 32, item="hello", mt="audio/wav")
NOW = datetime(2026, 6, 1, tzinfo=UTC)
SIGNING = Ed25519PrivateKey.from_private_bytes(KEY)
VERIFYING = {signed.key_id(SIGNING.public_key()): SIGNING.public_key()}
DOCUMENTS: tuple[type[msgspec.Struct], ...] = (
    *(Result, Part, Plan, Head, Tombstone, WithdrawalNote, Trace, SignedMark, LeaseRecord),
    *(WaitingMark, FailedAttempt, SignedExamination, KeptCheck, SignedRecord, VoiceKey, Protection),
)
"""The kinds of signed documents."""


def fuzz_manifest(data: bytes) -> None:
    """Parse a manifest. The first byte selects JSON or JSON Lines, which share one corpus."""
    parsed = resolve.parse_job(data[1:], lines=data[:1] == b"l")
    canonical.dump([parsed.id, parsed.labels, parsed.label, parsed.voices])
    canonical.dump([[item.id, item.text, item.meta] for item in parsed.items])
    notices = [*parsed.notices, *(notice for item in parsed.items for notice in item.notices)]
    canonical.dump([asdict(notice) for notice in notices])
    for error in parsed.errors:
        check_reportable(error.error)


def fuzz_event(data: bytes) -> None:
    parsed = incoming.parse(data, bucket="inbox")
    json.dumps([asdict(created) for created in parsed.created] + parsed.timers)
    for created in parsed.created:
        if not incoming.key_candidates(created.key):
            raise AssertionError("a key without candidates was accepted")


def fuzz_audio(data: bytes) -> None:
    """Parse headers in this process, and decode one input in 16 in the sandbox."""
    source = container.inspect(data, "refs/a.wav")
    label.read_labels(data)
    if zlib.crc32(data) % 16 == 0 and source.data:
        try:
            decoding.decode(data, name="refs/a.wav", max_seconds=30.0)
        except Failed as exc:
            if "raised an exception" in exc.message:  # other than a crash or a refusal
                raise AssertionError(exc.message) from exc
            raise


def fuzz_tags(data: bytes) -> None:
    label.read_labels(data)


def fuzz_clip(data: bytes) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        report = trace.trace_recording(file, "audit/a.wav", {"k": KEY}, lambda _: None, "now")
    canonical.dump(report)
    if report.error and "raised an exception" in report.error.message:
        raise AssertionError(report.error.message)


def fuzz_sealed(data: bytes) -> None:
    """Open a sealed object: a line of JSON, which is its metadata or its envelope, and the body."""
    head, _, body = data.partition(b"\n")
    try:
        fields = msgspec.json.decode(head)
    except (ValueError, RecursionError):
        signed.verify(data, {})
        return
    if isinstance(fields, dict) and "vc-v" in fields:
        values = {name: str(value) for name, value in fields.items()}
        sealing.open_sealed(body, sealing.envelope_from_metadata(values), KEYS)
        return
    if isinstance(fields, dict) and "signature" in fields:
        signed.verify(head, {})
    try:
        envelope = msgspec.convert(fields, sealing.Envelope)
    except ValueError:  # an envelope is part of a signed result, whose reader validates it
        sealing.decrypt(io.BytesIO(body), io.BytesIO(), KEY, CONTEXT.associated_data)
        return
    sealing.open_sealed(body, envelope, KEYS)


def fuzz_consent(data: bytes) -> None:
    claim = records.ConsentClaim("consent", "0" * 64, "consent")
    records.check_consent(data, claim, languages=["en"], at=NOW, revoked=False)


def fuzz_checkpoint(data: bytes) -> None:
    """Read a checkpoint. The first byte selects a torch file, a pickle in one, or safetensors."""
    kind, data = data[:1], data[1:]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("m.safetensors" if kind == b"s" else "m.pth")
        if kind == b"p":
            members = {"a/data.pkl": data, "a/data/0": bytes(64)}
            torch_files.write_zip(path, members)
        else:
            path.write_bytes(data)
        read = checkpoint.open_checkpoint(path)
        for key in read.tensors:
            read.load(key)


def fuzz_document(data: bytes) -> None:
    """Read a signed document. The first byte selects its kind, as whose reader we read it.

    Random changes break the signature, so what is a JSON object is signed and read once more.
    """
    kind = DOCUMENTS[data[0] % len(DOCUMENTS)] if data else DOCUMENTS[0]
    with suppress(JobError):
        signed.read(data[1:], kind, VERIFYING)
    try:
        document = signed.sign(canonical.load(data[1:]), SIGNING)
    except (ValueError, TypeError):  # no canonical form, or no object
        return
    read = signed.read(document, kind, VERIFYING)
    canonical.dump(read)
    if isinstance(read, Result):
        for item in read.items:
            for file in sealed_files(item, read.job_id):
                file.checked_envelope()
    if isinstance(read, Tombstone):
        tombstone.parse_tombstone(document, read.job_id, read.number, VERIFYING)
    if isinstance(read, Plan):
        resolve.resolve(ParsedManifest(read.header, []))


def fuzz_log(data: bytes) -> None:
    """Read a leaf, a checkpoint, a proof or a bundle; text is signed and read once more."""
    kind, data = data[:1], data[1:]
    if kind == b"b":
        tiles.unbundle(data)
        registry.read_index(data)
        return
    parse_leaf(data)
    text = data.decode("utf-8", "replace")
    signed_note.find_checkpoint(text)
    if kind == b"p":
        head, _, checkpoint = text.partition("\n\n")
        origin = signed_note.claimed_origin(checkpoint)
        note = signed_note.sign(checkpoint, "".join(origin.split()) or "o", SIGNING)
        log.check_proof(f"{head}\n\n{note}", b"leaf", VERIFYING.values(), origin)
        return
    origin = signed_note.claimed_origin(text)
    signed_note.claimed_size(text)
    with suppress(JobError):
        signed_note.verify_checkpoint(text, origin, VERIFYING.values())
    note = signed_note.sign(text, "o", SIGNING)
    signed_note.verify_checkpoint(note, "o", VERIFYING.values())


def check_reportable(error: JobError) -> None:
    """Raise AssertionError for INTERNAL, and for an error that is too long for a result."""
    document = canonical.dump(Problem.from_error(error))
    if error.code == "INTERNAL" or len(document) > 4096:
        raise AssertionError(f"{error.code}: {len(document)} bytes")


# --- seeds


def _manifests() -> Iterator[bytes]:
    from tests.manifest import test_manifest_refused, test_parse

    for data, *_ in test_manifest_refused.BYTES.values():
        if len(data) < 4096:
            yield b"d" + data
    fields: Mapping[str, tuple[Any, ...]] = test_manifest_refused.FIELDS
    for changes, *_ in fields.values():
        yield b"d" + json.dumps(manifests.manifest(**changes)).encode()[:4096]
    items: Mapping[str, tuple[Any, ...]] = test_parse.ITEMS
    for changes, *_ in items.values():
        item = manifests.ITEM | changes
        yield b"d" + json.dumps(manifests.manifest(items=[item])).encode()[:2048]
    for data, *_ in test_manifest_refused.HEADERS.values():
        yield b"l" + data
    good = manifests.ITEM | {"meta": {"a": [1, None, 2.5]}, "speed": 1.5, "seed": 7}
    yield b"l" + manifests.lines(good, manifests.ITEM | {"id": "b", "text": "第一句。😀"})


def _events() -> Iterator[bytes]:
    for path in sorted((ROOT / "tests/data/notifications").glob("*.json")):
        yield path.read_bytes()
    yield b'{"triggerTime": "2026-01-01T00:00:00Z", "triggerName": "t", "payload": "sweep"}'
    for key in ("jobs/a%252f.manifest.json", "jobs/../a", "jobs/a\nb.manifest.json", "\ud800"):
        bucket = {"bucket": {"name": "inbox"}, "object": {"key": key, "size": -1}}
        one = {"eventName": "ObjectCreated:PutObject", "oss": bucket}
        yield json.dumps({"events": [one]}).encode()
        yield json.dumps([{"specversion": "1.0", "data": one}, {"data": json.dumps(one)}]).encode()


def _recordings() -> Iterator[bytes]:
    short = noise(0.3)
    codecs_of = {
        "WAV": ("PCM_16", "PCM_U8", "PCM_24", "FLOAT", "DOUBLE", "ALAW", "GSM610", "IMA_ADPCM"),
        "FLAC": ("PCM_16",),
        "OGG": ("VORBIS", "OPUS"),
        "MP3": ("MPEG_LAYER_III",),
        "AIFF": ("PCM_16", "FLOAT"),
        "CAF": ("PCM_16", "ALAC_16"),
        "AU": ("PCM_16", "ULAW"),
        "W64": ("PCM_16",),
        "RF64": ("PCM_16",),
    }
    for form, codecs in codecs_of.items():
        for codec in codecs:
            yield pack(short if form in ("MP3", "OGG") else short[:400], 16_000, form, codec)
    yield id3(20) + pack(short, 16_000, "MP3")
    yield flac_announcing(pack(short[:400], 16_000, "FLAC"), 0)
    yield pack(np.stack([short[:400]] * 2, 1), 16_000, "WAV", "FLOAT")
    yield from (b"", b"R", b"{}", b"\x1a\x45\xdf\xa3", b"#!AMR\n", b"\0\0\0\x20ftypM4A ")


def _labelled() -> Iterator[bytes]:
    content_label, _ = label.make_label("00119111000000000000010000", "job/item")
    for form in ("wav", "flac", "mp3", "opus"):
        yield label.add_label(
            encoding.encode(waveform.Audio(noise(0.3), 16_000), form).data, content_label
        )


def _sealed() -> Iterator[bytes]:
    for plain in (b"", b"hello voice"):
        sealed = sealing.seal(plain, CONTEXT, KEYS)
        yield canonical.dump(sealed.envelope) + b"\n" + sealed.body
        yield json.dumps(sealing.envelope_metadata(sealed.envelope)).encode() + b"\n" + sealed.body
    yield b'{"a":1,"signature":{"alg":"Ed25519","key_id":"' + b"0" * 16 + b'","value":"aa"}}'


def _consents() -> Iterator[bytes]:
    yield records.format_consent(consent_record(b"x", ref_audio_sha256=["0" * 64]))
    english = records.Scope(languages=["en"])
    yield records.format_consent(consent_record(b"x", valid_until=NOW, scope=english))
    yield b'{"schema": "voicedrop/consent/1", "valid_from": "9999-12-31T23:59:59+23:59"}'


def _documents() -> Iterator[bytes]:
    for number, kind in enumerate(DOCUMENTS):
        schema = next(f.default for f in msgspec.structs.fields(kind) if f.name == "schema")
        fields = {name: FIELDS[name] for name in kind.__struct_fields__ if name in FIELDS}
        document = {**fields, "schema": schema}
        yield bytes([number]) + canonical.dump(document)
        yield bytes([number]) + signed.sign(document, SIGNING)
    for number, example in ((0, results.FULL), (0, results.rejected())):
        yield bytes([number]) + signed.sign(example, SIGNING)


FIELDS: Mapping[str, Any] = {
    "job_id": results.JOB,
    "number": 0,
    "of": 2,
    "items": [],
    "totals": {},
    "result_sha256": results.DIGEST,
    "files": [],
    "reason": "r",
    "erased": "2026-11-23T00:00:01.500Z",
    "processor": "0.2.0",
    "recording": results.DIGEST,
    "record": results.DIGEST,
    "at": "2026-11-23T00:00:01Z",
    "manifest": msgspec.to_builtins(results.MANIFEST),
    "lines": True,
    "shards": 2,
    "size": 3,
    "header": {"schema": "voicedrop/job/1", "voices": {}},
    "started": "",
    "engine": None,
    "voices": {},
    "notices": [],
    "stages": {},
    "sha256": results.DIGEST,
    "key": "a",
    "made": {},
    "fingerprint": "f",
    "payload": "00000007",
    "item": "a",
    "job": "b",
    "name": "a",
    "position": 0,
    "expires": 1e9,
    "reference": "a",
    "since": 1.0,
}
"""Plausible values of the fields of signed documents."""


def _log_parts() -> Iterator[bytes]:
    note = signed_note.sign("o\n3\n" + "A" * 43 + "=\n", "o", SIGNING)
    yield b"n" + note.encode()
    yield b"n" + f"Kept on Monday:\r\n{note}".encode()
    yield b"p" + f"{log.PROOF_HEADER}\nindex 0\n{'A' * 43}=\n\n{note}".encode()
    yield b"b" + tiles.bundle([b'{"schema":"voicedrop/leaf/1"}', b"", b"x" * 300])
    yield b'b{"schema":"voicedrop/index/1","bucket":"a","marks":{"0000000a":{"item":"","job":""}}}'


def _weights() -> Iterator[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.pth"
        values = {"w": np.ones((2, 3), "<f4"), "v": np.ones(5, "<f2"), "n": np.arange(3)}
        torch_files.write(path, values, {"model": {"a": [1, 2.5, None, True], "b": "text"}})
        yield b"z" + path.read_bytes()
        torch_files.write(path, values, header=b"05")
        yield b"z" + path.read_bytes()
    yield b"p\x80\x02}X\x01\x00\x00\x00aK\x01s."
    yield b"p\x80\x02ccollections\nOrderedDict\n)R(X\x01\x00\x00\x00aK\x01u."
    yield b"p\x80\x02cutils\nHParams\n)\x81}X\x05\x00\x00\x00modelK\x01sb."
    yield (
        b"p\x80\x02}(X\x06\x00\x00\x00weight}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n"
        b"((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x10t"
        b"QK\x00K\x02K\x03\x86K\x01K\x04\x86\x89NtRsX\x06\x00\x00\x00config"
        b"cutils\nHParams\n)\x81}q\x00X\x01\x00\x00\x00a](h\x00K\x01esbu."
    )
    header = json.dumps({"a": {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]}}).encode()
    yield b"s" + len(header).to_bytes(8, "little") + header + bytes(8)


@dataclass(frozen=True)
class Target:
    run: Callable[[bytes], None]
    seeds: Callable[[], Iterator[bytes]]
    dictionary: tuple[str, ...] = ()
    """Tokens that random mutations seldom produce."""
    max_bytes: int = 4096


def _tokens(text: str) -> tuple[str, ...]:
    return tuple(text.split())


TARGETS = {
    "manifest": Target(
        fuzz_manifest,
        _manifests,
        _tokens(
            '"schema" "voicedrop/job/1" "voices" "items" "defaults" "labels" "label" "meta" "id" '
            '"text" "voice" "reference" "transcript" "consent" "sha256" "speed" "wait_s" "x-" '
            '"language" "format" "opus" "sample_rate" \\u0069 \\ud800 1e400 -0 NaN \\xEF\\xBB\\xBF'
        ),
    ),
    "event": Target(
        fuzz_event,
        _events,
        _tokens(
            '"events" "data" "requestPayload" "eventName" "ObjectCreated:PutObject" "oss" "bucket" '
            '"object" "key" "size" "name" "inbox" "triggerTime" "payload" %2F %252e \\ud800 jobs/'
        ),
    ),
    "audio": Target(
        fuzz_audio,
        _recordings,
        _tokens(
            "RIFF RF64 riff WAVE fmt\\x20 data ds64 fact LIST bext fLaC OggS OpusHead \\x01vorbis "
            "FORM AIFF AIFC COMM SSND caff desc pakt .snd ID3 TAG APETAGEX Xing Info VBRI LAME "
            "\\xFF\\xFB \\xFF\\xF3 \\xFF\\xE3 \\xFF\\xFF\\xFF\\xFF"
        ),
        max_bytes=20_000,
    ),
    "tags": Target(fuzz_tags, _labelled, _tokens("AIGC= TXXX ID3 OpusTags \\x03vorbis")),
    "sealed": Target(
        fuzz_sealed, _sealed, _tokens('"v" "ctx" "wdek" "commit" local:fuzz vc-v vc-ctx')
    ),
    "pickle": Target(
        fuzz_checkpoint,
        _weights,
        _tokens(
            "ctorch\\nHalfStorage\\n ctorch._utils\\n_rebuild_tensor_v2\\n cutils\\nHParams\\n "
            "ctorch._utils\\n_rebuild_parameter\\n ccollections\\nOrderedDict\\n )\\x81}b "
            "q\\x00h\\x00\\x86 X\\x06\\x00\\x00\\x00weight X\\x06\\x00\\x00\\x00config "
            "PK\\x03\\x04 PK\\x01\\x02 PK\\x05\\x06 BF16 F32 data_offsets"
        ),
    ),
    "consent": Target(
        fuzz_consent,
        _consents,
        _tokens('"valid_until" "valid_from" 9999-12-31T23:59:59Z 0001-01-01T00:00:00+14:00'),
    ),
    "document": Target(
        fuzz_document,
        _documents,
        _tokens(
            '"schema" "job_id" "items" "voices" "signature" "key_id" "envelope" "ctx" "header" '
            '"files" "withdrawal" "aux" "parts" 2026-11-23T00:00:01Z null 1e400 -0 \\ud800'
        ),
    ),
    "log": Target(fuzz_log, _log_parts, _tokens("\\x0A\\x0A \\xE2\\x80\\x94\\x20 index\\x20 AAAA")),
    "trace": Target(fuzz_clip, _recordings, _tokens("RIFF data fLaC OggS"), max_bytes=20_000),
}


def run_target(target: Target, data: bytes) -> str:
    """Return the code of the JobError, or an empty string. Other exceptions are not caught."""
    try:
        target.run(data)
    except JobError as error:
        check_reportable(error)
        return error.code
    return ""
