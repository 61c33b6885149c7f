"""The statement of consent, to be read aloud or signed by the person whose voice it is.

Written in the languages that voicedrop speaks; whoever speaks another one reads it in English.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

FALLBACK = "en"
_PRONOUNS = frozenset({"i", "me", "myself", "我", "本人", "私", "나", "저", "본인"})
"""What people write in place of their name, which a sentence in the first person does not need."""


class _Wording(NamedTuple):
    named: str
    """The subject of the sentence, with the person's name."""
    unnamed: str
    granted: str
    """The agreement that somebody else uses the voice."""
    own: str
    """The agreement of a person who uses the voice alone."""
    synthesis: str
    """The usual purpose."""
    bounded: str
    unbounded: str
    date: str
    comma: str
    """Between purposes."""
    last: str
    """Before the last purpose."""


_WORDINGS = {
    "en": _Wording(
        named="I, {name}, ",
        unnamed="I ",
        granted="agree that {controller} may use recordings of my voice to make and use synthetic "
        "speech that sounds like me, for these purposes: {purposes}. ",
        own="confirm that the recorded voice is my own, and agree that it is used to make "
        "synthetic speech that sounds like me, for these purposes: {purposes}. ",
        synthesis="speech synthesis",
        bounded="This holds from {start} until {end}. I can withdraw it at any time.",
        unbounded="This holds from {start} until I withdraw it, which I can do at any time.",
        date="{0.day} {0:%B} {0.year}",
        comma=", ",
        last=" and ",
    ),
    "zh": _Wording(
        named="本人{name}",
        unnamed="本人",
        granted="单独同意{controller}使用本人的声音录音，合成与本人声音相似的语音并予以使用，用途限于："
        "{purposes}。",
        own="确认录音中是本人的声音，同意将其用于合成与本人声音相似的语音，用途限于：{purposes}。",
        synthesis="语音合成",
        bounded="有效期自{start}至{end}。本人可以随时撤回本同意。",
        unbounded="本同意自{start}起生效，直至本人撤回为止。本人可以随时撤回本同意。",
        date="{0.year}年{0.month}月{0.day}日",
        comma="、",
        last="、",
    ),
    "yue": _Wording(
        named="本人{name}",
        unnamed="本人",
        granted="單獨同意{controller}使用本人的聲音錄音，合成與本人聲音相似的語音並予以使用，用途限於："
        "{purposes}。",
        own="確認錄音中是本人的聲音，同意將其用於合成與本人聲音相似的語音，用途限於：{purposes}。",
        synthesis="語音合成",
        bounded="有效期由{start}至{end}。本人可以隨時撤回本同意。",
        unbounded="本同意由{start}起生效，直至本人撤回為止。本人可以隨時撤回本同意。",
        date="{0.year}年{0.month}月{0.day}日",
        comma="、",
        last="、",
    ),
    "ja": _Wording(
        named="私、{name}は、",
        unnamed="私は、",
        granted="{controller}が私の声の録音を使用し、私の声に似た合成音声を作成して利用することに同意します。"
        "利用目的は次のとおりです：{purposes}。",
        own="録音された声が私自身の声であることを確認し、私の声に似た合成音声の作成に使用することに同意します。"
        "利用目的は次のとおりです：{purposes}。",
        synthesis="音声合成",
        bounded="この同意は{start}から{end}まで有効です。私はいつでもこの同意を撤回できます。",
        unbounded="この同意は{start}から、私が撤回するまで有効です。私はいつでもこの同意を撤回できます。",
        date="{0.year}年{0.month}月{0.day}日",
        comma="、",
        last="、",
    ),
    "ko": _Wording(
        named="본인 {name}{topic} ",
        unnamed="본인은 ",
        granted="{controller}{subject} 본인의 음성 녹음을 사용하여 본인의 목소리와 비슷한 "
        "합성 음성을 만들고 이용하는 데 동의합니다. 이용 목적은 다음과 같습니다: {purposes}. ",
        own="녹음된 목소리가 본인의 목소리임을 확인하며, 본인의 목소리와 비슷한 합성 음성을 "
        "만드는 데 사용하는 것에 동의합니다. 이용 목적은 다음과 같습니다: {purposes}. ",
        synthesis="음성 합성",
        bounded="이 동의는 {start}부터 {end}까지 유효합니다. "
        "본인은 언제든지 이 동의를 철회할 수 있습니다.",
        unbounded="이 동의는 {start}부터 본인이 철회할 때까지 유효합니다. "
        "본인은 언제든지 이 동의를 철회할 수 있습니다.",
        date="{0.year}년 {0.month}월 {0.day}일",
        comma=", ",
        last=", ",
    ),
}
LANGUAGES = tuple(_WORDINGS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What a statement says."""

    name: str
    """Of the person, who says "I"."""
    controller: str
    """Who makes and uses the voice; empty: the person alone."""
    purposes: list[str]
    start: datetime
    end: datetime | None = None
    """None: until it is withdrawn."""

    def write(self, language: str) -> str:
        """Return the statement in a language of voicedrop, in English for any other."""
        wording = _WORDINGS.get(language, _WORDINGS[FALLBACK])
        is_named = self.name.strip().casefold() not in _PRONOUNS
        text = wording.named if is_named else wording.unnamed
        text += wording.granted if self.controller else wording.own
        text += wording.bounded if self.end else wording.unbounded
        return text.format(
            name=self.name,
            controller=self.controller,
            purposes=_join(self.purposes, wording),
            start=wording.date.format(self.start),
            end=wording.date.format(self.end) if self.end else "",
            topic=_particle(self.name, "은", "는"),
            subject=_particle(self.controller, "이", "가"),
        )


def name_synthesis(language: str) -> str:
    """Return the usual purpose, as it is written into a statement in this language."""
    return _WORDINGS.get(language, _WORDINGS[FALLBACK]).synthesis


def _join(words: list[str], wording: _Wording) -> str:
    before = wording.comma.join(words[:-1])
    return before + wording.last + words[-1] if before else words[-1]


def _particle(word: str, after_consonant: str, after_vowel: str) -> str:
    """Return the form of a Korean particle that follows a word; both for a word in another script,
    as is usual in writing."""
    last = ord(word[-1]) - 0xAC00 if word else -1
    if not 0 <= last < 11172:
        return f"{after_consonant}({after_vowel})"
    return after_consonant if last % 28 else after_vowel
