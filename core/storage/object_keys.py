"""The key of every object that voicedrop reads or writes, and the rules that OSS sets for keys.

    inbox    jobs/<name>.manifest.json[l]      manifests
             audit/<name>                      clips to trace
             <record>.revoked                  withdraws a consent record
             jobs/<name>.cancelled             cancels the job of a manifest
             tickets/, voices/                 of the HTTP interface (handlers/api)
    results  out/<job_id>/                     the result of a job and everything that it names
             events/dt=<day>/<job_id>.json     events of jobs and traces
             audit/<trace_id>.json             reports of traces
             marks/<2 digits>/<8 digits>.json  which item carries a watermark payload
             log/                              the tamper-evident log (core/tlog/log.py)
             withdrawn/<sha256>/               withdrawn consent (core/consent/withdrawal.py)
    control  lease/, pending/, dead/, quota/, voices/, work/, log/leaves/, log/refused/
             rates/<engine>.json               how fast an engine works (core/job/rates.py)
             protected/<sha256>.json           protected voices (core/consent/protection.py)
             webhooks/<name>                   events of which a web server is to be told
                                               (handlers/webhook.py)

Manifests may name any other key of the inbox (core/manifest/reference_key.py).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import NamedTuple

from core.errors import Refused

MANIFESTS = "jobs/"
MANIFEST_SUFFIXES = (".manifest.json", ".manifest.jsonl")
CLIPS = "audit/"
REVOKED_SUFFIX = ".revoked"
"""Ending of an object that withdraws the consent record after which it is named."""

CANCELLED_SUFFIX = ".cancelled"
"""Ending of an object that cancels the job of the manifest after which it is named."""
TICKETS = "tickets/"
NAMED_VOICES = "voices/"
"""Voices in the inbox that callers of the HTTP interface keep under a name."""

OUTPUTS = "out/"
SEALED_SUFFIX = ".sealed"
EVENTS = "events/"
MARKS = "marks/"
LOG = "log/"
LOG_BATCHES = "log/batches/"
LOG_CHECKPOINTS = "log/checkpoints/"
LOG_TILES = "log/tile/"
WITHDRAWN = "withdrawn/"
RESULTS_PATTERNS = (
    re.compile(r"audit/(?P<trace>[0-9a-f]{32})\.json"),
    re.compile(r"events/dt=[0-9]{4}-[0-9]{2}-[0-9]{2}/(?P<event>[0-9a-f]{32})\.json"),
    re.compile(r"log/(batches|checkpoints)/[0-9]{20}"),
    re.compile(r"log/tile/(entries|[0-9])/(x[0-9]{3}/)*[0-9]{3}(\.p/[0-9]{1,3})?"),
    re.compile(r"marks/(?P<folder>[0-9a-f]{2})/(?P<mark>(?P=folder)[0-9a-f]{6})\.json"),
    re.compile(r"withdrawn/[0-9a-f]{64}/[0-9a-f]{64}(\.[0-9]{16,18})?\.(json|tlog-proof)"),
    re.compile(r"out/[0-9a-f]{32}/(parts/[0-9]{5}\.json|(chapters/)?[A-Za-z0-9._-]+)"),
    re.compile(r"out/[0-9a-f]{32}/tombstones/[0-9]{5}\.(json|tlog-proof)"),
)
"""Every key that voicedrop writes to the results bucket matches one of these."""

LEASES = "lease/"
PENDING = "pending/"
DEAD_LETTERS = "dead/"
SHARDS = "work/"
SHARD_SUFFIX = ".jsonl"
LOG_QUEUE = "log/leaves/"
VOICES = "voices/"
SPOKEN = "speech/"
"""Beginning of the names of spoken items (core/job/speech_cache.py)."""
UNBOUND_VOICEPRINTS = "voiceprints/"
LOG_REFUSED = "log/refused/"
PROTECTED = "protected/"
WEBHOOKS = "webhooks/"
_OUTPUT = re.compile(rf"{OUTPUTS}([^/]+)/(.+)\.[^./]+{re.escape(SEALED_SUFFIX)}")
_SPOKEN = re.compile(rf"{VOICES}[^/]+/{SPOKEN}")
_SHARD = re.compile(r"work/([0-9a-f]{32})/([0-9]{5})\.jsonl")


class ShardNumber(NamedTuple):
    job_id: str
    number: int


def is_apple_double(key: str) -> bool:
    """Return whether this is the file `._name` that macOS writes beside `name` on foreign disks."""
    return key.rpartition("/")[2].startswith("._")


def is_manifest_key(key: str) -> bool:
    """Return whether the key is that of a manifest in the inbox."""
    return is_valid_key(key) and key.startswith(MANIFESTS) and key.endswith(MANIFEST_SUFFIXES)


def cancellation_key(manifest: str) -> str:
    """`manifest`: the key of a manifest in the inbox."""
    return manifest + CANCELLED_SUFFIX


def ticket_key(job_id: str) -> str:
    """Return the key of the object that says where the manifest of a job is."""
    return f"{TICKETS}{job_id}.json"


def named_voice_key(folder: str, name: str) -> str:
    """`folder`: that of the producer, with a slash at its end, or empty."""
    return f"{NAMED_VOICES}{folder}{name}.json"


def job_prefix(job_id: str) -> str:
    return f"{OUTPUTS}{job_id}/"


def job_id_of(key: str) -> str:
    """Return the job id in a key under `out/` or `work/`."""
    return key.split("/")[1]


def result_key(job_id: str) -> str:
    return f"{OUTPUTS}{job_id}/result.json"


def proof_key(job_id: str) -> str:
    return proof_key_of(result_key(job_id))


def proof_key_of(document_key: str) -> str:
    """Return the key of the proof that the log contains a result or tombstone."""
    return document_key.removesuffix(".json") + ".tlog-proof"


def tombstones_prefix(job_id: str) -> str:
    return f"{OUTPUTS}{job_id}/tombstones/"


def tombstone_key(job_id: str, number: int) -> str:
    return f"{OUTPUTS}{job_id}/tombstones/{number:05}.json"


def tombstone_name(job_id: str, number: int) -> str:
    """Return the name of a tombstone in the log's queue."""
    return f"{job_id}.{number:05}"


