"""Japanese words that OpenJTalk's dictionary lacks or reads wrongly are written in kana."""

from __future__ import annotations

import re

_WORDS = {
    "滑舌": "かつぜつ", "声高々": "こわだかだか", "鬼滅の刃": "きめつのやいば", "呆れ": "あきれ",
    "嗤": "わら", "美味し": "おいし", "煌め": "きらめ", "囁": "ささや", "拗ら": "こじら",
    "呟": "つぶや", "頷": "うなず", "佇": "たたず", "俯": "うつむ", "喚": "わめ", "喘": "あえ",
    "睨": "にら", "蠢": "うごめ", "嘯": "うそぶ", "綻": "ほころ", "靡": "なび", "弄る": "いじる",
    "誑か": "たぶらか", "唆": "そそのか", "彷徨う": "さまよう", "彷徨っ": "さまよっ",
    "彷徨い": "さまよい", "跪": "ひざまず", "躓": "つまず", "蹲": "うずくま",
    "慮る": "おもんぱかる", "早急": "さっきゅう", "重複": "ちょうふく",
    "呪術廻戦": "じゅじゅつかいせん", "禰豆子": "ねずこ", "他人事": "ひとごと", "間髪": "かんはつ",
    "払拭": "ふっしょく", "眩し": "まぶし", "眩暈": "めまい", "蒲公英": "たんぽぽ", "百合": "ゆり",
    "二十歳": "はたち", "汚れ": "よごれ", "汚す": "よごす", "汚し": "よごし", "喧嘩": "けんか",
    "明後日": "あさって",
}  # fmt: skip
_IN_CONTEXT = (
    ("(?<![その自排利])他(?=の|に(?!人)|は|と(?!人)|を|も|が|、)", "ほか"),
    ("(?<=[くにて、。])出せ(?![たるば])|(?<=[くにて])出せば", "だせ"),
    ("辛(?=い?(?:カレー|ラーメン|料理|味|もの|スープ|麻婆|ソース|鍋|キムチ))|激辛", "から"),
    ("角(?=を曲|に立|の店|のところ)", "かど"),
    ("(?<=[鹿牛羊鬼獣]の)角", "つの"),
    ("分別(?=ゴミ|ごみ|収集|回収|して捨|し、?捨)", "ぶんべつ"),
    ("(?<![一-龥])身体(?=[がのをにもは])", "からだ"),
    ("(?<=[席屋間穴手]が)空(?=[いくけ])", "あ"),
    ("表(?=に出|へ出|で遊|に飛)", "おもて"),
    ("最中(?=を食|が好|アイス|の皮)", "もなか"),
    ("(?<=[がはも])開いた(?=[。、])", "ひらいた"),
)  # fmt: skip
_DAYS = dict(zip("月火水木金土日", "げつ か すい もく きん ど にち".split(), strict=True))  # noqa: SIM905
_WEEK = re.compile(
    "(?<![一-龥々])[月火水木金土日](?:[・、/][月火水木金土日])+(?:曜日|曜)?(?![一-龥々])"
    "|(?<=[(（])[月火水木金土日](?=[)）])"
)
_PATTERN = re.compile("|".join(map(re.escape, sorted(_WORDS, key=len, reverse=True))))
_CONTEXT = [(re.compile(pattern), kana) for pattern, kana in _IN_CONTEXT]


def write_in_kana(text: str) -> str:
    """Return Japanese text with the words that are read wrongly otherwise in kana: `月・火` is the
    list of days げつ・か."""
    text = _WEEK.sub(_days, text)
    for pattern, kana in _CONTEXT:
        text = pattern.sub(kana, text)
    return _PATTERN.sub(lambda word: _WORDS[word[0]], text)


def _days(match: re.Match[str]) -> str:
    spoken = "".join(
        _DAYS.get(char, char) for char in match[0].removesuffix("曜日").removesuffix("曜")
    )
    if match[0].endswith("曜日") or len(match[0]) == 1:  # (月) after a date
        return spoken + "ようび"
    return spoken + ("よう" if match[0].endswith("曜") else "")
