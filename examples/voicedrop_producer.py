"""Have a batch of texts spoken: a CSV file goes in, a table of sealed audio files comes out.

    python voicedrop_producer.py texts.csv --name greetings --language en \\
        --recording reader.flac --consent reader.json \\
        --inbox bucket/inbox --results bucket/results --public-key keys/sign-001.pub.pem

It imports nothing of voicedrop, because a producer needs none of its models and keys: manifests
are JSON Lines (docs/manifest.md), results are signed JSON (docs/format.md). It needs the package
cryptography, and oss2 for places like `oss://bucket`, with OSS_ACCESS_KEY_ID,
OSS_ACCESS_KEY_SECRET, VOICEDROP_OSS_REGION and, unless it is the public one, VOICEDROP_OSS_ENDPOINT
in the environment.

The CSV file has the columns `id` and `text`; further columns are returned as `meta` of the item.
The table is written to standard output. Exit code 0: every item succeeded; 1: some failed; 5: the
batch was not finished in time. The same files are the same job, so the command can be repeated
after any interruption. After a correction, `--retry-of JOB` keeps what succeeded.
"""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

SCHEMA = "voicedrop/job/1"
GIVEN_UP = "RETRIES_EXHAUSTED"
"""The error of a job or item that was not made because of an outage or of another item."""
LONGEST_PAUSE = 30.0
"""Seconds between two looks for a result."""

Json = dict[str, Any]


class Invalid(Exception):
    """A result or part that must not be believed."""


@dataclass(frozen=True)
class Batch:
    """A manifest, ready to be uploaded."""

    job: str
    """The job id, by which the result is found."""
    key: str
    data: bytes


class Place(Protocol):
    """A bucket, or a folder that stands for one."""

    name: str

    def put(self, key: str, data: bytes) -> None: ...
    def get(self, key: str) -> bytes: ...
    def has(self, key: str) -> bool: ...
    def address(self, key: str) -> str: ...


class Folder:
    def __init__(self, path: str) -> None:
        self._path = Path(path).resolve()
        self.name = self._path.name

    def put(self, key: str, data: bytes) -> None:
        """Write beside and rename, so that no worker ever reads half an object."""
        path = self._path / key
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"{path.name}.part")
        unfinished.write_bytes(data)
        unfinished.replace(path)

    def get(self, key: str) -> bytes:
        return (self._path / key).read_bytes()

    def has(self, key: str) -> bool:
        return (self._path / key).exists()

    def address(self, key: str) -> str:
        return str(self._path / key)


class OssBucket:
    def __init__(self, name: str) -> None:
        import oss2
        from oss2.credentials import EnvironmentVariableCredentialsProvider

        region = os.environ["VOICEDROP_OSS_REGION"]
        endpoint = os.environ.get("VOICEDROP_OSS_ENDPOINT") or f"https://oss-{region}.aliyuncs.com"
        auth = oss2.ProviderAuthV4(EnvironmentVariableCredentialsProvider())
        self._bucket = oss2.Bucket(auth, endpoint, name, region=region)
        self.name = name

    def put(self, key: str, data: bytes) -> None:
        self._bucket.put_object(key, data)

    def get(self, key: str) -> bytes:
        data: bytes = self._bucket.get_object(key).read()
        return data

    def has(self, key: str) -> bool:
        """Ask for a list: whoever may not list a whole bucket may get 403 for a missing object."""
        listed = self._bucket.list_objects_v2(prefix=key, max_keys=1).object_list
        return any(found.key == key for found in listed)

    def address(self, key: str) -> str:
        return f"oss://{self.name}/{key}"


def place(text: str) -> Place:
    bucket = text.removeprefix("oss://").rstrip("/")
    return OssBucket(bucket) if text.startswith("oss://") else Folder(text)


