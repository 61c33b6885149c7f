"""What counts as spoken of a text is what the front ends of both engines read, in each language.

    python -m tests.acceptance.languages [--texts 20000] [--seed 0]

Every assigned letter, digit and symbol of Unicode, and texts that mix scripts at random, are read
by the front end, and counted by `core.text.spoken`: the two must agree.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import unicodedata
from collections.abc import Iterable

from core.text.spoken import FrontEnd, Run, count_in_rows
from core.text.symbols import symbol_ids
from core.voice.gpt_sovits.frontend import Frontend
from core.voice.kokoro import text as kokoro
from core.voice.kokoro.text import KokoroFrontend, chinese, english, japanese

PAUSES = set(symbol_ids([*"!?…,.-_[]停空", "SP", "SP2", "SP3", "UNK"]))
READERS = {"en": english.phonemise, "ja": japanese.phonemise, "zh": chinese.phonemise}
SOUND = re.compile(r"[^\W\dˈˌːʰʲᵝʔ]")
"""A letter of the phonetic alphabet; signs of stress, length and articulation, and a stop, have no
sound of their own."""
WORD = re.compile(r"\w")
"""A text without it is not read at all."""
_ENGINES: dict[str, FrontEnd] = {"gpt_sovits": Frontend(), "kokoro": KokoroFrontend()}
FRONT_ENDS: dict[str, tuple[FrontEnd, str]] = {
    f"{name}-{language}": (front_end, language)
    for name, front_end in _ENGINES.items()
    for language in sorted(front_end.languages)
}
PIECES = (  # noqa: SIM905
    "a we park naïve Ærø ß ﬁ ＡＢ ｆ 𝐇𝐢 don't Wi-Fi U.S. é e\u0301 www.a.com/b?c=1 a@1.2 x123 qzxv "
    "今天 天气 東京 㐂 々 〇 十 二頻検不押洋 人々 の カタカナ きょう ー っ ・ ・きょう ゛ ｱｲ ゟゟ "
    "&#20170;&#22825; &#x3042; &eacute; <b> <!--天--> "
    "안녕 ㅋㅋ ㄅㄆ я θ ə ɑ ไทย 1 25 3.5% -7 ٣ ½ ² Ⅷ ① $5 5kg km/h 3×4=12 + = & % @ # → "
    "。 ， . , ! … — - ' ’ “ ” ( 」 \n \n\n"
).split(" ")


def read(name: str, text: str) -> set[Run]:
    """Return the runs for which a front end gives phonemes, with their languages."""
    front_end, language = FRONT_ENDS[name]
    if isinstance(front_end, Frontend):
        spans = [span for phrase in front_end(text, language) for span in phrase]
        spoken = {(s.language, s.written) for s in spans if not PAUSES.issuperset(s.phones)}
    else:
        is_read = any(kokoro.split_utterances(text, language))
        runs = front_end.read_runs(text, language)
        spoken = {run for run in runs if is_read and SOUND.search(READERS[run[0]](run[1]))}
    return _comparable(spoken)


def count(name: str, text: str) -> set[Run]:
    """Return the runs in which something counts, with their languages."""
    front_end, language = FRONT_ENDS[name]
    runs = front_end.split_by_language(text, language)
    return _comparable({run for run in runs if count_in_rows([run], language, front_end)})


def _comparable(runs: set[Run]) -> set[Run]:
    """Without the full stop that GPT-SoVITS puts before a short phrase, and without the text if all
    of it is in one language, because it is then counted before it is cut into phrases."""
    languages = {language for language, _ in runs}
    if len(languages) < 2:
        return {(language, "") for language in languages}
    return {(language, run.strip("。 \n")) for language, run in runs}


def characters() -> list[str]:
    """Return every letter, digit and symbol."""
    return [c for c in map(chr, range(0x110000)) if unicodedata.category(c)[0] in "LNS"]


def mixed_texts(number: int, seed: int = 0) -> Iterable[str]:
    rng = random.Random(seed)
    for _ in range(number):
        pieces = rng.choices([*PIECES, _random_han(rng)], k=rng.randint(1, 12))
        yield "".join(piece + rng.choice(("", " ")) for piece in pieces).strip()


def _random_han(rng: random.Random) -> str:
    return "".join(chr(rng.randrange(0x4E00, 0xA000)) for _ in range(rng.randint(1, 6)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=20_000, help="mixed texts for each front end")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    bad = 0
    for name in FRONT_ENDS:
        texts = [*characters(), *mixed_texts(args.texts, args.seed)]
        for text in filter(WORD.search, texts):
            counted, spoken = count(name, text), read(name, text)
            if counted != spoken:
                bad += 1
                print(f"{name} {text!r}: counted {counted}, spoken {spoken}", flush=True)
        print(f"{name}: {len(texts)} texts, {bad} bad so far", flush=True)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
