"""The GPT-SoVITS engine, with a small network of random weights."""

from __future__ import annotations

import gc
import multiprocessing
import os
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from core.audio.waveform import Audio
from core.errors import Failed, JobError, Misconfigured, Refused
from core.speech import reference
from core.speech.recognise import Recogniser
from core.text.alphabets import read_phonemes
from core.voice import Voice, Voiceprint
from core.voice.gpt_sovits.bundle import Bundle
from core.voice.gpt_sovits.engine import GptSovits
from core.voice.gpt_sovits.frontend import Frontend
from core.voice.gpt_sovits.guard import Guard
from core.voice.gpt_sovits.sampling import Sampling
from core.voice.gpt_sovits.text_features import Span, TextFeatures
from tests.support.letters import Letters
from tests.support.runtime import REFERENCE, local_runtime, put_job, run_job

pytestmark = pytest.mark.slow

TEXT = "hello there my friend. what a day. yes. one more and somewhat longer sentence follows"
LAX = Guard(
    min_tokens_per_phoneme=0,
    max_tokens_per_phoneme=99,
    max_repeated_tokens=999,
    max_edge_silence=99,
)
"""Accepts the nonsense that random weights speak."""


@pytest.fixture(scope="module")
def recording(golden: Path) -> Audio:
    samples, rate = soundfile.read(golden / "ref.wav", dtype="float32")
    return Audio(samples, rate)


@pytest.fixture(scope="module")
def engine(bundle: Bundle) -> GptSovits:
    return GptSovits(bundle, Letters(), guard=LAX)


@pytest.fixture(scope="module")
def voiceprint(engine: GptSovits, recording: Audio) -> Voiceprint:
    return engine.enrol(recording, "what is said", "en")


def samples(engine: Voice, voiceprint: Voiceprint, text: str = TEXT, **how: float) -> np.ndarray:
    spoken = engine.speak(text, voiceprint, language="en", **how)  # type: ignore[arg-type]
    return np.concatenate([audio.samples for audio in spoken])


def test_it_implements_the_voice_interface(engine: GptSovits) -> None:
    voice: Voice = engine
    assert (voice.name, voice.rate) == ("gpt-sovits v2ProPlus", 32000)
    assert voice.languages == {"en", "zh"}
    assert voice.fingerprint.startswith("gpt-sovits/v2ProPlus/fp32/")


def test_a_voiceprint_is_small_and_survives_storage(
    engine: GptSovits, recording: Audio, voiceprint: Voiceprint
) -> None:
    assert engine.enrol(recording, "what is said", "en") == voiceprint
    assert len(voiceprint.dump()) < 4000
    assert Voiceprint.parse(voiceprint.dump()) == voiceprint


def test_each_sentence_is_a_chunk_and_depends_on_the_seed(
    engine: GptSovits, voiceprint: Voiceprint
) -> None:
    spoken = list(engine.speak(TEXT, voiceprint, language="en"))
    assert len(spoken) == 4
    assert all(audio.rate == 32000 and len(audio.samples) % 1280 == 0 for audio in spoken)
    one = samples(engine, voiceprint, seed=1)
    assert np.array_equal(one, samples(engine, voiceprint, seed=1))
    assert not np.array_equal(one, samples(engine, voiceprint, seed=2))


def test_a_sentence_does_not_depend_on_the_batch(
    bundle: Bundle, engine: GptSovits, voiceprint: Voiceprint
) -> None:
    """It is bit-identical whatever the number of rows and threads."""
    alone = GptSovits(Bundle(bundle.folder, threads=1, cpu_only=True), Letters(), guard=LAX, rows=1)
    assert np.array_equal(samples(alone, voiceprint), samples(engine, voiceprint))


