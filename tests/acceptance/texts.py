"""Hostile texts through the text front ends of both engines, in each language.

    python -m tests.acceptance.texts [--runs 1000] [--length 5000] [--seed 0] [--only gpt_sovits-ko]

A front end must return or raise a JobError, and spend at most two seconds of processor time (in
proportion for shorter texts, but not less than 0.5 s, because each process loads once what only
some words need). Texts are read in forked processes, which a timer stops, so that one that hangs or
crashes is found too. Long texts find what takes too long, many short ones what raises:

    python -m tests.acceptance.texts --runs 25000 --length 60 2> /dev/null      200,000 texts
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

from core.errors import JobError
from core.manifest import clean_text
from core.voice.gpt_sovits.frontend import Frontend
from core.voice.kokoro import text as kokoro
from tests.support.hostile_texts import LENGTH, make_text

LIMIT_SECONDS = 2.0
BLOCK = 500
"""Texts that one process reads."""
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


def measure(name: str, seeds: range, length: int) -> Iterator[tuple[int, float, str]]:
    """Yield the seed of each text, the processor seconds for it, and what came of it."""
    while seeds:
        done = 0
        for line, status in _lines_of_child(partial(_read_all, name, seeds, length)):
            seconds, _, said = line.partition(" ")
            yield (
                seeds[done],
                *((60.0, f"ended with {status}") if status else (float(seconds), said)),
            )
            done += 1
        seeds = seeds[done:]


def _read_all(name: str, seeds: range, length: int) -> Iterator[str]:
    for seed in seeds:
        signal.alarm(60)
        start = time.process_time()
        try:
            said = read_text(name, make_text(seed, length))
        except BaseException as exc:
            said = f"{type(exc).__name__}: {exc!s:.100}"
        yield f"{time.process_time() - start} {said}".replace("\n", " ")


def _lines_of_child(work: Callable[[], Iterator[str]]) -> Iterator[tuple[str, int]]:
    """Yield the lines that a forked process writes with the status 0, and once its status if it
    did not end well."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        with os.fdopen(writer, "w", buffering=1, errors="replace") as lines:
            lines.writelines(f"{line}\n" for line in work())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, errors="replace") as lines:
        yield from ((line.rstrip("\n"), 0) for line in lines)
    if status := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        yield "", status


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000, help="texts for each front end")
    parser.add_argument("--length", type=int, default=LENGTH, help="characters of a text")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="one front end")
    args = parser.parse_args()
    bad, slowest, limit = 0, (0.0, "", -1), LIMIT_SECONDS * max(0.25, args.length / LENGTH)
    for name in front_ends():
        if args.only not in ("", name):
            continue
        read_text(name, WARM_UP)
        last = args.seed + args.runs
        for first in range(args.seed, last, BLOCK):
            seeds = range(first, min(last, first + BLOCK))
            for seed, seconds, said in measure(name, seeds, args.length):
                slowest = max(slowest, (seconds, name, seed))
                if seconds > limit or not (said == "ok" or said.isupper()):
                    bad += 1
                    print(f"{name} seed {seed}: {seconds:.2f} s, {said}", flush=True)
    print(f"{args.runs} texts for each front end, {bad} bad, slowest {slowest}")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
