"""A job of one item that is heard while it is made.

It is a job like any other: its manifest is stored in the inbox, and the payload of its watermark in
the registry, before the first sound is sent, so whoever finds the sound learns the job. The lease
is taken before the manifest is stored, so no other worker begins. When the sound ends or the
listener leaves, what was sent is encoded, read back, labelled, sealed and stored, and the result
states the nonce of the mark. If this process ends before that, the manifest is left without a
result, and the worker that finds it makes the item as a file, under the same payload.

Nothing is sent before consent, quota, withdrawals and protected voices are checked. Consent is read
again before each piece of speech, so that a withdrawal ends the stream.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Protocol

import msgspec
import numpy as np

import watermark
from core.audio import encoding, waveform
from core.audio.limiter import Leveller, find_stream_gain
from core.audio.waveform import Audio, Samples
from core.errors import Failed, JobError, Notice, Refused
from core.job import accept, admission, attempt, commit, each_item, enrolment, item, withdrawn
from core.job.enrolment import Enrolled
from core.job.item import TRIED_STRENGTHS, MarkedSpeech
from core.job.runtime import Run, Runtime, Stopwatch
from core.label import aigc
from core.label.aigc import Aigc
from core.manifest import resolve
from core.manifest.resolve import Item, Job
from core.result.document import Result
from core.result.item_result import ItemResult, Streamed
from core.text.annotated import count_spoken
from core.text.spoken import check_speakable
from core.trace import registry
from core.voice import SpeechChunk, speak_in_pieces
from core.voice.pauses import speak_with_pauses

log = logging.getLogger("voicedrop.streams")

SURE_SECONDS = 1.5
"""Seconds of speech in which a mark of any preset can be read."""
SHORT_TEXT = 40
"""Characters at normal speed that may be spoken in less. Until it is known that they are not, none
of them is sent, because less speech may need a stronger mark."""
SLICE_SECONDS = 0.25
"""Seconds of speech that are marked and sent at once."""
HEARD_SECONDS = 10.0
"""Seconds of the latest speech that are compared with protected voices."""


class ListenerLeft(Exception):
    """Nobody hears the stream any more. Raised by a `Listener`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamStart:
    """What is known before the first sound."""

    job_id: str
    item_id: str
    rate: int
    """Sample rate in Hz."""
    nonce: str
    """As in the result: 32 hexadecimal digits."""
    label: Aigc | None
    """The label that the law requires, which raw sound cannot carry; None if it is waived."""


class Listener(Protocol):
    """Who hears a stream. All methods are called from one thread and may raise ListenerLeft."""

    def begin(self, start: StreamStart) -> None:
        """Called once, before the first sound."""
        ...

    def hear(self, samples: Samples) -> None:
        """Take the next samples, (n,), within [-1, 1]. Blocks while earlier ones are not taken:
        meanwhile nothing more is spoken."""
        ...

    def check(self) -> None:
        """Called often while there is nothing to hear."""
        ...


def speak(key: str, manifest: bytes, listener: Listener, runtime: Runtime) -> Result:
    """Store a manifest with one item at a new key of the inbox, speak the item to a listener, and
    return the result of the job.

    What is wrong with the job is stated in the result, also if the listener left. Raises Refused
    FILE_EXISTS if something else is stored at the key; Unavailable and Misconfigured as
    `pipeline.run` does, after which the job is not finished.
    """
    job_id = resolve.job_id(runtime.inbox.name, key, manifest)
    with attempt.begin(job_id, job_id, runtime, key) as run:
        runtime.inbox.put_once(key, manifest)
        received = commit.read_manifest(key, runtime)
        if received.job_id != job_id:
            raise Refused("FILE_EXISTS", pointer=key)
        if result := commit.read_result(job_id, runtime):
            return result
        with attempt.recording_failure(received.ref, run):
            return commit.commit_run(_carry_out(received, listener, run), run)