def resident_memory() -> float:
    """Return the resident memory of this process in MiB."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def growth_over_texts(folder: Path, voiceprint: Voiceprint) -> float:
    """Return the growth of a process between its 20th and 60th text, in MiB."""
    engine = GptSovits(Bundle(folder, cpu_only=True), Letters(), guard=LAX)
    before = 0.0
    for i in range(60):
        samples(engine, voiceprint, "good day" + " my friend" * (i % 5), seed=i)
        if i == 19:
            before = resident_memory()
    return resident_memory() - before


@pytest.mark.repeats
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_sixty_texts_do_not_leak_memory(bundle: Bundle, voiceprint: Voiceprint) -> None:
    """`tests/acceptance/soak.py` speaks three hundred.

    It needs a process of its own, because other tests change the memory of this one.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        assert process.submit(growth_over_texts, bundle.folder, voiceprint).result() < 5


def test_two_voices_from_several_threads_never_mix(
    engine: GptSovits, recording: Audio, voiceprint: Voiceprint
) -> None:
    slow = Audio(np.repeat(recording.samples, 2)[: 9 * recording.rate], recording.rate)
    prints = [voiceprint, engine.enrol(slow, "something else", "en")]
    want = [samples(engine, one, "hello there. good day") for one in prints]
    with ThreadPoolExecutor(4) as pool:
        jobs = [
            pool.submit(samples, engine, prints[i % 2], "hello there. good day") for i in range(12)
        ]
        for i, job in enumerate(jobs):
            assert np.array_equal(job.result(), want[i % 2])


@pytest.mark.parametrize("speed", [0.5, 0.75, 1.3, 2.0])
def test_speed_changes_the_length(engine: GptSovits, voiceprint: Voiceprint, speed: float) -> None:
    plain = samples(engine, voiceprint, "what a day")
    assert len(samples(engine, voiceprint, "what a day", speed=speed)) == pytest.approx(
        len(plain) / speed, abs=1280
    )


def test_without_a_transcript_only_the_timbre_is_learned(
    engine: GptSovits, recording: Audio, voiceprint: Voiceprint
) -> None:
    timbre_only = engine.enrol(recording, "", "en")
    assert len(timbre_only.data) < len(voiceprint.data)
    assert len(samples(engine, timbre_only, "good day"))


def test_auxiliary_references_change_the_timbre(
    engine: GptSovits, recording: Audio, voiceprint: Voiceprint, golden: Path
) -> None:
    second, rate = soundfile.read(golden / "aux_ref.wav", dtype="float32")
    more = engine.enrol_several([recording, Audio(second, rate)], "what is said", "en")
    assert more.data != voiceprint.data
    with pytest.raises(Refused, match="AUDIO_TOO_SHORT"):
        engine.enrol_several([recording, Audio(second[:100], rate)], "", "en")


@pytest.mark.parametrize(("seconds", "code"), [(2.9, "AUDIO_TOO_SHORT"), (10.1, "AUDIO_TOO_LONG")])
def test_a_reference_has_3_to_10_seconds(engine: GptSovits, seconds: float, code: str) -> None:
    with pytest.raises(Refused, match=code):
        engine.enrol(Audio(np.zeros(int(seconds * 16000), np.float32), 16000), "text", "en")


def test_phonemes_of_a_lexicon_are_spoken_and_not_compared_with_the_words(
    bundle: Bundle, voiceprint: Voiceprint
) -> None:
    text = f"{read_phonemes('Nguyen', 'W IH1 N', 'arpabet', 'en')} has left."

    def hear(audio: Audio, language: str) -> str:
        raise AssertionError("a recogniser writes other words")

    engine = GptSovits(bundle, Frontend(), guard=replace(LAX, transcribe=hear))
    spoken = list(engine.speak(text, voiceprint, language="en"))
    assert [chunk.text for chunk in spoken] == ["Nguyen has left."]
    with pytest.raises(AssertionError, match="other words"):
        list(engine.speak("Nguyen has left.", voiceprint, language="en"))


def test_a_language_it_cannot_read_is_refused(engine: GptSovits, voiceprint: Voiceprint) -> None:
    with pytest.raises(Refused, match="LANGUAGE_UNSUPPORTED"):
        list(engine.speak("hallo", voiceprint, language="de"))