def parts_prefix(job_id: str) -> str:
    return f"{OUTPUTS}{job_id}/parts/"


def part_key(job_id: str, number: int) -> str:
    return f"{OUTPUTS}{job_id}/parts/{number:05}.json"


def items_table_key(job_id: str) -> str:
    return f"{OUTPUTS}{job_id}/items.csv"


def errors_table_key(job_id: str) -> str:
    return f"{OUTPUTS}{job_id}/errors.jsonl"


def output_key(job_id: str, name: str, extension: str) -> str:
    """Return the key of a sealed file. `name`: an item's id, or the `chapter_name` of a chapter."""
    return f"{OUTPUTS}{job_id}/{name}.{extension}{SEALED_SUFFIX}"


def parse_output_key(key: str) -> tuple[str, str]:
    """Return the job id and name that `output_key` put into the key of a sealed file.

    Raises Refused KEY_INVALID.
    """
    match = _OUTPUT.fullmatch(key)
    if match is None:
        raise Refused("KEY_INVALID", "Not the key of a sealed file.", pointer=key)
    return match[1], match[2]


def chapter_name(chapter: str) -> str:
    """Return the name of a joined file within its job, which no item's id can equal."""
    return f"chapters/{chapter}"


def event_key(name: str, time: str) -> str:
    """Return the key of the event of a job or trace. `time`: RFC 3339, UTC, when it finished."""
    return f"{EVENTS}dt={time[:10]}/{name}.json"


def trace_key(trace_id: str) -> str:
    return f"audit/{trace_id}.json"


def mark_key(payload: int) -> str:
    name = f"{payload:08x}"
    return f"{MARKS}{name[:2]}/{name}.json"


def batch_key(start: int) -> str:
    return f"{LOG_BATCHES}{start:020}"


def checkpoint_key(size: int) -> str:
    return f"{LOG_CHECKPOINTS}{size:020}"


def queue_key(name: str) -> str:
    """`name`: that of a leaf (core/tlog/leaf.py); the job id for a result."""
    return LOG_QUEUE + name


def lease_key(name: str) -> str:
    """Return the key of a lease. `name`: a job id, a `shard_name`, or `log`."""
    return LEASES + name


def shard_leases_prefix(job_id: str) -> str:
    return f"{LEASES}{job_id}."


def reason_key(name: str) -> str:
    """Return the key of the last reason why an attempt failed. `name`: as for `lease_key`."""
    return f"{LEASES}{name}.reason"


def dead_letter_key(name: str) -> str:
    """Return the key of a dead letter. `name`: as for `lease_key`."""
    return f"{DEAD_LETTERS}{name}.json"


def pending_key(reference: str, job_id: str = "") -> str:
    """Return the key which says that a job waits for a reference; without a job, the prefix of all
    jobs that wait for it. Hashed, because a key in a key could exceed 1023 bytes."""
    return f"{PENDING}{hashlib.sha256(reference.encode()).hexdigest()[:32]}/{job_id}"


def quota_key(day: str) -> str:
    """`day`: YYYY-MM-DD, UTC; with `.traces` for the log of traces."""
    return f"quota/{day}.log"


def rates_key(engine: str) -> str:
    return f"rates/{engine}.json"