def _carry_out(received: commit.ReceivedManifest, listener: Listener, run: Run) -> Result:
    runtime, stopwatch = run.runtime, run.stopwatch()
    try:
        job = accept.accept(received, runtime).job
        wanted = only_item(job)
    except Refused as exc:
        return commit.failed_result("rejected", received, exc, runtime)
    voices = enrolment.enrol_voices(job, runtime, stopwatch)
    result = commit.new_result(received, job, runtime)
    result = enrolment.add_voices(result, job, voices, runtime)
    made = [_make(wanted, voices[wanted.voice], job, listener, run)]
    # It may have been withdrawn since the item was stored.
    errors = withdrawn.find_withdrawn(voices, withdrawn.claims_of(voices), runtime)
    made = withdrawn.remove_outputs(made, job, errors, run)
    return commit.add_items(result, job, made, [], [], stopwatch)


def only_item(job: Job) -> Item:
    """Return the item of a job that can be streamed. Raises Refused, also with the error of it."""
    if job.errors:
        raise job.errors[0].error
    if len(job.items) > 1:
        message = "A stream speaks one item: send the others in streams of their own."
        raise Refused("FIELD_UNSUPPORTED", message, pointer="/items")
    if job.mode != "run":
        raise Refused("FIELD_UNSUPPORTED", "A stream is no dry run.", pointer="/mode")
    if job.output.concatenate != "none":
        message = "A stream has one item, so there is nothing to join."
        raise Refused("FIELD_UNSUPPORTED", message, pointer="/output/concatenate")
    if job.retry_of:
        raise Refused("FIELD_UNSUPPORTED", "A stream repeats no job.", pointer="/retry_of")
    return job.items[0]


def _make(
    wanted: Item, voice: Enrolled | JobError, job: Job, listener: Listener, run: Run
) -> ItemResult:
    """Speak the item and return its result. An error is stated in it, and so is what was sent."""
    sent = _Sent()
    if isinstance(voice, JobError):
        return each_item.failed_item(wanted.id, wanted.index, voice, wanted)
    try:
        each_item.refuse_language(
            wanted.language, run.runtime.languages, f"{wanted.pointer}/language"
        )
        result = _Stream(wanted, voice, job, listener, run, sent).speak()
        asked = item.add_request(result, wanted, job, run.runtime)
        # A job that repeats this one must not keep what is only the beginning.
        return asked if sent.complete else msgspec.structs.replace(asked, asked="")
    except (Refused, Failed) as exc:
        error: JobError = exc
    except ListenerLeft:
        error = Failed("STREAM_CANCELLED")
    except (JobError, MemoryError):
        raise
    except Exception as exc:
        log.exception("stream failed", extra={"job": run.job_id})
        error = Failed("INTERNAL", type(exc).__name__, pointer=wanted.pointer)
    failed = each_item.failed_item(wanted.id, wanted.index, error, wanted)
    return msgspec.structs.replace(failed, streamed=sent.describe())


@dataclass(slots=True)
class _Sent:
    """What the listener got."""

    rate: int = 1
    nonce: bytes = b""
    pieces: list[Samples] = field(default_factory=list)
    complete: bool = False

    @property
    def audio(self) -> Audio:
        return Audio(np.concatenate([np.zeros(0, np.float32), *self.pieces]), self.rate)

    def describe(self) -> Streamed | None:
        """What the result states about it; None if nothing was sent."""
        if not self.pieces:
            return None
        seconds = sum(map(len, self.pieces)) / self.rate
        return Streamed(nonce=self.nonce.hex(), seconds=round(seconds, 3), complete=self.complete)


