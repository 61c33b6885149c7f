"""The readings of Chinese words: polyphones by grammar and context, names, and the dictionary.

Both engines use them; each of them writes the syllables in its own alphabet.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from core.text import zh_words
from core.text.zh_sandhi import Word

_COUNTER = re.compile("(?<=[一二三四五六七八九十百千万两几每数这那])只(?![有是能要会好得不想在])")
"""Where 只 is the measure word zhī and not zhǐ, "only"."""
_NUMERALS = frozenset("零一二三四五六七八九十百千万两半负约")
_MEASURED = frozenset("率度量额数价值径积高长宽重龄果比计距离速温")

_IN_CONTEXT = (
    ("还(?=款|钱|清|债|贷|账|书[，。！？吧了]|本付|愿|礼|击|价|给)|(?<=[借归偿奉返退])还", "huan2"),
    ("(?<![班校部局院市县区镇乡村家社处科组队团连排营会店所台站厂船机董行兵首州省酋师学生成增助])"
     "长(?=约?[零一二三四五六七八九十百两几][^年月岁])", "chang2"),
    ("(?<=[路河线绳桥队街巷裤袖腿尾藤])长(?=得(?!多大|高|快|好|壮|像|胖|瘦|帅|漂|美))", "chang2"),
    ("长(?=得(?:离谱|要命|不得了|惊人|没边|吓人|望不到))", "chang2"),
    ("(?<=[我你您他她它们咱谁])得(?=[系赶马先好去想看靠问让把给回走请用花要加注小记早多再在跟和对]"
     "(?!好评|多少))", "dei3"),
    ("系(?=上|紧|好(?:鞋|安|领|围|腰|扣)|着(?:鞋|领|围|腰|红|丝|蝴|绳)|鞋带|领带|安全带|红领巾|围[巾裙]|"
     "腰带|扣|在腰|蝴蝶结|绳|个结)", "ji4"),
    ("(?<=[果肉杏桃鹿枣梨])脯", "fu3"),
    ("(?<=[被遭自惊获])曝|曝(?=光|出|料|婚|恋|离|遭)", "bao4"),
    ("背(?=着(?:书?包|孩|走|跑|行|柴|妹|弟|奶|爷|老|东西|竹|筐|她走|他走|我走|人)|起(?:书?包|行|孩|他|她|我|柴)"
     "|书包|包袱|负|黑锅|债|上(?:书?包|行))", "bei1"),
    ("(?<!押)(?<!浑身)解(?=[法题答释决开除放雇析读说体散冻渴毒脱围剖救药码])", "jie3"),
    ("(?<=[在要会去来先着你我他])和(?=泥|面[，。！？团]|馅)|^和(?=面[，。！？]|馅)", "huo2"),
    ("和(?=稀泥)", "huo4"),
    ("重(?=做|写|考|传|录|算|买|连|启|装|拍|申|填|印|选|修旧|新|来一)", "chong2"),
    ("数(?=一数|数看|着|不清|不过来|到[一二三四五六七八九十百千]|钱|星星|羊)", "shu3"),
    ("炸(?=鸡|薯|酱|油条|串|丸|春卷|糕|鱼|虾|猪排|豆腐|物)", "zha2"),
    ("(?<=[很太更最好真越又])薄(?!弱|情|待|利|命)|薄(?=[片饼板冰被纸脆]|的一?[层张片])", "bao2"),
    ("露(?=馅|脸|一手|怯|马脚)", "lou4"),
    ("落(?=在(?:家|车|教室|办公室|出租|地铁|酒店|桌)|下(?:东西|钥匙|手机|作业|课))", "la4"),
    ("量(?=体温|身高|血压|尺寸|一量|体重|体裁|了量|腰围)", "liang2"),
    ("(?<=[别不往])冲(?=[我你他她])|冲(?=着[我你他她镜这那])", "chong4"),
    ("扇(?=风|耳光|了(?:他|她|我|你)|巴掌|动)", "shan1"),
    ("钉(?=上|在|住|扣|好|死|钉子)", "ding4"),
    ("倒(?=水|茶|垃圾|退|车|数|立|影|挂|酒|给|杯|掉|也是?|是|挺|不如)", "dao4"),
    ("尽(?=管|早|快|量|可能)", "jin3"),
    ("(?<=[自列别外])传(?!统|播|达|说|来|给|奇)|传(?=记)", "zhuan4"),
    ("奔(?=着|小康|向.{0,3}生活)|(?<=投)奔", "ben4"),
    ("吐(?=了(?!气|舌|槽|露|口)|血|得|出来)|(?<=[呕想要])吐(?!槽|露|字|气|司)", "tu4"),
    ("(?<=[投劝招诱受])降|降(?=服|伏|龙)", "xiang2"),
    ("着(?=火|凉|急|迷|魔|了魔)", "zhao2"),
    ("(?<=[睡找点够逮])着(?=[了。，！？吗])", "zhao2"),
    ("(?<=[子儿孩他她我你您])挣(?=钱|了)|挣(?=钱|脱)", "zheng4"),
    ("给(?=予|养)|(?<=[供补自])给(?=[，。！？的自足线站])", "ji3"),
    ("称(?=职|心)|(?<=[对匀])称", "chen4"),
    ("兴(?=奋|起|建|办|旺|盛|衰|许|亡)", "xing1"),
    ("卡(?=住|在|壳|脖|口|了壳)", "qia3"),
)  # fmt: skip
_FIXED = [(re.compile(pattern), reading) for pattern, reading in _IN_CONTEXT]

_SURNAMES = {
    "曾": "zeng1", "任": "ren2", "仇": "qiu2", "单": "shan4", "解": "xie4", "查": "zha1",
    "朴": "piao2", "翟": "zhai2", "华": "hua4", "乐": "yue4", "缪": "miao4", "覃": "qin2",
    "褚": "chu3", "冼": "xian3", "燕": "yan1", "纪": "ji3", "隗": "wei3", "繁": "po2",
    "盛": "sheng4", "卜": "bu3", "晁": "chao2", "牟": "mu4", "俞": "yu2", "谌": "chen2",
    "逄": "pang2", "訾": "zi1", "瞿": "qu2", "盖": "ge3", "区": "ou1",
}  # fmt: skip
_IN_NAMES = frozenset("曾任仇单解朴翟华缪覃褚冼燕纪隗查俞谌逄瞿晁卜牟盛")
"""Surnames that are read so in every word that is the name of a person. The others are so common in
other words and in foreign names that a title has to follow."""
_NO_NAME = re.compile(
    "查[理尔士德克]|华[莱盛丽夏人]|任[何意]|曾[经孙]|朴[素实]|单[纯独车]|纪[念律]|盛[大开]|繁荣"
)
_TITLE = (
    "(?:先生|女士|小姐|太太|夫人|老师|教授|医生|大夫|护士|主任|同学|同志|经理|局长|校长|院长|部长|市长|县长|书记|"
    "处长|科长|队长|师傅|警官|律师|博士|董事长|导演|总监|总(?=[，。！？说的在])|某|氏|工(?=[，。！？说]))"
)
_TITLED = re.compile(
    f"(?<![担现历连上前升改兼聘出就责曾调留后继离孤姓地市校片社园])(?P<name>[{''.join(_SURNAMES)}])(?={_TITLE})"
)
_NAMED = re.compile(f"(?<=姓)(?P<name>[{''.join(_SURNAMES)}])")
_COMPOUND_NAMES = {
    "尉迟": ("yu4", "chi2"), "万俟": ("mo4", "qi2"), "令狐": ("ling2", "hu2"),
    "长孙": ("zhang3", "sun1"), "澹台": ("tan2", "tai2"), "单于": ("chan2", "yu2"),
}  # fmt: skip
_COMPOUND_NAME = re.compile("|".join(_COMPOUND_NAMES))


def read_words(clause: str, words: Iterable[Word]) -> Iterator[tuple[Word, list[str]]]:
    """Yield the words of a clause with the reading of each character, the tone last (5: neutral).

    `words`: joined, they are the clause.
    """
    in_context = zh_words.to_pinyin(clause)
    decided = _decided_by_context(clause)
    at = 0
    for word in words:
        end = at + len(word.text)
        readings = _reading_by_grammar(
            word, clause[at - 1 : at] if at else "", clause[end : end + 1]
        )
        readings = readings or _reading_by_dictionary(word.text, in_context[at:end])
        if _is_name(word):
            readings = [_SURNAMES[word.text[0]], *readings[1:]]
        yield word, [decided.get(at + i, each) for i, each in enumerate(readings)]
        at = end


def _decided_by_context(clause: str) -> dict[int, str]:
    """Return the readings that the characters around decide, by position."""
    found = {match.start(): "zhi1" for match in _COUNTER.finditer(clause)}
    for pattern, reading in _FIXED:
        for match in pattern.finditer(clause):
            found[match.start()] = reading
    for pattern in (_TITLED, _NAMED):
        for match in pattern.finditer(clause):
            found[match.start()] = _SURNAMES[match["name"]]
    for match in _COMPOUND_NAME.finditer(clause):
        for i, reading in enumerate(_COMPOUND_NAMES[match[0]]):
            found[match.start() + i] = reading
    return found


def _is_name(word: Word) -> bool:
    text = word.text
    is_person = word.pos == "nr" and 2 <= len(text) <= 3 and text[0] in _IN_NAMES
    return is_person and not _NO_NAME.match(text)


def _reading_by_grammar(word: Word, before: str, after: str) -> list[str]:
    """Return readings that grammar decides and pypinyin gets wrong, or an empty list. `before` and
    `after`: the characters next to the word."""
    text, pos = word
    counted = after in _NUMERALS
    if text == "地" and pos == "uv":  # 慢慢地
        return ["de5"]
    if text == "教" and pos == "v":
        return ["jiao1"]
    if text == "长" and counted:  # 长六十厘米
        return ["chang2"]
    if text == "为" and counted and before in _MEASURED:  # 温度为二十度
        return ["wei2"]
    return []


def _reading_by_dictionary(text: str, in_context: list[str]) -> list[str]:
    """Return the reading of a word from the dictionary, else of each character in context."""
    if whole := zh_words.dictionary_reading(text):
        return whole
    fixed = (zh_words.dictionary_reading(char) for char in text)
    return [(own or [usual])[0] for own, usual in zip(fixed, in_context, strict=True)]
