"""Choose the thresholds of protected voices, and measure how often they err.

    python -m bench.protected [--speech DIR] [--outputs 8] [--false-match 0.001]

The speakers are divided in two halves at random (fixed seed). For each speaker one recording is
protected and the others are compared with it: those of the same speaker should match, those of all
other speakers of the half should not. A speaker of whom there is one clip is represented by its two
halves, which are easier to match than recordings of different days. All comparisons are made clean,
over a telephone (8 kHz, 300-3400 Hz, mu-law), and with pink noise or other speakers 10 dB below.

The thresholds are chosen on the first half, for all conditions together, so that each of the three
reaches a third of the false matches. The errors are measured on the second half with the thresholds
in core/speech/speaker.py, with 95 % intervals (Wilson). Comparisons that share a speaker are not
independent, so the true intervals are wider.

For some speakers of the second half, the embedded voice learns from a recording that is not the
protected one and speaks; what it says is compared too. Last, what a comparison costs.

DIR is by default ../shared/speech, with the folders train-clean (one clip a speaker) and test-other
(a folder a speaker).
"""

from __future__ import annotations

import argparse
import io
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy import signal

from core.audio.waveform import Audio, Samples, resample
from core.consent import protection
from core.crypto.keys import create_keys, load_keyring
from core.errors import Refused
from core.settings import Settings
from core.speech import reference, speaker
from core.speech.speaker import Speaker
from core.storage.local import LocalStore
from core.voice.kokoro import KokoroVoice

SPEECH = Path(__file__).resolve().parents[2] / "shared/speech"
SEED: Final = 5
RATE: Final = 16_000
NOISE_DB: Final = -10.0
SENTENCES: Final = (
    "The birch canoe slid on the smooth planks beside the river.",
    "Glue the sheet to the dark blue background before you leave.",
    "It is easy to tell the depth of a well when the water is clear.",
)

Change = Callable[[Samples, np.random.Generator], Audio]


@dataclass(frozen=True)
class Person:
    name: str
    known: list[Speaker]
    """The protected recording."""
    others: dict[str, list[Speaker]]
    """Condition -> the person's other recordings."""
    reference: Audio
    """One of these, clean."""
    is_cut: bool
    """The recordings are the two halves of one clip."""


def telephone(samples: Samples, rng: np.random.Generator) -> Audio:
    narrow = resample(Audio(samples, RATE), 8000).samples
    band = signal.butter(4, (300, 3400), "bandpass", fs=8000, output="sos")
    heard = signal.sosfilt(band, narrow)
    heard = heard / np.abs(heard).max() * 0.9
    steps = np.round(np.sign(heard) * np.log1p(255 * np.abs(heard)) / np.log(256) * 127) / 127
    decoded = np.sign(steps) * (256 ** np.abs(steps) - 1) / 255
    return Audio(np.asarray(decoded, np.float32), 8000)


def add_noise(samples: Samples, noise: Samples) -> Audio:
    mixed = samples + noise * samples.std() * 10 ** (NOISE_DB / 20) / noise.std()
    return Audio(np.asarray(0.5 * mixed / np.abs(mixed).max(), np.float32), RATE)


def noisy(samples: Samples, rng: np.random.Generator) -> Audio:
    spectrum = np.fft.rfft(rng.standard_normal(len(samples)))
    pink = np.fft.irfft(spectrum / np.sqrt(np.arange(len(spectrum)) + 1), len(samples))
    return add_noise(samples, np.asarray(pink, np.float32))


def among_others(crowd: Sequence[Samples]) -> Change:
    """Four of these clips are heard at the same time."""

    def change(samples: Samples, rng: np.random.Generator) -> Audio:
        chosen = rng.choice(len(crowd), 4, replace=False)
        return add_noise(samples, np.sum([np.resize(crowd[i], len(samples)) for i in chosen], 0))

    return change


def clips_of(folder: Path) -> Iterator[tuple[str, list[Samples], bool]]:
    """Yield name, recordings, and whether they are the halves of one clip."""
    for path in sorted(folder.glob("train-clean/*.flac")):
        clip = soundfile.read(path, dtype="float32")[0]
        yield path.stem.split("-")[0], list(np.array_split(clip, 2)), True
    for place in sorted(folder.glob("test-other/*/")):
        clips = [soundfile.read(path, dtype="float32")[0] for path in sorted(place.glob("*.flac"))]
        yield place.name, clips, False


def prepare(audio: Audio) -> Audio | None:
    """Prepare a recording as a reference; None if it is too short to be one."""
    file = io.BytesIO()
    soundfile.write(file, audio.samples, audio.rate, format="WAV", subtype="FLOAT")
    try:
        return reference.prepare(file.getvalue(), "clip.wav").audio
    except Refused:
        return None


def describe(name: str, clips: list[Samples], is_cut: bool, changes: dict[str, Change]) -> Person:
    """Raises Refused AUDIO_TOO_SHORT for fewer than two recordings that are long enough."""
    rng = np.random.default_rng(SEED)
    made = [(clip, prepared) for clip in clips if (prepared := prepare(Audio(clip, RATE)))]
    if len(made) < 2:
        raise Refused("AUDIO_TOO_SHORT")
    (_, first), *rest = sorted(made, key=lambda pair: -min(pair[1].seconds, 6.0))
    others = {
        condition: [
            speaker.describe_speaker(heard)
            for clip, _ in rest
            if (heard := prepare(change(clip, rng)))
        ]
        for condition, change in changes.items()
    }
    return Person(name, speaker.describe_known(first), others, rest[0][1], is_cut)


