"""Forty terms in five languages, read as a lexicon says, in both engines, and heard by whisper.

    python -m tests.acceptance.lexicon [--hear]

Each term is in a sentence. GPT-SoVITS reads all of them, the embedded voice those in English,
Chinese and Japanese. The phonemes of the term are compared with those that the table states, or
with those of the words in its place. With `--hear` (extra `asr`) the embedded voice also speaks the
sentences, with the lexicon and without it, and whisper writes down what it hears: Chinese is
compared by syllables without tones and Japanese by kana, because many characters sound the same.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from core.settings import Settings
from core.text import lexicon, openjtalk
from core.text.lexicon import Lexicon
from core.text.symbols import symbol_table
from core.voice.gpt_sovits.frontend import Frontend
from core.voice.kokoro import model as kokoro_model
from core.voice.kokoro import styles
from core.voice.kokoro import text as kokoro
from core.voice.kokoro.render import Renderer, VoiceParams
from core.voice.kokoro.text.chinese import ipa_of_syllable
from core.voice.kokoro.text.english_g2p import ipa_of_arpabet

NAMES = list(symbol_table())
PACKS = {"en": "af_heart", "zh": "zf_xiaoxiao", "ja": "jf_alpha"}
"""Language -> the voice of Kokoro that speaks it."""


@dataclass(frozen=True)
class Term:
    language: str
    sentence: str
    entry: dict[str, str]
    said: str
    """Symbols of GPT-SoVITS, or `=` and the words in place of the term, which both engines say."""
    heard: str = ""
    """A pattern of what whisper writes: words, syllables or kana."""

    @property
    def written(self) -> str:
        return self.entry["term"]


def _phonemes(language: str, term: str, sentence: str, phonemes: str, *said: str) -> Term:
    """A term with phonemes; `said`: the symbols, and if they are given what is heard, and the
    alphabet."""
    symbols, heard, alphabet = (*said, "", "")[:3]
    entry = {"term": term, "language": language, "phonemes": phonemes}
    return Term(
        language, sentence, entry | ({"alphabet": alphabet} if alphabet else {}), symbols, heard
    )


def _words(language: str, term: str, sentence: str, words: str, heard: str = "") -> Term:
    entry = {"term": term, "language": language, "as": words}
    return Term(language, sentence, entry, f"={words}", heard)


def _kana(term: str, sentence: str, kana: str, heard: str = "") -> Term:
    entry = {"term": term, "language": "ja", "phonemes": kana}
    return Term("ja", sentence, entry, f"={kana}", heard or kana)


def _hangul(term: str, sentence: str, hangul: str) -> Term:
    entry = {"term": term, "language": "ko", "phonemes": hangul}
    return Term("ko", sentence, entry, f"={hangul}")


TERMS = (
    # English
    _phonemes("en", "Xylq", "I ate a Xylq for breakfast.", "B AH0 N AE1 N AH0", "B AH0 N AE1 N AH0",
              "banana"),
    _phonemes("en", "Nguyen", "We said Nguyen the game.", "W IH1 N", "W IH1 N", "win|wynn"),
    _phonemes("en", "pecan", "She baked a pecan pie.", "pɪˈkɑːn", "P IH0 K AA1 N", "pecan", "ipa"),
    _phonemes("en", "Leicester", "They moved to Leicester in May.", "L EH1 S T ER0",
              "L EH1 S T ER0", "lester|leicester"),
    _phonemes("en", "tjokka", "He likes dark tjokka best.", 'tSA:k@l@t', "CH AA1 K AH0 L AH0 T",
              "chocolate", "x-sampa"),
    _words("en", "SQL", "The SQL was better than the first film.", "sequel", "sequel"),
    _words("en", "AWS", "The store runs on AWS.", "Amazon Web Services", "amazon web services"),
    _words("en", "kubectl", "Use kubectl to start it.", "cube control", "cube control"),
    _words("en", "Dr. Q", "Ask Dr. Q about it.", "Doctor Queen", "doctor queen|dr queen"),
    _words("en", "W3C", "The W3C made the rules.", "Web Council", "web council"),
    # Chinese
    _phonemes("zh", "六安", "我上个月去了六安旅游。", "lu4 an1", "l u4 AA an1", "lu an"),
    _phonemes("zh", "乐清", "他们明天坐车去乐清。", "yue4 qing1", "y ve4 q ing1", "yue qing"),
    _phonemes("zh", "蚌埠", "我的老家在蚌埠。", "beng4 bu4", "b eng4 b u4", "beng bu"),
    _phonemes("zh", "XQ", "我早上吃了一个XQ。", "ping2 guo3", "p ing2 g uo3", "ping guo"),
    _phonemes("zh", "重山", "我住在重山附近。", "chong2 shan1", "ch ong2 sh an1", "chong shan"),
    _phonemes("zh", "单老师", "单老师今天很高兴。", "shan4 lao3 shi1", "sh an4 l ao3 sh ir1",
              "shan lao shi"),
    _words("zh", "iPhone", "我昨天买了一部iPhone。", "苹果手机", "ping guo shou ji"),
    _words("zh", "GPU", "这台电脑没有GPU。", "显卡", "xian ka"),
    _words("zh", "K歌", "我们晚上一起去K歌。", "唱歌", "chang ge"),
    _words("zh", "B站", "这个视频在B站很火。", "哔哩网站", "bi li wang zhan"),
    # Japanese
    _kana("日本橋", "明日は日本橋に行きます。", "ニッポンバシ", "ニッポンバシ|ニホンバシ"),
    _kana("十三", "電車は十三に止まります。", "ジュウソウ", "ジュウソウ|ジューソー"),
    _kana("放出", "次の駅は放出です。", "ハナテン"),
    _kana("XQ", "朝ごはんにXQを食べました。", "リンゴ"),
    _kana("大和川", "夏に大和川で遊びました。", "ヤマトガワ"),
    _words("ja", "AWS", "会社はAWSを使っています。", "アマゾン", "アマゾン"),
    _words("ja", "PC", "新しいPCを買いました。", "パソコン", "パソコン"),
    _words("ja", "KY", "駅の前にKYがあります。", "公園", "コウエン|コーエン"),
    # Korean and Cantonese: there are no official weights here that could be heard
    _hangul("LG", "저는 LG를 좋아해요.", "엘지"),
    _words("ko", "BTS", "어제 BTS가 왔어요.", "방탄소년단"),
    _words("ko", "AI", "요즘 AI는 중요해요.", "인공지능"),
    _words("ko", "GPU", "새 GPU를 샀어요.", "그래픽 카드"),
    _hangul("넓죽", "넓죽은 곳이에요.", "넙쭉"),
    _hangul("SKT", "저는 SKT에 다녀요.", "에스케이티"),
    _phonemes("yue", "旺角", "我聽日去旺角買嘢。", "wong6 gok3", "Yw Yong6 Yg Yok3"),
    _phonemes("yue", "行李", "你嘅行李喺邊度？", "hang4 lei5", "Yh Yang4 Yl Yei5"),
    _phonemes("yue", "長洲", "我哋去長洲玩。", "coeng4 zau1", "Yc Yoeng4 Yz Yau1"),
    _phonemes("yue", "XQ", "我想食XQ。", "ping4 gwo2", "Yp Ying4 Ygw Yo2"),
    _words("yue", "iPhone", "佢買咗部iPhone。", "蘋果手機"),
    _words("yue", "GPU", "部電腦冇GPU。", "顯示卡"),
)  # fmt: skip


def read_lexicon(term: Term) -> Lexicon:
    document = {"schema": lexicon.SCHEMA, "entries": [term.entry]}
    return lexicon.parse(json.dumps(document).encode(), "table")


def annotate(term: Term, engine: str) -> str:
    spoken = kokoro.LANGUAGES if engine == "kokoro" else frozenset({"en", "ja", "ko", "yue", "zh"})
    return read_lexicon(term).annotate(term.sentence, term.language, "", spoken)


def phonemes(text: str, language: str, engine: str) -> str:
    """Return the symbols of GPT-SoVITS with spaces, or the phonemes of the embedded voice."""
    if engine == "kokoro":
        names = {number: symbol for symbol, number in kokoro_model.vocabulary().items()}
        pieces = kokoro.split_utterances(text, language)
        return "".join(names[token] for _, tokens in pieces for token in tokens)
    phrases = Frontend()(text, language)
    return " ".join(NAMES[i] for phrase in phrases for span in phrase for i in span.phones)


def is_said(term: Term, engine: str) -> bool:
    """Return whether an engine says the term as the table states."""
    said = phonemes(annotate(term, engine), term.language, engine)
    if term.said.startswith("="):
        other = term.sentence.replace(term.written, term.said[1:])
        return said == phonemes(other, term.language, engine)
    if engine == "gpt_sovits":
        return f" {term.said} " in f" {said} "
    if term.language == "en":
        return ipa_of_arpabet(term.said.split()) in said
    syllables = term.entry["phonemes"].split()
    return "".join(map(ipa_of_syllable, syllables)) in said


def engines_of(term: Term) -> Iterator[str]:
    yield "gpt_sovits"
    if term.language in kokoro.LANGUAGES:
        yield "kokoro"


def comparable(heard: str, language: str) -> str:
    """Return what whisper wrote as words, syllables without tones, or kana."""
    if language == "zh":
        from pypinyin import lazy_pinyin

        return " ".join(lazy_pinyin(re.sub(r"\W", "", heard)))
    if language == "ja":
        words = openjtalk.split_words(unicodedata.normalize("NFKC", heard))
        return "".join(word["pron"].replace("’", "") for piece in words for word in piece)
    return re.sub(r"[^a-z0-9 ]", "", heard.lower())


class Ears:
    """The embedded voice, unadapted, and whisper."""

    def __init__(self) -> None:
        from core.speech.recognise import Recogniser

        self._renderer = Renderer(
            kokoro_model.load(Settings.from_environ({}).cache, None, threads=1)
        )
        self._recogniser = Recogniser.load()

    def hear(self, text: str, language: str) -> str:
        timbre, prosody = styles.load().weights_of(PACKS[language]).tolist()
        params = VoiceParams(timbre=timbre, prosody=prosody)
        heard = []
        for _, tokens in kokoro.split_utterances(text, language):
            audio = self._renderer.render(tokens, params)
            heard.append(self._recogniser.transcribe(audio, language))
        return " ".join(heard)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--hear", action="store_true", help="speak and listen, too")
    asked = parser.parse_args()
    said = [(term, engine) for term in TERMS for engine in engines_of(term)]
    failed = [(term, engine) for term, engine in said if not is_said(term, engine)]
    for term, engine in failed:
        found = phonemes(annotate(term, engine), term.language, engine)
        print(f"{engine} {term.language} {term.written}: {found}, not {term.said}")
    print(f"{len(TERMS)} terms; as stated in {len(said) - len(failed)} of {len(said)} readings")
    if asked.hear:
        _listen()
    return 1 if failed else 0


def _listen() -> None:
    ears, right, before, count = Ears(), 0, 0, 0
    for term in TERMS:
        if not term.heard:
            continue
        with_it, without = (
            comparable(ears.hear(text, term.language), term.language)
            for text in (annotate(term, "kokoro"), term.sentence)
        )
        is_right, was_right = (bool(re.search(term.heard, text)) for text in (with_it, without))
        count, right, before = count + 1, right + is_right, before + was_right
        shown = "heard" if is_right else "MISSED"
        print(f"{shown} {term.language} {term.written}: {with_it} (without it: {without})")
    print(f"heard as stated: {right} of {count}, without the lexicon {before}")


if __name__ == "__main__":
    sys.exit(main())
