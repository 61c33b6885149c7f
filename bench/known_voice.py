"""Measure what a voice costs a job of one short item: a new one, and a known one.

    python -m bench.known_voice [--rounds 5] [--against DIR]

With `--against`, the same is measured in the working tree DIR: each job there is followed or
preceded by one here, and the differences of the pairs are printed with their quartiles. Enrolment
itself is left out, because its half minute varies by more than all the rest: the engine is the
embedded one, but every voice that it learns is its mean voice.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO, cast

ROOT = Path(__file__).parents[1]
FIGURES = {
    "cold": "new voice, from the start of the process",
    "new": "new voice, in a process that has prepared a recording",
    "known": "known voice, in a process that has loaded the engine",
}
WARM_JOBS = 7
"""Jobs of each kind in a process, after one that is not counted."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--started", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.started:
        serve(options.started)
        return
    trees = [tree.resolve() for tree in (options.against, ROOT) if tree]
    jobs: dict[str, list[list[float]]] = {name: [] for name in FIGURES}
    for number in range(options.rounds):
        with ExitStack() as stack:
            workers = [stack.enter_context(start_worker(tree)) for tree in trees]
            jobs["cold"].append([cold for cold, _ in workers])
            for name in ("new", "known"):
                for job in range(1 + WARM_JOBS):
                    order = range(len(workers))[:: 1 if (number + job) % 2 else -1]
                    seconds = {at: workers[at][1](name) for at in order}
                    if job:
                        jobs[name].append([seconds[at] for at in range(len(workers))])
    for name, meaning in FIGURES.items():
        columns = list(zip(*jobs[name], strict=True))
        medians = " -> ".join(f"{statistics.median(column):.3f} s" for column in columns)
        line = f"{meaning}: {medians}"
        if len(columns) == 2:
            pairs = [after - before for before, after in zip(*columns, strict=True)]
            low, middle, high = statistics.quantiles(pairs, method="inclusive")
            line += f"; difference {middle:+.3f} s ({low:+.3f} to {high:+.3f}, {len(pairs)} pairs)"
        print(line)


@contextmanager
def start_worker(tree: Path) -> Iterator[tuple[float, Callable[[str], float]]]:
    """Start a process that imports the packages of a working tree. Yields the seconds until its
    first job was done, and a function that runs a job with a `new` or a `known` voice."""
    command = [sys.executable, "-P", __file__, "--started", str(time.time())]
    environ = os.environ | {"PYTHONPATH": str(tree)}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=tree, env=environ, stdin=pipe, stdout=pipe, text=True
    ) as process:
        told, answers = cast(TextIO, process.stdin), cast(TextIO, process.stdout)

        def run(kind: str) -> float:
            print(kind, file=told, flush=True)
            return float(answers.readline())

        yield float(answers.readline()), run


def serve(started: float) -> None:
    """Run jobs as `voicedrop watch --once` does and print their seconds: one with a new voice, then
    one for each line that is read. `started`: Unix seconds."""
    from core.audio import sandbox
    from core.speech import reference

    if not hasattr(reference, "start"):  # before librosa was imported for a new recording only
        sandbox.start()
    with tempfile.TemporaryDirectory() as name:
        bucket = Bucket(Path(name))
        bucket.run(new=True)
        print(time.time() - started, flush=True)
        for line in sys.stdin:
            print(bucket.run(new=line.strip() == "new"), flush=True)


@dataclass
class MeanVoice:
    """The embedded engine, to which every speaker has its mean voice."""

    engine: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def enrol(self, reference: Any, transcript: str, language: str) -> Any:
        import msgspec

        from core.voice import Voiceprint
        from core.voice.kokoro.render import VoiceParams

        weights = [0.0] * 54
        data = msgspec.msgpack.encode(VoiceParams(timbre=weights, prosody=weights))
        return Voiceprint(fingerprint=self.engine.fingerprint, data=data)


class Bucket:
    """Folders in which jobs are run, each with a manifest of its own."""

    def __init__(self, root: Path) -> None:
        from core.crypto import keys
        from core.settings import Settings
        from handlers import wiring

        for part in ("inbox", "results", "control"):
            (root / part).mkdir()
        keys.create_keys(root / "keys")
        places = {"VOICEDROP_BUCKET": str(root), "VOICEDROP_KEYS": str(root / "keys")}
        settings = Settings.from_environ(os.environ | places)
        runtime = wiring.create_local_runtime(settings)
        load = runtime.load_voice
        self.runtime = replace(runtime, load_voice=lambda: MeanVoice(load()))
        self.jobs = self.voices = 0

    def run(self, *, new: bool) -> float:
        """Run a job with a new or the last recording; return its seconds."""
        from handlers.jobs import carry_out

        self.voices += new
        self.jobs += 1
        key = f"jobs/{self.jobs}.manifest.json"
        self.runtime.inbox.put(key, json.dumps(self._put_voice()).encode())
        start = time.perf_counter()
        outcome: Any = carry_out(key, self.runtime)
        seconds = time.perf_counter() - start
        if outcome.result.status != "succeeded":
            raise RuntimeError(f"the job {outcome.result.status}")
        return seconds

    def _put_voice(self) -> dict[str, Any]:
        """Put a recording and its consent record into the inbox, and return a manifest."""
        from datetime import UTC, datetime

        import soundfile

        from core.consent import records

        path = ROOT / "tests" / "data" / "speech" / "ref_367.flac"
        samples, rate = soundfile.read(path, dtype="float32")
        file = io.BytesIO()
        soundfile.write(file, samples * (1 - 0.01 * self.voices), rate, format="FLAC")
        consent = records.Consent(
            schema=records.SCHEMA,
            id="bench",
            subject=records.Subject(pseudonym="bench"),
            controller="bench",
            purposes=["bench"],
            valid_from=datetime(2026, 1, 1, tzinfo=UTC),
            method="public-domain",
            source="LibriSpeech, CC BY 4.0",
            ref_audio_sha256=[hashlib.sha256(file.getvalue()).hexdigest()],
            created_by="bench",
        )
        self.runtime.inbox.put("refs/a.flac", file.getvalue())
        self.runtime.inbox.put("consent/a.json", records.format_consent(consent))
        voice = {"reference": "refs/a.flac", "language": "en", "consent": "consent/a.json"}
        item = {"id": "one", "text": f"This is number {self.jobs}."}
        return {"schema": "voicedrop/job/1", "voices": {"a": voice}, "items": [item]}


if __name__ == "__main__":
    main()
