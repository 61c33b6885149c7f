"""Several callers share the rows of one decoder."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from core.voice.gpt_sovits.batch import T2SInput
from core.voice.gpt_sovits.bundle import Bundle
from core.voice.gpt_sovits.kv_cache import rows_for
from core.voice.gpt_sovits.sampling import Sampler
from core.voice.gpt_sovits.t2s import Decoder
from tests.acceptance import rows as acceptance
from tests.voice.gpt_sovits.test_t2s import decode_alone, t2s_input

TIMEOUT = 60


@dataclass
class BadSampler(Sampler):
    """After some tokens, samples one that does not exist, with which the step fails, or raises."""

    error: Exception | None = None

    def sample(self, logits: np.ndarray) -> None:
        super().sample(logits)
        if len(self.tokens) == 5:
            if self.error:
                raise self.error
            self.tokens[-1] = 10**6


def bad_input(bundle: Bundle, error: Exception | None = None) -> T2SInput:
    given = t2s_input(bundle, 1)
    sampler = given.sampler
    bad = BadSampler(sampler.sampling, sampler.seen, sampler.noise, error=error)
    return replace(given, sampler=bad)


def endless(bundle: Bundle, seed: int = 1) -> T2SInput:
    """A sentence of 3,000 tokens, none of which is the end token."""
    given = t2s_input(bundle, seed)
    sampling = replace(given.sampler.sampling, limit=3000, least=3000)
    return replace(given, sampler=replace(given.sampler, sampling=sampling))


@pytest.fixture(autouse=True, scope="module")
def nothing_is_left() -> Iterator[None]:
    yield
    assert acceptance.leftovers() == []


def test_a_long_text_does_not_keep_a_short_one_waiting(bundle: Bundle) -> None:
    decoder, order = Decoder(bundle, rows=2), list[int]()
    with decoder.caller() as long, decoder.caller() as short:
        rows = [long.submit(t2s_input(bundle, seed)) for seed in range(12)]
        rows.append(short.submit(t2s_input(bundle, 12)))
        for i, row in enumerate(rows):
            row.ended.add_done_callback(partial(lambda i, _: order.append(i), i))
        assert rows[-1].ended.result(TIMEOUT).tokens == decode_alone(bundle, 12)
    assert order.index(12) < 6


def test_a_caller_that_closes_frees_its_rows_and_sentences_at_once(bundle: Bundle) -> None:
    decoder = Decoder(bundle, rows=2)
    with decoder.caller() as other:
        with decoder.caller() as caller:
            dropped = [caller.submit(endless(bundle, seed)) for seed in range(5)]
            dropped[0].wait(3)
            row = other.submit(t2s_input(bundle, 2))
        assert row.ended.result(TIMEOUT).tokens == decode_alone(bundle, 2)
    assert not any(each.ended.done() for each in dropped)


@pytest.mark.parametrize(
    ("stage", "message"), [("prefill", "out of data bounds"), ("sampler", "no noise")]
)
def test_a_bad_row_fails_alone(bundle: Bundle, stage: str, message: str) -> None:
    decoder, good = Decoder(bundle, rows=3), t2s_input(bundle, 0)
    unknown = replace(t2s_input(bundle, 1), phones=np.array([10**6]), bert=good.bert[:1])
    bad = unknown if stage == "prefill" else bad_input(bundle, ValueError("no noise"))
    with decoder.caller() as caller, decoder.caller() as other:
        row = other.submit(good)
        failed = caller.submit(bad)
        with pytest.raises(Exception, match=message):
            failed.ended.result(TIMEOUT)
        assert row.ended.result(TIMEOUT).tokens == decode_alone(bundle, 0)


@pytest.mark.parametrize("device", ["", "cpu"], ids=["shared memory", "device memory"])
def test_a_row_with_which_a_step_fails_fails_alone(bundle: Bundle, device: str) -> None:
    """The others are computed once more, each by itself, and sound as if nothing had happened."""
    decoder = Decoder(bundle, rows=3, device=device)
    with decoder.caller() as caller, decoder.caller() as other:
        good = [other.submit(t2s_input(bundle, seed)) for seed in (0, 2)]
        bad = caller.submit(bad_input(bundle))
        with pytest.raises(Exception, match="out of data bounds"):
            bad.wait(3000)
        for row, seed in zip(good, (0, 2), strict=True):
            assert row.ended.result(TIMEOUT).tokens == decode_alone(bundle, seed)


def test_a_step_of_one_row_that_fails_leaves_nothing_behind(bundle: Bundle) -> None:
    decoder = Decoder(bundle, rows=1)
    with decoder.caller() as caller:
        bad, later = caller.submit(bad_input(bundle)), caller.submit(t2s_input(bundle, 2))
        with pytest.raises(Exception, match="out of data bounds"):
            bad.wait(3000)
        assert later.ended.result(TIMEOUT).tokens == decode_alone(bundle, 2)


def test_a_row_is_held_until_it_is_resumed(bundle: Bundle) -> None:
    decoder = Decoder(bundle, rows=2)
    with decoder.caller(streams=True) as stream, decoder.caller() as other:
        held = stream.submit(t2s_input(bundle, 0), hold_at=5)
        assert len(held.wait(5)) == 5
        other.submit(t2s_input(bundle, 2)).ended.result(TIMEOUT)
        assert len(held.sampler.tokens) == 5
        stream.resume(held)
        assert held.ended.result(TIMEOUT).tokens == decode_alone(bundle, 0)


def test_who_leaves_waits_no_longer_and_gives_up_the_row(bundle: Bundle) -> None:
    decoder = Decoder(bundle, rows=1)
    with pytest.raises(ListenerLeft), decoder.caller(streams=True) as stream:  # noqa: PT012
        held = stream.submit(t2s_input(bundle, 0), hold_at=5)
        held.wait(6, leave)
    assert decoder.decode([t2s_input(bundle, 2)])[0].tokens == decode_alone(bundle, 2)


class ListenerLeft(Exception):
    pass


def leave() -> None:
    raise ListenerLeft


def test_steps_give_way_while_other_callers_wait_for_syntheses(bundle: Bundle) -> None:
    decoder, finish = Decoder(bundle, rows=2), threading.Event()
    with ThreadPoolExecutor(bundle.threads) as pool, decoder.caller() as text:
        for _ in range(bundle.threads):
            decoder.give_way_to(pool.submit(finish.wait, TIMEOUT))
        alone = text.submit(t2s_input(bundle, 2))
        assert alone.ended.result(TIMEOUT).tokens == decode_alone(bundle, 2)
        with decoder.caller(), decoder.caller(streams=True) as stream:
            row = text.submit(t2s_input(bundle, 0))
            streamed = stream.submit(t2s_input(bundle, 2, limit=5))
            streamed.ended.result(TIMEOUT)
            assert len(row.sampler.tokens) < 40
            finish.set()
            assert row.ended.result(TIMEOUT).tokens == decode_alone(bundle, 0)


@pytest.mark.slow
def test_threads_that_speak_and_stream_never_mix(int8_bundle: Bundle, golden: Path) -> None:
    """`python -m tests.acceptance.rows` speaks ten thousand sentences."""
    speakers = acceptance.Speakers.create(int8_bundle, golden, rows=4)
    speakers.run(24, threads=4, seed=0)
    assert speakers.made >= 24
    assert speakers.wrong == []


@pytest.mark.slow
def test_a_stream_that_pauses_does_not_stop_others(bundle: Bundle, golden: Path) -> None:
    engine = acceptance.open_engine(bundle, rows=1)
    voiceprint = acceptance.enrol(engine, golden)
    paused = engine.stream("hello there", voiceprint, language="en", seed=1)
    first = next(paused)
    assert list(engine.speak("good day", voiceprint, language="en"))
    rest = [audio.samples for audio in paused]
    assert rest
    whole = list(engine.stream("hello there", voiceprint, language="en", seed=1))
    for audio, samples in zip(whole, [first.samples, *rest], strict=True):
        assert np.array_equal(audio.samples, samples)


EXIT = """
import atexit, sys
from pathlib import Path
from core.voice.gpt_sovits.bundle import Bundle
from core.voice.gpt_sovits.t2s import Decoder
from tests.voice.gpt_sovits.test_shared_rows import endless

bundle = Bundle(Path(sys.argv[1]), threads=1, cpu_only=True)
decoder = Decoder(bundle, rows=1)
atexit.register(lambda: print(decoder.steps))  # runs when the thread of the decoder has ended
caller = decoder.caller()
row = caller.__enter__().submit(endless(bundle))
row.wait(3)
"""


@pytest.mark.slow
def test_a_process_that_exits_does_not_finish_its_texts(bundle: Bundle) -> None:
    command = [sys.executable, "-c", EXIT, str(bundle.folder)]
    ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=TIMEOUT)
    assert 2 <= int(ended.stdout) < 2999


def test_a_cpu_decodes_eight_rows(bundle: Bundle) -> None:
    assert rows_for(bundle) == 8
