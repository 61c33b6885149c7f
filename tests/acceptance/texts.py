"""Hostile texts of 5,000 characters through the text front ends of both engines, in each language.

    python -m tests.acceptance.texts [--runs 1000] [--seed 0] [--only gpt_sovits-ko]

A front end must return or raise a JobError, and spend at most two seconds of processor time. Each
run is a forked process, which a timer stops, so that one that hangs or crashes is found too.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial

from core.errors import JobError
from core.manifest import clean_text
from core.voice.gpt_sovits.frontend import Frontend
from core.voice.kokoro import text as kokoro
from tests.support.hostile_texts import LENGTH, make_text

LIMIT_SECONDS = 2.0
WARM_UP = "Hello 12 xyzzyq. 你好，世界12年。こんにちは世界。안녕하세요 12개."


def front_ends() -> dict[str, Callable[[str], object]]:
    """Return `engine-language` -> the function that reads a cleaned text."""
    read = Frontend()
    readers: dict[str, Callable[[str], object]] = {}
    for language in sorted(read.languages):
        readers[f"gpt_sovits-{language}"] = partial(read, language=language)
    for language in sorted(kokoro.LANGUAGES):
        readers[f"kokoro-{language}"] = partial(_read_with_kokoro, language=language)
    return readers


def _read_with_kokoro(text: str, language: str) -> object:
    return list(kokoro.split_utterances(text, language))


def read_text(name: str, text: str) -> str:
    """Clean and read a text; return `ok` or the code of the error. Raises any other exception."""
    language = name.rpartition("-")[2]
    try:
        text, _ = clean_text.clean(text, language=language, limit=LENGTH, pointer="")
        front_ends()[name](text)
    except JobError as exc:
        return exc.code
    return "ok"


def measure(name: str, text: str) -> tuple[float, str]:
    """Return the processor seconds of a run, and what came of it."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        signal.alarm(60)
        start = time.process_time()
        try:
            said = read_text(name, text)
        except BaseException as exc:
            said = f"{type(exc).__name__}: {exc!s:.100}"
        os.write(writer, f"{time.process_time() - start} {said}".encode())
        os._exit(0)
    os.close(writer)
    answer = b""
    while part := os.read(reader, 4096):
        answer += part
    os.close(reader)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        return 60.0, f"ended with {status}"
    seconds, _, said = answer.decode(errors="replace").partition(" ")
    return float(seconds), said


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000, help="texts for each front end")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="one front end")
    args = parser.parse_args()
    bad, slowest = 0, (0.0, "", -1)
    for name in front_ends():
        if args.only in ("", name):
            read_text(name, WARM_UP)
            for seed in range(args.seed, args.seed + args.runs):
                seconds, said = measure(name, make_text(seed))
                slowest = max(slowest, (seconds, name, seed))
                if seconds > LIMIT_SECONDS or not (said == "ok" or said.isupper()):
                    bad += 1
                    print(f"{name} seed {seed}: {seconds:.2f} s, {said}", flush=True)
    print(f"{args.runs} texts for each front end, {bad} bad, slowest {slowest}")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