class _Stream:
    """One item that is spoken to a listener."""

    def __init__(
        self, wanted: Item, voice: Enrolled, job: Job, listener: Listener, run: Run, sent: _Sent
    ) -> None:
        self._item, self._voice, self._job = wanted, voice, job
        self._listener, self._run, self._sent = listener, run, sent
        self._runtime = run.runtime
        self._stopwatch: Stopwatch = run.stopwatch(wanted.id)
        self._spoken: list[SpeechChunk] = []
        """Sentences, or the parts of them between pauses."""
        sent.nonce = os.urandom(watermark.NONCE_BYTES)

    def speak(self) -> ItemResult:
        wanted, runtime, gate = self._item, self._runtime, self._voice.gate
        gate.admit(*gate.spoken_languages(wanted.text, wanted.language))
        left_out = check_speakable(
            wanted.text, wanted.language, runtime.front_end, wanted.pointer + "/text"
        )
        self._sent.rate = wanted.sample_rate or runtime.voice.rate
        with closing(self._speech()) as chunks:
            try:
                self._speak_all(chunks)
                self._sent.complete = True
            except ListenerLeft:
                if not self._sent.pieces:
                    raise
        return self._record(left_out)

    def _speak_all(self, chunks: Iterator[SpeechChunk]) -> None:
        first: list[SpeechChunk] = []
        is_short = count_spoken(self._item.text) < SHORT_TEXT * self._item.speed
        for chunk in chunks:
            first.append(chunk)
            if not is_short or _seconds(first) >= SURE_SECONDS:
                break
        if not first:
            raise Failed("OUTPUT_SILENT", pointer=self._item.pointer)
        runtime = self._runtime
        self._payload = registry.register(
            runtime.results, runtime.keys, self._run.job_id, self._item.id
        )
        gain = find_stream_gain(waveform.join(first))
        if _seconds(first) < SURE_SECONDS and is_short:
            self._send(iter([self._mark_short(first, gain)]))
            return
        marker = self._new_marker(gain, watermark.STRENGTHS[self._runtime.mark])
        self._send(marker.mark(chain(first, chunks)))

    def _mark_short(self, chunks: Sequence[SpeechChunk], gain: float) -> Samples:
        """Mark speech that is so short that it may need a stronger mark."""
        first = TRIED_STRENGTHS.index(watermark.STRENGTHS[self._runtime.mark])
        for strength in TRIED_STRENGTHS[first:]:
            marked = np.concatenate(list(self._new_marker(gain, strength).mark(chunks)))
            _, found = self._encode(Audio(marked, self._sent.rate))
            if found.payload == self._payload:
                return marked
        raise item.unreadable_mark(found, len(marked) / self._sent.rate, self._item)

    def _new_marker(self, gain: float, strength: float) -> _Marker:
        key = item.watermark_key(self._runtime)
        embedder = watermark.StreamEmbedder(
            self._sent.rate, self._payload, key, self._sent.nonce, strength=strength
        )
        leveller = Leveller(self._runtime.voice.rate, gain)
        return _Marker(leveller, embedder, self._item, self._job, self._runtime.voice.rate)

    def _send(self, marked: Iterable[Samples]) -> None:
        self._listener.check()
        start = StreamStart(
            job_id=self._run.job_id,
            item_id=self._item.id,
            rate=self._sent.rate,
            nonce=self._sent.nonce.hex(),
            label=item.make_label(self._item, self._job, self._run)[0],
        )
        self._listener.begin(start)
        for samples in marked:
            self._run.check()
            if len(samples):
                # Before it is sent, because it is unknown how much of it arrives.
                self._sent.pieces.append(samples)
                self._listener.hear(samples)

    def _speech(self) -> Generator[SpeechChunk]:
        """Yield the speech of the engine, each chunk when it may be sent. While the listener does
        not take more, the engine is not asked for more, and no place is held."""
        wanted, runtime, stopwatch = self._item, self._runtime, self._stopwatch
        recordings = [claim.reference_sha256 for claim in self._voice.claims]
        places, count = runtime.concurrency.places, runtime.lanes or runtime.voice.callers
        seed = item.choose_seed(wanted, recordings)

        def speak(part: str, number: int) -> Generator[SpeechChunk]:
            return speak_in_pieces(
                runtime.voice,
                part,
                self._voice.voiceprint,
                language=wanted.language,
                speed=wanted.speed,
                seed=(seed + number) % 2**32,
                check=self._check,
            )

        chunks = speak_with_pauses(wanted.text, speak)
        with closing(chunks):
            while True:
                self._check()
                with places.hold(count), stopwatch.stage("speak"):
                    chunk = next(chunks, None)
                if chunk is None:
                    return
                with stopwatch.stage("consent"):
                    if self._run.cancellation:
                        raise ListenerLeft
                    if self._spoken:
                        admission.admit_again([wanted], self._voice.claims, runtime)
                    self._remember(chunk)
                    item.refuse_protected(_latest(self._spoken), wanted, self._voice, runtime)
                yield chunk

    def _check(self) -> None:
        self._run.check()
        self._listener.check()

    def _remember(self, chunk: SpeechChunk) -> None:
        if chunk.is_joined and not chunk.text and self._spoken:
            last = self._spoken[-1]
            self._spoken[-1] = replace(last, samples=np.append(last.samples, chunk.samples))
        else:
            self._spoken.append(chunk)

    def _record(self, left_out: Sequence[Notice]) -> ItemResult:
        """Store what was sent."""
        wanted, audio = self._item, self._sent.audio
        encoded, found = self._encode(audio)
        if found.payload != self._payload:
            if not self._sent.complete:
                raise ListenerLeft
            raise item.unreadable_mark(found, audio.seconds, wanted)
        if not self._sent.complete:
            wanted = msgspec.structs.replace(wanted, subtitle=())
            left_out = [*left_out, Notice("STREAM_SHORTENED")]
        made = MarkedSpeech(
            seconds=audio.seconds,
            encoded=encoded,
            watermark=item.describe_mark(found, self._runtime),
            chunks=self._spoken,
            streamed=self._sent.describe(),
            notices=left_out,
        )
        return item.release(
            made, wanted, self._voice, self._job, self._run, self._stopwatch, nullcontext()
        )

    def _encode(self, audio: Audio) -> tuple[encoding.Encoded, watermark.Detection]:
        with self._stopwatch.stage("encode"):
            encoded = encoding.encode(audio, self._item.format)
        with self._stopwatch.stage("verify"):
            return encoded, item.read_back(encoded, self._payload, self._runtime, expected=True)


