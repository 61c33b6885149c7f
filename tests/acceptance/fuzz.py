"""Guided mutation of every door for strangers' bytes: is there one that ends in another error?

    scripts/setup fuzz
    python -m tests.acceptance.fuzz --target manifest --minutes 5
    python -m tests.acceptance.fuzz --target all --minutes 1        # a minute each

A finding is an exception that is none of ours, an answer of ours that no result could hold, more
than 2 s of processor time or 1 GiB of memory for one input, or a dead process. Its input is kept
under `build/fuzz/<target>/`, which also keeps the corpus, so that the next run goes on from it.
Prints one line of JSON a target; exit code 1 if there was a finding.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path

TARGETS = ("manifest", "event", "audio", "tags", "sealed", "pickle", "consent", "trace")
SLOWEST_S = 2.0
MOST_MIB = 1024
BUILD = Path("build/fuzz")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.fuzz", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--target", choices=(*TARGETS, "all"), required=True)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--corpus", type=Path, default=BUILD)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        _fuzz(options.target, options.corpus / options.target, options.minutes)
    chosen = TARGETS if options.target == "all" else (options.target,)
    found = [_supervised(name, options.corpus, options.minutes) for name in chosen]
    return 1 if any(found) else 0


def _supervised(name: str, corpus: Path, minutes: float) -> bool:
    """Run one target in a process that may die; True if something was found."""
    folder = corpus / name
    folder.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    arguments = ["--target", name, "--minutes", str(minutes), "--corpus", str(corpus), "--inside"]
    run = subprocess.run(
        [sys.executable, "-m", "tests.acceptance.fuzz", *arguments],
        stdout=subprocess.PIPE,  # atheris tells exceptions there,
        stderr=subprocess.STDOUT,  # libFuzzer everything else here
        check=False,
    )
    (folder / "log.txt").write_bytes(run.stdout)
    said = run.stdout.decode(errors="replace")
    covered = re.findall(r"cov: (\d+)", said)
    told = {
        "target": name,
        "minutes": round((time.monotonic() - begun) / 60, 2),
        "executions": int((re.findall(r"number_of_executed_units:\s+(\d+)", said) or [0])[0]),
        "covered": int(covered[-1]) if covered else 0,
        "peak_mib": int((re.findall(r"peak_rss_mb:\s+(\d+)", said) or [0])[0]),
        "corpus": len(list((folder / "corpus").iterdir())),
        "finding": "",
    }
    if run.returncode:
        why = re.findall(r"Uncaught Python exception: ===\s*(.*)|ERROR: libFuzzer: (.*)", said)
        told["finding"] = "".join(why[0]) if why else f"exit code {run.returncode}"
    print(json.dumps(told), flush=True)
    return bool(told["finding"])


def _fuzz(name: str, folder: Path, minutes: float) -> None:
    """Does not return: libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["core", "events"], enable_loader_override=False):
        from tests.support import fuzz_targets
    target = fuzz_targets.TARGETS[name]
    seeds = folder / "corpus"
    seeds.mkdir(exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (seeds / f"seed-{number}").write_bytes(seed)
    words = folder / "words.txt"
    words.write_text("".join(f'"{_quoted(word)}"\n' for word in target.words))

    def once(data: bytes) -> None:
        begun = time.process_time()
        fuzz_targets.attempt(target, data)
        if (spent := time.process_time() - begun) > SLOWEST_S:
            raise TimeoutError(f"{spent:.1f} s for {len(data)} bytes")

    atheris.Setup(
        [
            name,
            str(seeds),
            f"-dict={words}",
            f"-artifact_prefix={folder}/",
            f"-max_total_time={round(minutes * 60)}",
            f"-max_len={target.longest}",
            f"-timeout={round(10 * SLOWEST_S)}",
            f"-rss_limit_mb={MOST_MIB}",
            "-print_final_stats=1",
        ],
        once,
    )
    atheris.Fuzz()


def _quoted(word: str) -> str:
    """As libFuzzer reads it: bytes in hex, everything else plain."""
    return re.sub(r'\\(?!x[0-9A-Fa-f]{2})|"', lambda m: f"\\{m[0]}", word)


if __name__ == "__main__":
    sys.exit(main())
