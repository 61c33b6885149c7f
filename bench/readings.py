"""How many texts are read as expected, by kind, in the engine that each case names.

    python -m bench.readings [CASES] [--kind PART] [--all]

CASES is a file of JSON lines with `kind`, `language`, `engine`, `input` and `expected`: the words
as spoken, or a reading in pinyin, kana or a respelling. Alternatives are separated by `or`; remarks
in parentheses do not count, and neither do space, case, punctuation, stress and pitch. Chinese is
compared by words, unless a case expects pinyin; English and Japanese by phonemes, because spelling
does not show how a word is read.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from core.errors import JobError
from core.text.en_g2p import predict_arpabet
from core.text.spoken import check_speakable
from core.text.symbols import symbol_table
from core.text.zh import phones_of_syllable
from core.voice.gpt_sovits.frontend import Frontend
from core.voice.kokoro import text as kokoro
from core.voice.kokoro.text.chinese import ipa_of_syllable

CASES = Path(__file__).parents[1] / "../shared/cases/readings-and-files.jsonl"
OTHER_KINDS = ("speed", "files", "dry run")
"""Beginnings of kinds that are not about readings."""
SAME = {"摄氏度": "度", "公斤": "千克", "幺": "一"}
"""Words for which another one is as correct."""
LETTERS = {"ay": "A", "em": "M"}
RESPELLED = {
    "liv": ("L IH V", "lɪv"),
    "wynd": ("W AY N D", "wInd"),
    "my-newt": ("M AY N UW T", "mInut"),
}
"""Respellings that no dictionary has: their ARPAbet, and Kokoro's phonemes."""
_NO_SOUND = frozenset("!?…,.-_[]停空") | {"UNK", "SP", "SP2", "SP3"}


class Reading:
    """What an engine makes of a text."""

    def __init__(self, engine: str, text: str, language: str) -> None:
        self.sentences: list[str] = []
        self.phones: list[str] = []
        if engine == "kokoro":
            for sentence in kokoro.read_sentences(text, language):
                self.sentences.append(sentence.spoken)
                for _, phones in sentence.runs:
                    self.phones += [
                        c for c in phones if unicodedata.category(c)[0] == "L" or c in "→↗↓↘"
                    ]
        else:
            names = {number: symbol for symbol, number in symbol_table().items()}
            for phrase in Frontend()(text, language):
                self.sentences.append("".join(span.text + " " for span in phrase))
                self.phones += [names[p] for span in phrase for p in span.phones]
            self.phones = [p for p in self.phones if p not in _NO_SOUND]
        self.words = normalise(" ".join(self.sentences))


def normalise(words: str) -> str:
    """Return letters and digits only, with one spelling where several are as correct."""
    for one, other in SAME.items():
        words = words.replace(one, other)
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", words).casefold()))


@cache
def read(engine: str, text: str, language: str) -> Reading:
    return Reading(engine, text, language)


def unstressed(phones: list[str]) -> list[str]:
    plain = (re.sub("[0-2ˈˌːʰ]", "", phone) for phone in phones)
    same = {"ɐ": "ə", "ʊ": "u", "ᵊ": "", "ᵻ": "ɪ", "T": "t", "ɾ": "t", "AH": "AX", "IH": "AX"}
    return [same.get(phone, phone) for phone in plain if same.get(phone, phone)]


