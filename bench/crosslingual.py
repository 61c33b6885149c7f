"""Measure the embedded voice where the recording and the texts are in different languages.

    python -m bench.crosslingual [--speech DIR] [--each 2]

References in English are recordings of people (DIR, by default ../shared/speech/test-other, with a
folder a speaker). References in Mandarin and Japanese are SYNTHETIC: voices of Kokoro itself, which
the search can find more easily than a person's, because they are among those that it mixes.

Every voice is learned from one recording and speaks three sentences in each language. The output is
compared by both speaker encoders with other recordings of the same speaker (likeness) and of the
other speakers in the table (stranger). `same person` is the likeness of the reference itself. The
error rate is that of whisper (extra `asr`): of words in English, of syllables with their tones in
Mandarin, because whisper writes either script, and of characters in Japanese. The last rows are the
error rates of an unadapted voice of each language, which bound what can be expected.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from pypinyin import Style, lazy_pinyin
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.voice_match import SPEECH, reference_of, utterances
from core.audio import waveform
from core.audio.waveform import Audio
from core.settings import Settings
from core.speech import recognise
from core.speech.encoders import CamPlus, Encoder, Ge2e
from core.voice import Voiceprint
from core.voice.kokoro import FINGERPRINT, KokoroVoice, enrol, styles
from core.voice.kokoro.render import VoiceParams

TEXTS: Final[Mapping[str, Sequence[str]]] = {
    "en": (
        "Glue the sheet to the dark blue background before you leave.",
        "It is easy to tell the depth of a well when the water is clear.",
        "The juice of lemons makes fine punch on a warm evening.",
    ),
    "zh": (
        "今天天气很好，我们一起去公园散步吧。",
        "请把这封信交给坐在窗边的老师。",
        "他把自行车停在学校门口，然后走进了教室。",
    ),
    "ja": (
        "今日はとても天気がいいので、公園を散歩しましょう。",
        "駅の近くに新しい本屋ができました。",
        "母は毎朝、庭で花に水をやっています。",
    ),
}
"""What every voice speaks, by language."""
READ: Final[Mapping[str, Sequence[str]]] = {
    "zh": (
        "小时候我住在海边的一个村子里，每天放学以后都和朋友们在沙滩上玩。",
        "火车经过山谷的时候，大家都看着窗外的风景，没有人说话。",
        "妈妈做的汤很好喝，所以我常常回家吃饭。",
    ),
    "ja": (
        "子供の頃、海の近くの村に住んでいて、毎日友達と砂浜で遊んでいました。",
        "電車が谷を通る時、みんな静かに窓の外の景色を見ていました。",
        "母が作るスープはおいしいので、よく家に帰って食べます。",
    ),
}
"""What synthetic speakers say in their recordings, the reference first."""
SYNTHETIC: Final[Mapping[str, Sequence[str]]] = {
    "zh": ("zf_xiaoxiao", "zm_yunxi", "zf_xiaobei", "zm_yunyang"),
    "ja": ("jf_alpha", "jm_kumo", "jf_tebukuro"),
}
UNADAPTED: Final[Mapping[str, str]] = {"en": "af_heart", "zh": "zf_xiaoxiao", "ja": "jf_alpha"}


@dataclass(frozen=True, slots=True)
class Speaker:
    name: str
    language: str
    reference: Audio
    others: Sequence[Audio]
    """Other recordings of the same speaker."""


@dataclass(frozen=True, slots=True)
class Row:
    speaker: Speaker
    language: str
    """Of the texts."""
    likeness: Mapping[str, float]
    stranger: Mapping[str, float]
    same_person: Mapping[str, float]
    """These three by encoder."""
    error_rate: float


def voice_of(name: str) -> Voiceprint:
    """A voice of Kokoro as it is."""
    timbre, prosody = styles.load().weights_of(name).tolist()
    params = VoiceParams(timbre=timbre, prosody=prosody)
    return Voiceprint(fingerprint=FINGERPRINT, data=msgspec.msgpack.encode(params))


def speak(voice: KokoroVoice, voiceprint: Voiceprint, text: str, language: str) -> Audio:
    return waveform.join(list(voice.speak(text, voiceprint, language=language)), 0.2)


def speakers(voice: KokoroVoice, speech: Path, each: int) -> Iterator[Speaker]:
    for folder in sorted(speech.glob("*/"))[:each]:
        reference, others = reference_of(utterances(folder))
        yield Speaker(folder.name, "en", reference, others[:5])
    for language, names in SYNTHETIC.items():
        for name in names[:each]:
            reference, *others = (
                speak(voice, voice_of(name), text, language) for text in READ[language]
            )
            yield Speaker(f"{name} (synthetic)", language, reference, others)


def similarity(encoder: Encoder, some: Sequence[Audio], others: Sequence[Audio]) -> float:
    one, other = ([encoder.embed(enrol.set_level(a)) for a in audios] for audios in (some, others))
    return float(np.mean(np.stack(one) @ np.stack(other).T))


def measure(
    speaker: Speaker,
    everybody: Sequence[Speaker],
    voice: KokoroVoice,
    encoders: Sequence[Encoder],
    recogniser: recognise.Recogniser,
) -> Iterator[Row]:
    voiceprint = voice.enrol(speaker.reference, "", speaker.language)
    strangers = [audio for one in everybody if one is not speaker for audio in one.others]
    for language, texts in TEXTS.items():
        takes = [speak(voice, voiceprint, text, language) for text in texts]
        yield Row(
            speaker,
            language,
            {e.name: similarity(e, takes, speaker.others) for e in encoders},
            {e.name: similarity(e, takes, strangers) for e in encoders},
            {e.name: similarity(e, [speaker.reference], speaker.others) for e in encoders},
            error_rate(recogniser, takes, language),
        )


def error_rate(recogniser: recognise.Recogniser, takes: Sequence[Audio], language: str) -> float:
    heard = " ".join(recogniser.transcribe(take, language) for take in takes)
    said = " ".join(TEXTS[language])
    if language == "zh":
        return recognise.error_rate(syllables(said), syllables(heard), "pinyin")
    return recognise.error_rate(said, heard, language)


def syllables(chinese: str) -> str:
    return " ".join(lazy_pinyin(chinese, style=Style.TONE3, errors="ignore"))


def table_of(rows: Sequence[Row], unadapted: Mapping[str, float], *, each: bool) -> Table:
    """The rows, or their means for each pair of languages."""
    table = Table()
    for heading in ("reference", "texts", "GE2E", "CAM++", "error rate"):
        table.add_column(heading)
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        name = row.speaker.name if each else row.speaker.language
        groups.setdefault((name, row.language), []).append(row)
    for (name, language), group in groups.items():
        cells = []
        for encoder in rows[0].likeness:
            values = [(r.likeness, r.stranger, r.same_person) for r in group]
            means = [float(np.mean([one[i][encoder] for one in values])) for i in range(3)]
            cells.append("{:.2f} (stranger {:.2f}, same person {:.2f})".format(*means))
        rate = float(np.mean([row.error_rate for row in group]))
        table.add_row(name, language, *cells, f"{rate:.0%}")
    for language, rate in unadapted.items():
        table.add_row(f"{UNADAPTED[language]}, unadapted", language, "", "", f"{rate:.0%}")
    return table


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.crosslingual",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--speech", type=Path, default=SPEECH)
    parser.add_argument("--each", type=int, default=2, help="speakers for each language")
    options = parser.parse_args()
    console = Console(width=max(140, Console().width))
    voice = KokoroVoice.load(Settings().cache)
    encoders: list[Encoder] = [Ge2e.load(), CamPlus.load()]
    recogniser = recognise.Recogniser.load()
    everybody = list(speakers(voice, options.speech, options.each))
    if not any(speaker.language == "en" for speaker in everybody):
        console.print(f"No speakers in {options.speech}: provide ../shared/speech, or --speech.")
        return 2
    rows = [
        row
        for speaker in track(everybody, "measuring", console=console)
        for row in measure(speaker, everybody, voice, encoders, recogniser)
    ]
    unadapted = {
        language: error_rate(
            recogniser,
            [speak(voice, voice_of(name), text, language) for text in TEXTS[language]],
            language,
        )
        for language, name in UNADAPTED.items()
    }
    console.print(table_of(rows, unadapted, each=True))
    console.print(table_of(rows, unadapted, each=False))
    console.print(f"{time.process_time():.0f} CPU seconds. zh and ja references are synthetic.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