def unbound_voiceprint_key(name: str) -> str:
    """Return the key under which release 0.1.0 kept a voiceprint."""
    return f"{UNBOUND_VOICEPRINTS}{name}{SEALED_SUFFIX}"


def voice_prefix(recording: str) -> str:
    """Return the prefix of what is kept of a voice. `recording`: SHA-256 of its recording."""
    return f"{VOICES}{recording}/"


def voice_key_key(recording: str) -> str:
    return f"{voice_prefix(recording)}key.json"


def cached_key(recording: str, name: str) -> str:
    """Return the key of a sealed file that is kept of a voice: a voiceprint, or a spoken item,
    whose name begins with SPOKEN."""
    return f"{voice_prefix(recording)}{name}{SEALED_SUFFIX}"


def is_spoken_key(key: str) -> bool:
    """Return whether this is the key of a spoken item that is kept of a voice."""
    return _SPOKEN.match(key) is not None


def statement_check_key(recording: str, record: str, channel: str, window: str) -> str:
    """`record`: SHA-256 of the consent record that names the statement. `channel`, `window`: the
    part of the recording with which it was compared, as in the manifest."""
    return f"{voice_prefix(recording)}statement-{record}.{channel}.{window}.json"


def protection_key(recording: str) -> str:
    """Return the key of the protection of a voice. `recording`: SHA-256 of its recording."""
    return f"{PROTECTED}{recording}.json"


def withdrawals_prefix(recording: str) -> str:
    """Return the prefix of what was withdrawn about a recording, named by its SHA-256."""
    return f"{WITHDRAWN}{recording}/"


def withdrawal_key(recording: str, record: str, again: int = 0) -> str:
    """`record`: SHA-256 of the consent record that was withdrawn. `again`: 0 if for the first time,
    else the time in microseconds since 1970."""
    return f"{withdrawals_prefix(recording)}{record}{_again(again)}.json"


def withdrawal_name(recording: str, record: str, again: int) -> str:
    """Return the name of a note of withdrawal in the log's queue."""
    return f"{recording}.{record}{_again(again)}"


def _again(again: int) -> str:
    return f".{again:016}" if again else ""


def shards_prefix(job_id: str) -> str:
    return f"{SHARDS}{job_id}/"


def plan_key(job_id: str) -> str:
    return f"{SHARDS}{job_id}/plan.json"


def shard_key(job_id: str, number: int) -> str:
    return f"{SHARDS}{job_id}/{number:05}{SHARD_SUFFIX}"


def parse_shard_key(key: str) -> ShardNumber:
    """Raises Refused KEY_INVALID."""
    match = _SHARD.fullmatch(key)
    if match is None:
        raise Refused("KEY_INVALID", "Not the key of a shard.", pointer=key)
    return ShardNumber(match[1], int(match[2]))


def is_shard_key(key: str) -> bool:
    return _SHARD.fullmatch(key) is not None


def shard_name(job_id: str, number: int) -> str:
    """Return the name of a shard's lease and dead letter."""
    return f"{job_id}.{number:05}"


def check_key(key: str) -> str:
    """Return the key. Raises Refused KEY_INVALID for what OSS or a folder cannot store.

    Source: OSS documentation, "Naming conventions for objects": 1-1023 bytes of UTF-8, no leading
    slash or backslash. Empty, `.` and `..` segments would mean another file in a folder.
    """
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise Refused("KEY_INVALID", "The key is not valid Unicode.", pointer=ascii(key)) from None
    if not 1 <= size <= 1023:
        raise Refused("KEY_INVALID", f"A key has 1-1023 bytes, not {size}.", pointer=key)
    if key[0] in "/\\" or "\0" in key or any(part in ("", ".", "..") for part in key.split("/")):
        raise Refused("KEY_INVALID", pointer=key)
    return key


def is_valid_key(key: str) -> bool:
    """Return False for keys that other tools leave in buckets, such as folder markers."""
    try:
        return bool(check_key(key))
    except Refused:
        return False


_NAME = re.compile(r"[a-z0-9-]+")
_VALUE = re.compile(r"([!-~]([ -~]*[!-~])?)?")


def check_metadata(metadata: Mapping[str, str] | None) -> dict[str, str]:
    """Return a copy. Raises ValueError for what OSS would refuse or HTTP would change."""
    plain = dict(metadata or {})
    for name, value in plain.items():
        if not (_NAME.fullmatch(name) and _VALUE.fullmatch(value)):
            raise ValueError(f"metadata {name!r} is not lower-case ASCII with a printable value")
    if sum(len(name) + len(value) for name, value in plain.items()) > 8192:
        raise ValueError("metadata exceeds the 8 KiB that OSS keeps")
    return plain