class _Marker:
    """Levels, marks and cues speech."""

    def __init__(
        self,
        leveller: Leveller,
        embedder: watermark.StreamEmbedder,
        wanted: Item,
        job: Job,
        rate: int,
    ) -> None:
        self._leveller, self._embedder, self._rate = leveller, embedder, rate
        self._resampler = waveform.StreamResampler(rate, wanted.sample_rate or rate)
        self._out_rate = wanted.sample_rate or rate
        self._pause_ms, self._cue = wanted.pause_ms, job.label.cue
        self._pause_between = item.sentence_pause(wanted)

    def mark(self, chunks: Iterable[SpeechChunk]) -> Iterator[Samples]:
        """Yield the sound of an item, with pauses and cues, as soon as it is marked."""
        yield self._embedder.push(self._cue_if(aigc.lead_seconds(self._cue) > 0, "morse-start"))
        pause = waveform.silence(self._pause_between, self._rate).samples
        for number, chunk in enumerate(chunks):
            if number and not chunk.is_joined:
                yield self._push(pause)
            for at in range(0, len(chunk.samples), size := round(SLICE_SECONDS * self._rate)):
                yield self._push(chunk.samples[at : at + size])
        rest = self._resampler.push(self._leveller.finish(), last=True)
        silence = waveform.silence(self._pause_ms / 1000, self._out_rate).samples
        cue = self._cue_if(aigc.trail_seconds(self._cue) > 0, "morse-end")
        yield self._embedder.push(np.concatenate([rest, silence, cue]))
        yield self._embedder.finish()

    def _push(self, samples: Samples) -> Samples:
        return self._embedder.push(self._resampler.push(self._leveller.push(samples)))

    def _cue_if(self, wanted: bool, where: aigc.Cue) -> Samples:
        empty = waveform.silence(0, self._out_rate)
        return aigc.add_cue(empty, where).samples if wanted else empty.samples


def _seconds(chunks: Iterable[SpeechChunk]) -> float:
    return sum(chunk.seconds for chunk in chunks)


def _latest(chunks: Sequence[SpeechChunk]) -> list[SpeechChunk]:
    """Return the last HEARD_SECONDS of speech."""
    samples = waveform.join(chunks).samples
    rate = chunks[0].rate
    return [SpeechChunk(samples[-round(HEARD_SECONDS * rate) :], rate)]
