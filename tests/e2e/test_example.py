"""The example job on the command line, from the manifest to the opened audio."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyopenjtalk
import pytest
import soundfile
from pypinyin import lazy_pinyin

from core.audio.decoding import decode_trusted
from core.crypto import keys
from core.documents import signed
from core.result.document import parse_result
from core.speech.recognise import Recogniser, error_rate
from tests.support.command_line import EXAMPLE_INBOX, ROOT, Workspace
from tests.support.leak import leak_clip
from tests.support.present import present
from watermark.warps import tempo_step

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("without_coverage")]

TEXTS = {
    item["id"]: item
    for item in json.loads((EXAMPLE_INBOX / "jobs/hello.manifest.json").read_text())["items"]
}


def result_path(workspace: Workspace) -> Path:
    (path,) = (workspace.root / "bucket/results/out").glob("*/result.json")
    return path


@pytest.fixture(scope="module")
def opened_files(spoken: Workspace) -> Path:
    ran = spoken.run("open", str(result_path(spoken)), "--out", "heard")
    assert ran.returncode == 0, ran.stderr
    return spoken.root / "heard"


def test_three_items_one_signed_result_and_one_event(spoken: Workspace) -> None:
    report = json.loads((spoken.root / "watched.json").read_text())
    assert report["jobs"]["jobs/hello.manifest.json"]["status"] == "succeeded"
    document = result_path(spoken).read_bytes()
    signed.verify(document, keys.load_reading_keys(spoken.root / "keys").verifying)
    done = parse_result(document)
    assert [item.status for item in done.items] == ["succeeded"] * 3
    (event,) = (spoken.root / "bucket/results/events").rglob("*.json")
    assert json.loads(event.read_text())["type"] == "com.voicedrop.job.succeeded"


def test_the_voice_is_labelled_as_an_approximation_and_is_closer_than_the_default(
    spoken: Workspace,
) -> None:
    done = parse_result(result_path(spoken).read_bytes())
    assert present(done.engine).name == "kokoro-adapt (approximate)"
    match = done.voices["reader"].match
    assert set(match) == {"ge2e", "campplus"}
    for encoder in match.values():
        assert encoder.default < encoder.achieved < encoder.same_person


def test_all_stages_but_speaking_and_enrolment_are_fast(spoken: Workspace) -> None:
    """`bench.stages` holds 5 % for a minute of speech. This job is a quarter as long, and coverage
    slows all stages but these two, which are mostly in libraries."""
    stages = dict(parse_result(result_path(spoken).read_bytes()).stages)
    speaking = stages.pop("speak")
    stages.pop("enrol")
    stages.pop("prepare")  # includes the start of the decoder's process
    assert sum(stages.values()) < 0.20 * speaking


@pytest.mark.parametrize("item", list(TEXTS))
def test_a_recogniser_transcribes_what_was_written(
    opened_files: Path, recogniser: Recogniser, item: str
) -> None:
    speech = decode_trusted((opened_files / f"{item}.wav").read_bytes())
    language = TEXTS[item].get("language", "en")
    text = recogniser.transcribe(speech, language)
    wanted = TEXTS[item]["text"]
    said, written = (as_sound(t, language) for t in (wanted, text))
    assert error_rate(said, written, language) <= (0.05 if language == "en" else 0.2), text


def as_sound(text: str, language: str) -> str:
    """Convert text to its pronunciation, as the recogniser writes traditional characters and
    confuses homophones."""
    match language:
        case "zh":
            return " ".join(lazy_pinyin(text))
        case "ja":
            return str(pyopenjtalk.g2p(text, kana=True))
        case _:
            return text


def test_the_program_on_the_page_opens_every_item_without_our_code(
    spoken: Workspace, opened_files: Path
) -> None:
    page = (ROOT / "docs/format.md").read_text(encoding="utf-8")
    program = page.partition("```python\n")[2].partition("```")[0]
    imported = set(re.findall(r"^(?:import|from) (.+?)(?: import .+)?$", program, re.MULTILINE))
    assert not any(name.split(".")[0] in ("core", "events", "handlers") for name in imported)
    for item in TEXTS:
        arguments = [str(result_path(spoken)), str(spoken.root / "keys/kek-001.key"), item]
        ran = subprocess.run(
            [sys.executable, "-I", "-c", program, *arguments], capture_output=True, check=True
        )
        assert ran.stdout == (opened_files / f"{item}.wav").read_bytes()


def test_a_leaked_mp3_is_traced_to_its_job(
    spoken: Workspace, opened_files: Path, tmp_path: Path
) -> None:
    samples, rate = soundfile.read(opened_files / "english.wav", dtype="float32")
    soundfile.write(tmp_path / "leak.mp3", samples, rate)
    report = spoken.json("trace", str(tmp_path / "leak.mp3"))
    (found,) = report["traces"][0]["findings"]
    assert (found["job"], found["item"]) == (result_path(spoken).parent.name, "english")


@pytest.fixture(scope="module")
def watched_again(spoken: Workspace, opened_files: Path) -> dict[str, Any]:
    """The output of `watch --once` for the same inbox with a leaked clip of the first item."""
    clip = spoken.root / "bucket/inbox/audit/found/leak.wav"
    clip.parent.mkdir(parents=True)
    clip.write_bytes(leak_clip((opened_files / "english.wav").read_bytes()))
    jobs: dict[str, Any] = spoken.json("watch", "--once")["jobs"]
    return jobs


def test_a_dropped_leak_of_the_voice_is_traced_to_its_job(
    spoken: Workspace, watched_again: dict[str, Any]
) -> None:
    answer = watched_again["audit/found/leak.wav"]
    report = json.loads((spoken.root / f"bucket/results/audit/{answer['trace']}.json").read_text())
    (found,) = report["findings"]
    assert (found["job"], found["item"]) == (result_path(spoken).parent.name, "english")
    assert found["tempo"] == pytest.approx(1.03, abs=tempo_step(seconds=3.9))


def test_no_work_is_done_twice(spoken: Workspace, watched_again: dict[str, Any]) -> None:
    assert watched_again["jobs/hello.manifest.json"]["status"] == "succeeded"
    assert len(list((spoken.root / "bucket/results/out").glob("*/*"))) == 4


def test_a_single_sealed_file_can_be_opened(spoken: Workspace, tmp_path: Path) -> None:
    sealed = result_path(spoken).with_name("english.wav.sealed")
    report = spoken.json("open", str(sealed), "--out", str(tmp_path))
    assert [one["item"] for one in report["opened"]] == ["english"]


def test_a_changed_result_is_not_opened(spoken: Workspace, tmp_path: Path) -> None:
    copy = tmp_path / "result.json"
    copy.write_bytes(result_path(spoken).read_bytes().replace(b'"succeeded"', b'"partial"', 1))
    ran = spoken.run("open", str(copy))
    assert (ran.returncode, "SIGNATURE_INVALID" in ran.stderr) == (1, True)


def test_a_changed_sealed_file_is_not_opened(spoken: Workspace, tmp_path: Path) -> None:
    folder = result_path(spoken).parent
    (tmp_path / "result.json").write_bytes((folder / "result.json").read_bytes())
    body = bytearray((folder / "english.wav.sealed").read_bytes())
    body[5000] ^= 1
    (tmp_path / "english.wav.sealed").write_bytes(body)
    ran = spoken.run("open", str(tmp_path / "english.wav.sealed"), "--out", str(tmp_path))
    assert (ran.returncode, "item english: SEAL_INVALID" in ran.stdout) == (1, True)
    assert not (tmp_path / "english.wav").exists()