def test_a_text_without_words_is_refused(engine: GptSovits, voiceprint: Voiceprint) -> None:
    with pytest.raises(Refused, match="TEXT_UNSPEAKABLE"):
        list(engine.speak("...", voiceprint, language="en"))


def test_a_sentence_that_is_too_long_is_refused(engine: GptSovits, voiceprint: Voiceprint) -> None:
    with pytest.raises(Refused, match="TEXT_TOO_LONG"):
        list(engine.speak("la" * 3000, voiceprint, language="en"))


@pytest.mark.parametrize("data", [b"", b"\x80", b"not a voiceprint"])
def test_a_damaged_voiceprint_is_refused(engine: GptSovits, data: bytes) -> None:
    with pytest.raises(Misconfigured, match="damaged"):
        list(
            engine.speak("x", Voiceprint(fingerprint=engine.fingerprint, data=data), language="en")
        )


def test_a_voiceprint_of_another_model_is_refused(
    engine: GptSovits, voiceprint: Voiceprint
) -> None:
    other = Voiceprint(fingerprint="kokoro", data=voiceprint.data)
    with pytest.raises(Misconfigured, match="enrol the voice again"):
        list(engine.speak("x", other, language="en"))


def test_a_rejected_sentence_is_generated_again_and_reported(
    bundle: Bundle, engine: GptSovits, voiceprint: Voiceprint
) -> None:
    """The guard requires more tokens than the first attempt had."""
    lengths = [
        len(a.samples) // 1280 for a in engine.speak("what a day", voiceprint, language="en")
    ]
    strict = Guard(
        min_tokens_per_phoneme=(lengths[0] + 1) / 10,
        max_tokens_per_phoneme=99,
        max_repeated_tokens=999,
        max_edge_silence=99,
        max_retries=40,
    )
    strict_engine = GptSovits(bundle, Letters(), guard=strict)
    (sentence,) = strict_engine.speak("what a day", voiceprint, language="en")
    assert len(sentence.retry_reasons) >= 1
    assert "drops words" in sentence.retry_reasons[0]
    assert len(sentence.samples) // 1280 > lengths[0]