def scores(people: list[Person], condition: str, *, same: bool) -> np.ndarray:
    """Return the similarity of each recording to each description, (comparisons, 3)."""
    return np.array([
        [speaker.similarity(description, other) for description in protected.known]
        for protected in people
        for person in people
        if (protected is person) == same
        for other in person.others[condition]
    ])  # fmt: skip


def choose(people: list[Person], conditions: Sequence[str], rate: float) -> list[float]:
    strangers = np.concatenate([scores(people, one, same=False) for one in conditions])
    return [float(value) for value in np.quantile(strangers, 1 - rate / 3, axis=0)]


def interval(count: int, total: int) -> str:
    """Return a share with its Wilson interval (95 %), in percent."""
    z, share = 1.96, count / total
    middle = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * np.sqrt(share * (1 - share) / total + (z / total / 2) ** 2)
    low, high = (100 * max(0.0, middle + sign * half) for sign in (-1, 1))
    return f"{100 * share:.2f} % ({low:.2f}-{high:.2f}; {count} of {total})"


def matches(found: np.ndarray) -> int:
    return int((found >= np.array(speaker.THRESHOLDS)).any(axis=1).sum())


def outputs(voice: KokoroVoice, person: Person) -> list[Speaker]:
    voiceprint = voice.enrol(person.reference, "", "en")
    spoken = [chunk for text in SENTENCES for chunk in voice.speak(text, voiceprint, language="en")]
    return [speaker.describe_speaker(chunk) for chunk in spoken]


def measure_outputs(people: list[Person], count: int, table: Table, console: Console) -> None:
    settings = Settings.from_environ({})
    voice = KokoroVoice.load(settings.cache, model=settings.kokoro)
    own, foreign = [], []
    for person in track(people[:count], "learning voices", console=console):
        for spoken in outputs(voice, person):
            own.append([speaker.similarity(one, spoken) for one in person.known])
            foreign += [
                [speaker.similarity(one, spoken) for one in other.known]
                for other in people
                if other is not person
            ]
    table.add_row(
        f"embedded voice, {count} speakers",
        interval(len(own) - matches(np.array(own)), len(own)),
        interval(matches(np.array(foreign)), len(foreign)),
        f"{np.array(own)[:, 0].mean():.2f}",
    )


def measure_costs(person: Person, console: Console) -> None:
    rate = person.reference.rate
    for seconds in (1, 3, 10):
        part = Audio(np.resize(person.reference.samples, seconds * rate), rate)
        spent = median_ms(partial(speaker.describe_speaker, part))
        console.print(f"Describing {seconds} s of speech: {spent:.0f} ms")
    with tempfile.TemporaryDirectory() as folder:
        create_keys(Path(folder) / "keys")
        control, ring = LocalStore(Path(folder)), load_keyring(Path(folder) / "keys")
        spent = median_ms(lambda: protection.read_protected_voices(control, ring))
        console.print(f"Nothing is protected, folders: {spent:.2f} ms")
        for number in range(100):
            name = f"{number:064x}"
            protection.protect(name, person.known, control, ring, label=name, owner=name)
        protection.read_protected_voices(control, ring)
        spent = median_ms(
            lambda: protection.read_protected_voices(control, ring).find_matches(person.known[0])
        )
        console.print(f"Comparing with 100 protected voices, folders: {spent:.2f} ms")


def median_ms(act: Callable[[], object]) -> float:
    spent = []
    for _ in range(9):
        start = time.perf_counter()
        act()
        spent.append(1000 * (time.perf_counter() - start))
    return float(np.median(spent))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--speech", type=Path, default=SPEECH)
    parser.add_argument("--outputs", type=int, default=8, help="speakers of the embedded voice")
    parser.add_argument("--false-match", type=float, default=0.001)
    options = parser.parse_args()
    console = Console(width=max(150, Console().width))
    clips = list(clips_of(options.speech))
    if not clips:
        console.print(f"No speakers in {options.speech}: give LibriSpeech with --speech.")
        return 2
    crowd = [samples for _, recordings, is_cut in clips for samples in recordings if is_cut]
    conditions: dict[str, Change] = {
        "clean": lambda samples, rng: Audio(samples, RATE),
        "telephone": telephone,
        "pink noise, 10 dB": noisy,
        "other speakers, 10 dB": among_others(crowd),
    }
    people, short = [], []
    for name, recordings, is_cut in track(clips, "describing", console=console):
        try:
            people.append(describe(name, recordings, is_cut, conditions))
        except Refused:
            short.append(name)
    people.sort(key=lambda person: (len(person.name), person.name))
    random.Random(SEED).shuffle(people)
    half = len(people) // 2
    first, second = people[:half], people[half:]
    chosen = choose(first, list(conditions), options.false_match)
    cut = [sum(person.is_cut for person in group) for group in (first, second)]
    console.print(
        f"{len(first)} speakers choose, {len(second)} are measured; of {cut[0]} and {cut[1]} of "
        f"them a single clip is cut in two. Left out, too short: {', '.join(short)}."
    )
    console.print(f"Chosen for {options.false_match:.2%}: {', '.join(f'{t:.3f}' for t in chosen)}")
    console.print(f"In use: {', '.join(f'{t:.3f}' for t in speaker.THRESHOLDS)}")
    table = Table("condition", "misses", "false matches", "similarity, as it is")
    for condition in conditions:
        same, different = (scores(second, condition, same=same) for same in (True, False))
        table.add_row(
            condition,
            interval(len(same) - matches(same), len(same)),
            interval(matches(different), len(different)),
            f"{same[:, 0].mean():.2f}",
        )
    if options.outputs:
        measure_outputs(second, options.outputs, table, console)
    console.print(table)
    measure_costs(second[0], console)
    return 0


if __name__ == "__main__":
    sys.exit(main())