def distance(part: list[str], whole: list[str]) -> int:
    """Return the least number of changes that make `part` a part of `whole` (Sellers 1980)."""
    row = [0] * (len(whole) + 1)
    for i, one in enumerate(part, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(whole, 1):
            before, row[j] = row[j], min(before + (one != other), row[j] + 1, row[j - 1] + 1)
    return min(row)


def alternatives(expected: str) -> Iterator[str]:
    plain = re.sub(r"\([^)]*\)", "", expected)
    plain = re.sub(r" as one word$| by their names$|, in Chinese$| spoken\b", "", plain)
    yield from filter(None, (one.strip(" ,;") for one in re.split(r",? or ", plain)))


def is_as_expected(case: dict[str, str]) -> bool:
    engine, language, expected = case["engine"], case["language"], case["expected"]
    if re.search(r"\ba (?:remark|refusal)\b", expected):
        front_end = kokoro.KokoroFrontend() if engine == "kokoro" else Frontend()
        try:
            if check_speakable(case["input"], language, front_end):
                return True
        except JobError:
            return True
    reading = read(engine, case["input"], language)
    if "one sentence;" in expected:
        return len(reading.sentences) == 1 and "questionmark" in reading.words
    if expected.endswith("as one word"):
        word = expected.split()[0]
        guess = unstressed(list(predict_arpabet(word)))
        return distance(guess, unstressed(reading.phones)) <= 0.4 * len(guess)
    whole = case["kind"].startswith("markup")
    return any(
        _matches(
            one, reading, engine, language, whole=whole, as_amounts="or as amounts" in expected
        )
        for one in alternatives(expected)
    )


def _matches(
    expected: str, reading: Reading, engine: str, language: str, *, whole: bool, as_amounts: bool
) -> bool:
    if re.fullmatch(r"(?:[a-zü]+[1-5] ?)+", expected):
        spoken = " ".join(reading.phones) if engine == "gpt_sovits" else "".join(reading.phones)
        return all(_syllable(engine, pinyin) in spoken for pinyin in expected.split())
    if language in ("zh", "yue", "ko") and not expected.isascii():
        if as_amounts:
            expected = re.sub("[零一二三四五六七八九]+", " ", expected)
        at = 0
        for part in re.split(r"[\s,，]+", expected):
            at = reading.words.find(normalise(part), at) + 1
            if not at:
                return False
        return True
    if expected in RESPELLED:
        arpabet, ipa = RESPELLED[expected]
        part = unstressed(arpabet.split() if engine == "gpt_sovits" else list(ipa))
    else:
        spoken_in = "ja" if language == "ja" else "en"
        part = unstressed(_phones_of_words(engine, expected, spoken_in))
    heard = unstressed(reading.phones)
    changes = distance(part, heard)
    allowed = len(part) // (9 if language == "ja" else 17)
    return changes <= allowed and (not whole or len(heard) <= len(part) + 1)


def _phones_of_words(engine: str, words: str, language: str) -> list[str]:
    if language == "en":
        words = " ".join(LETTERS.get(word, word) for word in words.split(" "))
        lead = read(engine, "plan", "en").phones  # so that a capital A is no article
        return read(engine, "plan " + words, "en").phones[len([p for p in lead if p != ","]) :]
    return [phone for part in words.split() for phone in read(engine, part, language).phones]


def _syllable(engine: str, pinyin: str) -> str:
    from pypinyin.contrib.tone_convert import to_finals_tone3, to_initials

    if engine == "kokoro":
        ipa = ipa_of_syllable(pinyin)
        return "".join(c for c in ipa if unicodedata.category(c)[0] == "L" or c in "→↗↓↘")
    final = to_finals_tone3(pinyin, neutral_tone_with_five=True)
    return " ".join(phones_of_syllable(to_initials(pinyin), final))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="?", type=Path, default=CASES)
    parser.add_argument("--kind", default="", help="only kinds that contain this")
    parser.add_argument("--all", action="store_true", help="print what was read right as well")
    args = parser.parse_args()
    if not args.cases.is_file():
        print(f"{args.cases} is not there: name a file of cases.", file=sys.stderr)
        return 2
    rows = [json.loads(line) for line in args.cases.read_text("utf-8").splitlines()]
    rows = [row for row in rows if args.kind in row["kind"]]
    right: Counter[str] = Counter()
    total: dict[str, int] = defaultdict(int)
    for row in rows:
        if row["kind"].startswith(OTHER_KINDS):
            continue
        total[row["kind"]] += 1
        try:
            good = is_as_expected(row)
        except Exception as exc:  # a crash is a finding of its kind
            good = False
            print(f"{row['engine']} {row['input']!r}: {type(exc).__name__}: {exc}")
        right[row["kind"]] += good
        if not good or args.all:
            reading = read(row["engine"], row["input"], row["language"])
            print(
                f"{'ok  ' if good else 'FAIL'} {row['engine']} {row['language']} {row['input']!r}"
            )
            print(f"     expected {row['expected']!r}")
            print(f"     read {reading.sentences} {' '.join(reading.phones)}")
    for kind, count in total.items():
        print(f"{right[kind]:4d} of {count:3d}  {kind}")
    others = len(rows) - sum(total.values())
    print(f"{right.total():4d} of {sum(total.values()):3d}; {others} are not about readings")
    return int(right.total() < 0.95 * sum(total.values()))


if __name__ == "__main__":
    sys.exit(main())
