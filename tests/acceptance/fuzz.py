"""Coverage-guided fuzzing of every function that reads untrusted bytes.

    scripts/setup dev fuzz
    python -m tests.acceptance.fuzz --target manifest --minutes 5
    python -m tests.acceptance.fuzz --target all --minutes 1        # a minute each

A finding is an exception other than JobError, an error that a result cannot hold, more than 2 s of
processor time or 1 GiB of memory for one input, or a crash of the process. Its input is kept under
`build/fuzz/<target>/` together with the corpus, from which the next run continues. Prints one line
of JSON per target; exit code 1 if there was a finding.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path

TARGETS = (
    *("manifest", "event", "audio", "tags", "sealed", "pickle", "consent"),
    *("document", "log", "trace"),
)
MAX_SECONDS = 2.0
MAX_MIB = 1024
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
    findings = [_run_in_process(name, options.corpus, options.minutes) for name in chosen]
    return 1 if any(findings) else 0


def _run_in_process(name: str, corpus: Path, minutes: float) -> bool:
    """Fuzz one target in a process that may crash; True if there was a finding."""
    folder = corpus / name
    folder.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    arguments = ["--target", name, "--minutes", str(minutes), "--corpus", str(corpus), "--inside"]
    run = subprocess.run(
        [sys.executable, "-m", "tests.acceptance.fuzz", *arguments],
        stdout=subprocess.PIPE,  # atheris prints exceptions there,
        stderr=subprocess.STDOUT,  # libFuzzer everything else here
        check=False,
    )
    (folder / "log.txt").write_bytes(run.stdout)
    output = run.stdout.decode(errors="replace")
    covered = re.findall(r"cov: (\d+)", output)
    report = {
        "target": name,
        "minutes": round((time.monotonic() - start) / 60, 2),
        "executions": int((re.findall(r"number_of_executed_units:\s+(\d+)", output) or [0])[0]),
        "covered": int(covered[-1]) if covered else 0,
        "peak_mib": int((re.findall(r"peak_rss_mb:\s+(\d+)", output) or [0])[0]),
        "corpus": len(list((folder / "corpus").iterdir())),
        "finding": "",
    }
    if run.returncode:
        why = re.findall(r"Uncaught Python exception: ===\s*(.*)|ERROR: libFuzzer: (.*)", output)
        report["finding"] = "".join(why[0]) if why else f"exit code {run.returncode}"
    print(json.dumps(report), flush=True)
    return bool(report["finding"])


def _fuzz(name: str, folder: Path, minutes: float) -> None:
    """Fuzz one target in this process. Does not return, because libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["core", "events"], enable_loader_override=False):
        from tests.support import fuzz_targets
    target = fuzz_targets.TARGETS[name]
    seeds = folder / "corpus"
    seeds.mkdir(exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (seeds / f"seed-{number}").write_bytes(seed)
    dictionary = folder / "words.txt"
    dictionary.write_text("".join(f'"{_escape(word)}"\n' for word in target.dictionary))

    def run_once(data: bytes) -> None:
        start = time.process_time()
        fuzz_targets.run_target(target, data)
        if (spent := time.process_time() - start) > MAX_SECONDS:
            raise TimeoutError(f"{spent:.1f} s for {len(data)} bytes")

    atheris.Setup(
        [
            name,
            str(seeds),
            f"-dict={dictionary}",
            f"-artifact_prefix={folder}/",
            f"-max_total_time={round(minutes * 60)}",
            f"-max_len={target.max_bytes}",
            f"-timeout={round(10 * MAX_SECONDS)}",
            f"-rss_limit_mb={MAX_MIB}",
            "-print_final_stats=1",
        ],
        run_once,
    )
    atheris.Fuzz()


def _escape(word: str) -> str:
    """Escape a word for a dictionary of libFuzzer: bytes in hex, everything else literal."""
    return re.sub(r'\\(?!x[0-9A-Fa-f]{2})|"', lambda m: f"\\{m[0]}", word)


if __name__ == "__main__":
    sys.exit(main())
