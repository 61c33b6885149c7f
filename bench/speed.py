"""Measure whether speech at other speeds keeps its words, and how long it is.

    python -m bench.speed [--speeds 0.5 1.5 2] [--languages en ja zh] [--reference FILE]

Twenty-four sentences in each language are spoken by the embedded voice at speed 1 and at each of
the speeds. Whisper (extra `asr`) hears each sentence alone. The error rate is of words in English,
of syllables with their tones in Mandarin, because whisper writes either script, and of the kana of
the reading in Japanese, because whisper writes the same word in kanji or in kana. `duration` is the
length of a sentence by the length asked for, that at speed 1 by the speed: the mean and the most
distant. The voice is an unadapted one of Kokoro, or one learned from the recording FILE.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pyopenjtalk
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.crosslingual import UNADAPTED, syllables, voice_of
from core.audio import decoding, waveform
from core.audio.waveform import Audio
from core.settings import Settings
from core.speech import recognise
from core.voice import Voiceprint
from core.voice.kokoro import KokoroVoice

TEXTS: Final[Mapping[str, Sequence[str]]] = {
    "en": (
        "The weather is lovely today, and we are going to the park.",
        "Please close the window, because it is getting cold in here.",
        "My brother works at a small hotel near the station.",
        "She bought a new coat and a pair of shoes in town.",
        "The train was late again, so we had to wait on the platform.",
        "Could you tell me how to get to the museum?",
        "We had dinner in the garden and talked until midnight.",
        "He forgot his umbrella and came home completely wet.",
        "The children are playing football in the street.",
        "I have lived in this city since I was a little girl.",
        "There is a good restaurant on the other side of the river.",
        "The doctor told him to drink more water and to rest.",
        "Our neighbours have a big black dog and a very old cat.",
        "It was too dark to see the road in front of us.",
        "She opened the letter, read it slowly, and began to laugh.",
        "The shop closes early on Sunday, so we should hurry.",
        "They are building a new bridge across the harbour.",
        "I usually have coffee and bread for breakfast.",
        "The teacher asked the students to open their books.",
        "He put the keys on the kitchen table and left the house.",
        "In winter the lake is covered with thick ice.",
        "You can leave your bag here while you look around.",
        "The music was so loud that nobody heard the telephone.",
        "My grandmother tells wonderful stories about her youth.",
    ),
    "ja": (
        "今日はとても天気がいいので、公園を散歩しましょう。",
        "駅の近くに新しい本屋ができました。",
        "母は毎朝、庭で花に水をやっています。",
        "明日の朝は早く起きなければなりません。",
        "この道をまっすぐ行くと、右側に銀行があります。",
        "友達と一緒に映画を見に行きました。",
        "電車が遅れたので、会議に間に合いませんでした。",
        "夏休みに家族で海へ行きたいです。",
        "図書館では静かにしてください。",
        "彼は毎日、日本語を勉強しています。",
        "窓を開けると、涼しい風が入ってきました。",
        "先生に手紙を書いて送りました。",
        "子供たちは公園で元気に遊んでいます。",
        "冬になると、山に雪が積もります。",
        "このレストランの料理はとてもおいしいです。",
        "昨日の夜、面白い本を読みました。",
        "荷物が重いので、手伝ってください。",
        "雨が降りそうなので、傘を持って行きます。",
        "父は新聞を読みながらコーヒーを飲みます。",
        "来週の土曜日に友達の家に行きます。",
        "病院へ行って、薬をもらいました。",
        "桜の花がとてもきれいに咲いています。",
        "弟は大学で歴史を勉強しています。",
        "電話番号を教えてください。",
    ),
    "zh": (
        "今天天气很好，我们一起去公园散步吧。",
        "请把这封信交给坐在窗边的老师。",
        "他把自行车停在学校门口，然后走进了教室。",
        "妈妈每天早上都给我们做早饭。",
        "这本书很有意思，我昨天晚上看完了。",
        "火车马上就要开了，请大家快点上车。",
        "我想买一件红色的衣服送给妹妹。",
        "下雨了，别忘了带雨伞。",
        "医生让他多喝水，多休息。",
        "河边有很多人在钓鱼。",
        "他们在图书馆里认真地学习。",
        "这家饭店的菜又便宜又好吃。",
        "冬天的时候，北方常常下大雪。",
        "我们应该保护环境，节约用水。",
        "弟弟最喜欢吃苹果和香蕉。",
        "老人坐在树下给孩子们讲故事。",
        "明天上午我要去机场接朋友。",
        "电影已经开始了，我们快进去吧。",
        "她的声音很好听，唱歌也很好。",
        "请问，去火车站怎么走？",
        "爷爷每天晚上都看电视新闻。",
        "桌子上放着一杯热茶。",
        "孩子们在院子里高兴地跑来跑去。",
        "经过努力，他终于找到了一份好工作。",
    ),
}


def voiceprint_of(voice: KokoroVoice, language: str, reference: Path | None) -> Voiceprint:
    if reference is None:
        return voice_of(UNADAPTED[language])
    return voice.enrol(decoding.decode_trusted(reference.read_bytes()), "", "")


def units(text: str, language: str) -> str:
    """What is counted of a text, separated by spaces."""
    if language == "ja":
        return " ".join(pyopenjtalk.g2p(text, kana=True))
    return syllables(text) if language == "zh" else text


def count_errors(text: str, heard: str, language: str) -> tuple[float, int]:
    """Return the number of errors, and of units in the text."""
    said, transcript = units(text, language), units(heard, language)
    number = len(said.split())
    return number * recognise.error_rate(said, transcript, "en"), number


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.speed",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--speeds", type=float, nargs="*", default=[0.5, 1.5, 2.0])
    parser.add_argument("--languages", nargs="*", choices=sorted(TEXTS), default=sorted(TEXTS))
    parser.add_argument("--reference", type=Path, help="a recording of 3 to 10 s")
    parser.add_argument("--show", action="store_true", help="print sentences that were misheard")
    options = parser.parse_args()
    console = Console(width=max(120, Console().width))
    voice, recogniser = KokoroVoice.load(Settings().cache), recognise.Recogniser.load()
    table = Table("language", "speed", "errors", "error rate", "duration", "CPU s per s of speech")
    for language in options.languages:
        voiceprint = voiceprint_of(voice, language, options.reference)
        lengths: list[float] = []
        for speed in (1.0, *options.speeds):
            errors, total, spent, ratios = 0.0, 0, 0.0, []
            for i, text in enumerate(
                track(TEXTS[language], f"{language} {speed:g}", console=console)
            ):
                before = time.process_time()
                said = voice.speak(text, voiceprint, language=language, speed=speed)
                take: Audio = waveform.join(list(said))
                spent += time.process_time() - before
                if speed == 1:
                    lengths.append(take.seconds)
                ratios.append(take.seconds * speed / lengths[i])
                heard = recogniser.transcribe(take, language)
                wrong, number = count_errors(text, heard, language)
                errors, total = errors + wrong, total + number
                if wrong and options.show:
                    console.print(f"{speed:g}  {text}  {heard}")
            farthest = max(ratios, key=lambda ratio: abs(ratio - 1))
            seconds = float(np.dot(lengths, ratios)) / speed
            table.add_row(
                language,
                f"{speed:g}",
                f"{errors:.0f} of {total}",
                f"{errors / total:.1%}",
                f"{np.mean(ratios):.3f} ({farthest:.3f})",
                f"{spent / seconds:.2f}",
            )
    console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