def test_a_result_counts_the_retries(bundle: Bundle, tmp_path: Path) -> None:
    """The guard requires more tokens than the first attempt with this seed has."""
    lax, text = GptSovits(bundle, Letters(), guard=LAX), "hello there my friend"
    prepared = reference.prepare(REFERENCE.read_bytes(), "refs/alice.flac").audio
    voiceprint = lax.enrol(prepared, "what she says", "en")
    (first,) = lax.speak(text, voiceprint, language="en", seed=5)
    min_tokens = (len(first.samples) // 1280 + 1) / len(text)
    strict = Guard(
        min_tokens_per_phoneme=min_tokens,
        max_tokens_per_phoneme=99,
        max_repeated_tokens=999,
        max_edge_silence=99,
        min_level=-99,
        max_retries=40,
    )
    made = local_runtime(tmp_path, voice=GptSovits(bundle, Letters(), guard=strict))
    key = put_job(made, items=[{"id": "hello", "text": text, "seed": 5}])
    (item,) = run_job(key, made).items
    assert (item.status, item.redrawn >= 1) == ("succeeded", True)


@pytest.mark.parametrize(
    ("guard", "code", "message"),
    [
        (Guard(min_tokens_per_phoneme=999, max_retries=1), "SPEECH_UNSTABLE", "drops words"),
        (
            Guard(
                min_tokens_per_phoneme=0, max_tokens_per_phoneme=0, extra_tokens=0, max_retries=1
            ),
            "SPEECH_UNSTABLE",
            "does not end",
        ),
        (
            Guard(
                min_tokens_per_phoneme=0,
                max_tokens_per_phoneme=99,
                max_repeated_tokens=999,
                min_level=40,
                max_retries=1,
            ),
            "OUTPUT_SILENT",
            "is silent",
        ),
    ],
    ids=["dropped", "endless", "silent"],
)
def test_a_sentence_that_fails_every_attempt_is_an_error(
    bundle: Bundle, voiceprint: Voiceprint, guard: Guard, code: str, message: str
) -> None:
    strict = GptSovits(bundle, Letters(), guard=guard)
    with pytest.raises(Failed, match=code) as caught:
        list(strict.speak("good day. and another", voiceprint, language="en"))
    assert message in str(caught.value)
    assert "2 attempts" in str(caught.value)


def test_words_that_the_recogniser_does_not_find_are_an_error(
    bundle: Bundle, voiceprint: Voiceprint, recogniser: Recogniser
) -> None:
    """Whisper recognises no words in the noise of random weights."""
    guard = Guard(
        min_tokens_per_phoneme=0,
        max_tokens_per_phoneme=99,
        max_repeated_tokens=999,
        max_edge_silence=99,
        transcribe=recogniser.transcribe,
        max_retries=1,
    )
    with pytest.raises(Failed, match="SPEECH_UNSTABLE") as caught:
        list(GptSovits(bundle, Letters(), guard=guard).speak("good day", voiceprint, language="en"))
    assert "does not match the text" in str(caught.value)


@pytest.mark.parametrize(
    ("recognised", "language", "is_wrong"),
    [
        ("Good day, my friend!", "en", False),
        ("good day my fiend", "en", False),
        ("something else was said", "en", True),
        ("", "en", True),
        ("good daymyfriend", "zh", False),
    ],
)
def test_recognised_words_are_compared_with_the_text(
    recognised: str, language: str, is_wrong: bool
) -> None:
    guard = Guard(transcribe=lambda audio, language: recognised)
    silence = Audio(np.zeros(9, np.float32), 32000)
    assert bool(guard.check_words(silence, "good day my friend", language)) == is_wrong


def test_speaking_can_be_abandoned(engine: GptSovits, voiceprint: Voiceprint) -> None:
    spoken = engine.speak(TEXT, voiceprint, language="en")
    first = next(iter(spoken))
    assert len(first.samples)
    del spoken
    assert len(samples(engine, voiceprint, "good day"))


def test_stream_yields_as_much_audio_as_speak(engine: GptSovits, voiceprint: Voiceprint) -> None:
    pieces = list(engine.stream(TEXT, voiceprint, language="en", seed=4))
    assert len(np.concatenate([a.samples for a in pieces])) == len(
        samples(engine, voiceprint, seed=4)
    )


def test_a_long_sentence_streams_in_pieces(
    bundle: Bundle, recording: Audio, voiceprint: Voiceprint
) -> None:
    sampling = Sampling(repetition_penalty=3, temperature=3, top_k=1025)
    engine = GptSovits(bundle, Letters(), guard=LAX, sampling=sampling)
    longest = max(
        (list(engine.stream("good day", voiceprint, language="en", seed=s)) for s in range(40)),
        key=len,
    )
    assert len(longest) > 1
    assert len(longest[0].samples) == 24.5 * 1280
    assert [piece.is_joined for piece in longest] == [False] + [True] * (len(longest) - 1)


def test_a_bad_sentence_in_a_stream_is_an_error(bundle: Bundle, voiceprint: Voiceprint) -> None:
    engine = GptSovits(bundle, Letters(), guard=Guard(min_tokens_per_phoneme=999))
    with pytest.raises(JobError, match="SPEECH_UNSTABLE"):
        list(engine.stream("good day", voiceprint, language="en"))


def test_chinese_characters_have_bert_features(bundle: Bundle, tmp_path: Path) -> None:
    folder = shutil.copytree(bundle.folder, tmp_path / "copy")
    (folder / "vocab.txt").write_text("[UNK]\n[CLS]\n[SEP]\n天\n地\n", "utf-8")
    span = Span("zh", "天地人", (1, 2, 3, 4, 5), (2, 1, 2))
    seen = TextFeatures(Bundle(folder, cpu_only=True))((span,))
    assert seen.shape == (5, 32)
    assert np.array_equal(seen[0], seen[1])
    assert not np.array_equal(seen[1], seen[2])
    assert not TextFeatures(bundle)((span,)).any()