def read_items(path: Path) -> list[Json]:
    """Return the items of a CSV file with the columns `id`, `text` and any others."""
    items = []
    with path.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            item: Json = {"id": row.pop("id"), "text": row.pop("text")}
            items.append(item | {"meta": row} if row else item)
    return items


def make_batch(
    items: list[Json],
    *,
    bucket: str,
    name: str,
    voice: Json,
    retry_of: str = "",
) -> Batch:
    """Return the manifest of a batch. `bucket`: the name of the inbox.

    The digest in the key keeps a manifest from being replaced while its job runs: other content has
    another key.
    """
    header: Json = {"schema": SCHEMA, "id": name.rpartition("/")[2], "voices": {"voice": voice}}
    if retry_of:
        header["retry_of"] = retry_of
    lines = [json.dumps(line, ensure_ascii=False) for line in (header, *items)]
    data = "".join(f"{line}\n" for line in lines).encode()
    key = f"jobs/{name}-{hashlib.sha256(data).hexdigest()[:8]}.manifest.jsonl"
    return Batch(job_id(bucket, key, data), key, data)


def describe_voice(
    recording: Path, consent: Path, language: str, transcript: str = ""
) -> tuple[Json, dict[str, Path]]:
    """Return a voice as manifests name it, and the files to upload by their keys."""
    voice = {
        "reference": f"refs/{recording.name}",
        "sha256": hashlib.sha256(recording.read_bytes()).hexdigest(),
        "consent": f"consent/{consent.name}",
        "language": language,
    }
    files = {voice["reference"]: recording, voice["consent"]: consent}
    return voice | ({"transcript": transcript} if transcript else {}), files


def job_id(bucket: str, key: str, manifest: bytes) -> str:
    """Return the id of a job, as docs/manifest.md defines it."""
    fields = (SCHEMA.encode(), bucket.encode(), key.encode(), hashlib.sha256(manifest).digest())
    joined = b"".join(len(field).to_bytes(8, "big") + field for field in fields)
    return hashlib.sha256(joined).hexdigest()[:32]


def read_public_keys(files: Iterable[bytes]) -> dict[str, Ed25519PublicKey]:
    """Return public keys by their id. `files`: in PEM."""
    found = {}
    for pem in files:
        key = load_pem_public_key(pem)
        if not isinstance(key, Ed25519PublicKey):
            raise Invalid("Results are signed with Ed25519; this is another kind of key.")
        found[hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]] = key
    return found


def result_key(job: str) -> str:
    return f"out/{job}/result.json"


def read_result(job: str, document: bytes, keys: dict[str, Ed25519PublicKey]) -> Json:
    """Return the result of a job. Raises Invalid unless one of the keys signed it for this job."""
    result = verify(document, keys)
    if (result.get("schema"), result.get("job_id")) != ("voicedrop/result/1", job):
        raise Invalid("This is not the result of this job.")
    return result


def verify(document: bytes, keys: dict[str, Ed25519PublicKey]) -> Json:
    """Return a signed document as it is stored, without its signature. Raises Invalid.

    What was signed are the bytes of the document without the member `signature` (docs/format.md).
    These bytes are what is parsed, so nothing is read that was not signed.
    """
    before, _, rest = document.rpartition(b',"signature":{')
    members, _, after = rest.partition(b"}")
    signed = before + after
    try:
        signature = json.loads(b"{" + members + b"}")
        value = base64.urlsafe_b64decode(signature["value"] + "==")
        keys[signature["key_id"]].verify(value, signed)
    except (InvalidSignature, ValueError, KeyError, TypeError) as exc:
        raise Invalid("This was changed after signing, or signed with another key.") from exc
    return dict(json.loads(signed))


def finished_items(result: Json, get: Callable[[str], bytes]) -> Iterator[Json]:
    """Yield the items of a verified result, also of one that was cut into shards."""
    yield from result["items"]
    for part in result["parts"]:
        data = get(part["key"])
        if hashlib.sha256(data).hexdigest() != part["sha256"]:
            raise Invalid(f"{part['key']} was changed.")
        yield from json.loads(data)["items"]


