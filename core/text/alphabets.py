"""Phonemes that people write: ARPAbet, IPA and X-SAMPA for English, pinyin, jyutping, kana, hangul.

`read_phonemes` checks them and writes them in the one alphabet of their language that annotations
contain; `to_symbols` returns the symbols of GPT-SoVITS.

Sources: the International Phonetic Alphabet (2020); X-SAMPA (Wells 1995); CMUdict's ARPAbet;
the Jyutping scheme of the Linguistic Society of Hong Kong.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping

from core.errors import ExplainedError
from core.text.annotated import Annotation
from core.text.symbols import symbol_table

NATIVE: Mapping[str, str] = {
    "en": "arpabet",
    "zh": "pinyin",
    "yue": "jyutping",
    "ja": "kana",
    "ko": "hangul",
}
"""Language -> the alphabet in which its phonemes are kept."""
ALPHABETS = ("ipa", "x-sampa", *NATIVE.values())
OTHER_NAMES: Mapping[str, str] = {
    "cmu-arpabet": "arpabet", "x-arpabet": "arpabet", "x-cmu": "arpabet", "cmu": "arpabet",
    "x-amazon-pinyin": "pinyin", "x-pinyin": "pinyin",
    "x-amazon-jyutping": "jyutping", "x-jyutping": "jyutping",
    "x-amazon-pron-kana": "kana", "x-amazon-yomigana": "kana", "yomigana": "kana", "x-kana": "kana",
    "x-hangul": "hangul", "x-ipa": "ipa",
}  # fmt: skip
"""Names that other engines give to these alphabets."""
MAX_PHONEMES = 200
_TAGS = {"cmn": "zh", "zh-hk": "yue", "zh-yue": "yue", "zh-mo": "yue"}

_VOWELS = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW")
_CONSONANTS = frozenset(
    "B CH D DH F G HH JH K L M N NG P R S SH T TH V W Y Z ZH".split()  # noqa: SIM905
)
_ARPABET_OF_IPA = {
    "aɪ": "AY", "aɪ̯": "AY", "ai": "AY", "aʊ": "AW", "au": "AW", "ɔɪ": "OY", "oɪ": "OY", "eɪ": "EY",
    "ei": "EY", "oʊ": "OW", "ou": "OW", "əʊ": "OW", "ɪə": "IH R", "eə": "EH R", "ʊə": "UH R",
    "ɑ": "AA", "ɒ": "AA", "a": "AA", "æ": "AE", "ʌ": "AH", "ə": "AH", "ɐ": "AH", "ɔ": "AO",
    "ɛ": "EH", "e": "EH", "ɝ": "ER", "ɚ": "ER", "ɜɹ": "ER", "ɜr": "ER", "əɹ": "ER", "ər": "ER",
    "ɜ": "ER", "ɪ": "IH", "ɨ": "IH", "i": "IY", "o": "OW", "ʊ": "UH", "u": "UW", "ʉ": "UW",
    "y": "UW", "ø": "ER", "œ": "ER",
    "b": "B", "tʃ": "CH", "ʧ": "CH", "d": "D", "ð": "DH", "f": "F", "ɡ": "G", "h": "HH",
    "dʒ": "JH", "ʤ": "JH", "k": "K", "l": "L", "ɫ": "L", "m": "M", "n": "N", "ŋ": "NG", "p": "P",
    "ɹ": "R", "r": "R", "ɾ": "D", "s": "S", "ʃ": "SH", "t": "T", "θ": "TH", "v": "V", "w": "W",
    "ʍ": "W", "j": "Y", "z": "Z", "ʒ": "ZH", "ts": "T S", "x": "K", "ç": "HH", "l̩": "AH L",
    "n̩": "AH N", "m̩": "AH M", "ʔ": "",
}  # fmt: skip
"""English phonemes, and near ones for sounds of other languages in names."""
_IPA = re.compile(
    "|".join(map(re.escape, sorted(_ARPABET_OF_IPA, key=len, reverse=True))) + "|[ˈˌ]|."
)
_STRESS = {"ˈ": "1", "ˌ": "2"}
_SILENT_IPA = re.compile("[ː.ˑ‿|\\s\u0361\u035c\u02b0/\\[\\]]|(?<!^)-")
"""Length, syllable and tie marks, and aspiration, which English does not tell apart."""
_IPA_FORMS = str.maketrans({"g": "ɡ", "'": "ˈ", "ʹ": "ˈ", "’": "ˈ", "ˏ": "ˌ", ":": "ː"})
_IPA_OF_SAMPA = {
    "r\\": "ɹ", "@`": "ɚ", "3`": "ɝ", "l=": "l̩", "n=": "n̩", "m=": "m̩", "A": "ɑ", "{": "æ",
    "V": "ʌ", "@": "ə", "O": "ɔ", "E": "ɛ", "3": "ɜ", "I": "ɪ", "U": "ʊ", "Q": "ɒ", "D": "ð",
    "N": "ŋ", "S": "ʃ", "T": "θ", "Z": "ʒ", "4": "ɾ", "?": "ʔ", '"': "ˈ", "%": "ˌ", ":": "ː",
    "_h": "", "6": "ɐ", "}": "ʉ", "1": "ɨ", "2": "ø", "9": "œ", "C": "ç", "5": "ɫ", "W": "ʍ",
}  # fmt: skip
_SAMPA = re.compile("|".join(map(re.escape, sorted(_IPA_OF_SAMPA, key=len, reverse=True))))
_TONED = re.compile(r"[a-zü]+(?::[a-z]*)?[0-5]")
_PINYIN = re.compile(r"\s*('?[a-zü]+(?:u:[a-z]*)?[0-5])")
_MARKED_TONES = {"\u0304": "1", "\u0301": "2", "\u030c": "3", "\u0300": "4"}
_JYUTPING = re.compile(r"[a-z]+[1-6]")
_KANA = re.compile("[ぁ-ゖァ-ヺーｦ-ﾟ゛゜]+")
_HANGUL = re.compile("[가-힣]+(?: [가-힣]+)*")


def read_phonemes(written: str, phonemes: str, alphabet: str, language: str) -> Annotation:
    """Return the annotation that gives words these phonemes.

    Kana and hangul are kept as words, because their engines read them by context. Raises
    ExplainedError with what cannot be read.
    """
    native = NATIVE.get(language)
    if native is None or alphabet not in ALPHABETS:
        known = ", ".join(ALPHABETS)
        raise ExplainedError(f"There is no alphabet {alphabet!r} for {language}: use {known}.")
    if not phonemes.strip():
        raise ExplainedError("There are no phonemes.")
    if len(phonemes) > 10 * MAX_PHONEMES:
        raise ExplainedError(f"There are more than {MAX_PHONEMES} phonemes.")
    if alphabet in ("ipa", "x-sampa") and language == "en":
        ipa = _from_sampa(phonemes) if alphabet == "x-sampa" else phonemes
        read = _arpabet_of_ipa(ipa)
    elif alphabet == native:
        read = _READERS[native](unicodedata.normalize("NFC", phonemes).strip())
    else:
        raise ExplainedError(f"{alphabet} is not supported for {language}: use {native}.")
    if len(read.split()) > MAX_PHONEMES:
        raise ExplainedError(f"There are more than {MAX_PHONEMES} phonemes.")
    if native in ("kana", "hangul"):
        return Annotation(written, language, words=read)
    return Annotation(written, language, phonemes=read)


def language_of_tag(tag: str) -> str | None:
    """Return our code of a language tag (BCP 47), such as `zh-CN`; None for other languages."""
    whole, main = tag.lower(), tag.partition("-")[0].lower()
    name = _TAGS.get(whole) or _TAGS.get(main, main)
    return name if name in NATIVE else None


def to_symbols(phonemes: str, language: str) -> list[tuple[str, ...]]:
    """Return the symbols of GPT-SoVITS for each phoneme or syllable of an annotation.

    Raises Misconfigured MODEL_MISSING.
    """
    split = {"zh": _halves_of_pinyin, "yue": halves_of_jyutping}.get(language)
    return [split(each) if split else (each,) for each in phonemes.split()]


def _read_arpabet(text: str) -> str:
    phones = text.upper().split()
    for phone in phones:
        if phone not in _CONSONANTS and phone.rstrip("012") not in _VOWELS:
            raise ExplainedError(f"{phone} is not a phoneme of ARPAbet.")
        if phone not in _CONSONANTS and len(phone) > 3:
            raise ExplainedError(f"{phone} has more than one stress.")
    return _with_stress(phones)


def _with_stress(phones: list[str]) -> str:
    """Write each vowel with its stress. If none is stated, the first one has it."""
    is_stated = any(phone[-1] in "12" for phone in phones)
    written = []
    for phone in phones:
        if phone in _CONSONANTS or phone[-1].isdigit():
            written.append(phone)
        else:
            written.append(phone + ("0" if is_stated else "1"))
            is_stated = True
    return " ".join(written)


def _from_sampa(text: str) -> str:
    return _SAMPA.sub(lambda sound: _IPA_OF_SAMPA[sound[0]], text)


def _arpabet_of_ipa(text: str) -> str:
    text = unicodedata.normalize("NFD", text).translate(_IPA_FORMS)
    text = _SILENT_IPA.sub("", text.replace("\u0303", "").replace("\u032f", ""))
    phones: list[str] = []
    stress = ""
    for sound in _IPA.findall(text):
        if sound in _STRESS:
            stress = _STRESS[sound]
            continue
        if sound not in _ARPABET_OF_IPA:
            name = unicodedata.name(sound, "")
            raise ExplainedError(f"{sound} (U+{ord(sound):04X} {name}) has no English phoneme.")
        for phone in _ARPABET_OF_IPA[sound].split():
            is_vowel = phone in _VOWELS
            phones.append(phone + stress if is_vowel else phone)
            stress = "" if is_vowel else stress
    if not phones:
        raise ExplainedError("There are no phonemes.")
    return _with_stress(phones)


def _read_pinyin(text: str) -> str:
    syllables = []
    for word in text.lower().replace("u:", "ü").replace("v", "ü").split():
        word = _tones_to_digits(word)
        parts = _TONED.findall(word)
        if "".join(parts) != word.replace("'", ""):
            raise ExplainedError(f"{word} is not pinyin with tones, such as `zhong1 guo2`.")
        syllables += [_check_pinyin(part) for part in parts]
    return " ".join(syllables)


def _tones_to_digits(syllable: str) -> str:
    """Write the tone of a syllable with a mark, `chóng`, as a digit; without one it is neutral."""
    if syllable[-1:].isdigit():
        return syllable
    letters = unicodedata.normalize("NFD", syllable)
    tones = [tone for mark, tone in _MARKED_TONES.items() if mark in letters]
    plain = "".join(char for char in letters if char not in _MARKED_TONES)
    return unicodedata.normalize("NFC", plain) + (tones[0] if len(tones) == 1 else "5")


def _check_pinyin(syllable: str) -> str:
    syllable = syllable.replace("ü", "v").replace("0", "5")
    if syllable[0] in "jqxy" and syllable[1] == "v":
        syllable = syllable[0] + "u" + syllable[2:]
    halves = _halves_of_pinyin(syllable)
    if not all(half in symbol_table() for half in halves) or "UNK" in halves:
        raise ExplainedError(f"{syllable} is not a syllable of Mandarin.")
    return syllable


def _halves_of_pinyin(syllable: str) -> tuple[str, ...]:
    from pypinyin.contrib.tone_convert import to_finals_tone3, to_initials

    from core.text.zh import phones_of_syllable  # loads dictionaries

    final = to_finals_tone3(syllable, neutral_tone_with_five=True)
    if not final or not final[-1].isdigit():
        return ("UNK",)
    return tuple(phones_of_syllable(to_initials(syllable), final))


def _read_jyutping(text: str) -> str:
    for syllable in (syllables := text.lower().split()):
        is_known = _JYUTPING.fullmatch(syllable) and all(
            half in symbol_table() for half in halves_of_jyutping(syllable)
        )
        if not is_known:
            raise ExplainedError(f"{syllable} is not a syllable of jyutping, such as `hoeng1`.")
    return " ".join(syllables)


def _read_kana(text: str) -> str:
    kana = unicodedata.normalize("NFKC", text).replace(" ", "")
    if not _KANA.fullmatch(kana):
        raise ExplainedError(f"{text} contains more than kana.")
    return "".join(chr(ord(c) + 0x60) if "ぁ" <= c <= "ゖ" else c for c in kana)


def _read_hangul(text: str) -> str:
    if not _HANGUL.fullmatch(text):
        raise ExplainedError(f"{text} contains more than hangul.")
    return text


_READERS: Mapping[str, Callable[[str], str]] = {
    "arpabet": _read_arpabet,
    "pinyin": _read_pinyin,
    "jyutping": _read_jyutping,
    "kana": _read_kana,
    "hangul": _read_hangul,
}
_INITIALS = (  # noqa: SIM905
    "aa aai aak aap aat aau ai au ap at ak a p b e ts t dz d kw k gw g f h l m ng n s y w c z j "
    "ong on ou oi ok o uk ung"
).split()
"""The first match is taken even if a longer one follows: GPT-SoVITS was trained that way."""


def halves_of_jyutping(syllable: str) -> tuple[str, str]:
    """Split `hou2` into `Yh` and `You2`; a syllable without a final repeats its last letter."""
    plain, tone = syllable[:-1], syllable[-1]
    initial = next((start for start in _INITIALS if plain.startswith(start)), plain)
    if plain.startswith("nga"):
        initial = "ng"
    final = plain[len(initial) :] or initial[-1]
    return f"Y{initial}", f"Y{final}{tone}"
