"""Measure what the other stages of a job cost beside speaking.

    python -m bench.stages [--seconds 60]

Runs one job with the embedded voice over a temporary folder and prints the seconds of every stage
and their share of synthesis (`speak`).
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from core.crypto import keys
from core.job.runtime import Finished
from core.result.document import Result
from core.settings import Settings
from handlers import wiring
from handlers.cli.screen import Progress
from handlers.jobs import carry_out
from handlers.worker import Worker

INBOX = Path(__file__).parents[1] / "examples" / "inbox"
SENTENCE = (
    "The quiet harbour was full of small boats, and nobody on the pier seemed to be in a hurry. "
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="approximate length of the speech"
    )
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as name, Progress() as progress:
        done = run(Path(name), SENTENCE * max(1, round(seconds / 5.0)), progress)
    speaking = done.stages["speak"]
    print(f"{done.totals.audio_s:.1f} s of speech in {speaking:.1f} s: {done.status}")
    print("| stage | seconds | % of speaking |\n|---|---|---|")
    for stage, spent in done.stages.items():
        print(f"| {stage} | {spent:.3f} | {100 * spent / speaking:.2f} |")
    rest = sum(s for stage, s in done.stages.items() if stage not in ("speak", "enrol"))
    print(f"| all but speaking and enrolment | {rest:.3f} | {100 * rest / speaking:.2f} |")


def run(folder: Path, text: str, progress: Progress) -> Result:
    shutil.copytree(INBOX, folder / "bucket" / "inbox")
    manifest = folder / "bucket/inbox/jobs/hello.manifest.json"
    document = json.loads(manifest.read_text())
    document["items"] = [{"id": "minute", "text": text.strip()}]
    manifest.write_text(json.dumps(document))
    for part in ("results", "control"):
        (folder / "bucket" / part).mkdir()
    keys.create_keys(folder / "keys")
    settings = Settings.from_environ(
        {"VOICEDROP_BUCKET": str(folder / "bucket"), "VOICEDROP_KEYS": str(folder / "keys")}
    )
    runtime = Worker(settings, wiring.CurrentCredentials({})).warm()
    outcome = carry_out("jobs/hello.manifest.json", replace(runtime, observe=progress))
    if not isinstance(outcome, Finished):
        raise TypeError(f"the job ended as {outcome}")
    return outcome.result


if __name__ == "__main__":
    main()