def wait(results: Place, key: str, seconds: float) -> None:
    """Wait for an object. Raises TimeoutError."""
    end, pause = time.monotonic() + seconds, 0.25
    while not results.has(key):
        if time.monotonic() > end:
            raise TimeoutError(f"{results.address(key)} does not exist yet.")
        time.sleep(pause)
        pause = min(pause * 1.5, LONGEST_PAUSE)


def error_code(made: Json) -> str:
    """Return the code of the error of a result or item; empty if it has none."""
    return made["error"]["code"] if made["error"] else ""


def explain(problem: Json) -> str:
    where = f" at {problem['pointer']}" if problem["pointer"] else ""
    said = " ".join(dict.fromkeys([problem["message"], problem["advice"]]))
    return f"{problem['code']}{where}: {said}"


def write_table(items: Iterable[Json], results: Place) -> None:
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(["id", "status", "seconds", "audio", "error"])
    for item in items:
        output, error = item["output"] or {}, item["error"]
        audio = results.address(output["key"]) if output else ""
        seconds, why = output.get("duration_s", ""), explain(error) if error else ""
        table.writerow([item["id"], item["status"], seconds, audio, why])


def say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("texts", type=Path, help="CSV file with the columns id and text")
    parser.add_argument("--name", required=True, help="of the batch; may contain folders")
    parser.add_argument("--recording", type=Path, required=True, help="3 to 10 s of speech")
    parser.add_argument("--consent", type=Path, required=True, help="consent record")
    parser.add_argument("--language", required=True, help="of the recording, such as en")
    parser.add_argument("--transcript", default="", help="what is said in the recording")
    parser.add_argument("--inbox", required=True, help="folder or oss://bucket")
    parser.add_argument("--results", required=True, help="folder or oss://bucket")
    parser.add_argument(
        "--public-key", type=Path, required=True, action="append", help="sign-*.pub.pem; repeatable"
    )
    parser.add_argument("--retry-of", default="", help="id of an earlier job whose items are kept")
    parser.add_argument("--retries", type=int, default=1, help="automatic ones (default: 1)")
    parser.add_argument(
        "--seconds", type=float, default=3600, help="to wait for each result (default: 3600)"
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    inbox, results = place(options.inbox), place(options.results)
    keys = read_public_keys(path.read_bytes() for path in options.public_key)
    items = read_items(options.texts)
    voice, files = describe_voice(
        options.recording, options.consent, options.language, options.transcript
    )
    for key, path in files.items():
        inbox.put(key, path.read_bytes())
    retry_of = options.retry_of
    for attempt in range(options.retries + 1):
        batch = make_batch(
            items, bucket=inbox.name, name=options.name, voice=voice, retry_of=retry_of
        )
        inbox.put(batch.key, batch.data)  # last: its arrival starts the job
        say(f"job {batch.job}: {batch.key}")
        say(f"Waiting up to {options.seconds:g} s for its result, which a worker makes.")
        try:
            wait(results, result_key(batch.job), options.seconds)
        except TimeoutError as exc:
            say(f"{exc} Run the same command again to go on waiting.")
            return 5
        result = read_result(batch.job, results.get(result_key(batch.job)), keys)
        made = list(finished_items(result, results.get))
        say(f"{result['status']}: {result['totals']['succeeded']} of {len(items)} items")
        if attempt == options.retries or GIVEN_UP not in map(error_code, (result, *made)):
            break
        retry_of = batch.job
    write_table(made, results)
    if result["error"]:
        say(explain(result["error"]))
    if result["status"] != "succeeded":
        say(f"Correct what failed, then run this again with --retry-of {batch.job}")
    return 0 if result["status"] == "succeeded" else 1


if __name__ == "__main__":
    sys.exit(main())
