from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from core.text import en_numbers, ja
from core.voice.kokoro import model, text
from core.voice.kokoro.text import chinese, english, japanese
from core.voice.kokoro.text.english_g2p import predict_phonemes


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("The quick brown fox.", "ðə kwˈɪk bɹˈWn fˈɑks."),
        ("the apple, the end", "ði ˈæpᵊl, ði ˈɛnd"),
        ("I want to go to Asia.", "ˌI wˈɑnt tə ɡˌO tʊ ˈAʒə."),
        ("I am in.", "ˌI ɐm ˈɪn."),
        ("She used to read a record; I record it.", None),
        ("cities’ boxes, wanted, stopping", None),
    ],
)
def test_english_words_in_context(written: str, spoken: str | None) -> None:
    result = text.phonemise(written, "en")
    assert result
    if spoken is not None:
        assert result == spoken


def test_the_word_before_decides_between_noun_and_verb() -> None:
    noun = text.phonemise("the record was", "en").split()[1]
    verb = text.phonemise("to record was", "en").split()[1]
    assert noun != verb


def test_function_words_are_strong_before_a_pause() -> None:
    assert text.phonemise("Yes, I can!", "en").endswith("kˈæn!")
    assert "kæn" in text.phonemise("I can go.", "en")


def test_used_to_and_used_differ() -> None:
    assert "jˈust" in english.phonemise("used to go")
    assert "jˈuzd" in english.phonemise("used tools")


@pytest.mark.parametrize(
    ("word", "sound"),
    [
        ("vlogged", "vlˈɑɡd"), ("googling", "ɡˈuɡᵊlɪŋ"), ("tweeted", "twˈiɾᵻd"),
        ("podcasts", "pˈɑdkˌæsts"), ("Obama's", "Obˈɑməz"), ("selfies", "sˈɛlfiz"),
        ("the bosses' cars", "ðə"),
    ],
)  # fmt: skip
def test_inflected_forms_build_on_their_base(word: str, sound: str) -> None:
    assert english.phonemise(word).replace("T", "ɾ").startswith(sound)


@pytest.mark.parametrize(
    ("join", "stem", "whole"),
    [
        (english._plural, "kˈæt", "kˈæts"),
        (english._plural, "dˈɔɡ", "dˈɔɡz"),
        (english._plural, "bˈʌs", "bˈʌsᵻz"),
        (english._past, "wˈɔk", "wˈɔkt"),
        (english._past, "plˈA", "plˈAd"),
        (english._past, "nˈid", "nˈidᵻd"),
        (english._past, "wˈAt", "wˈAɾᵻd"),
        (english._past, "ˈækt", "ˈæktᵻd"),
        (english._progressive, "wˈAt", "wˈAɾɪŋ"),
        (english._progressive, "rˈʌn", "rˈʌnɪŋ"),
    ],
)
def test_endings_follow_the_sound_before_them(
    join: Callable[[str], str], stem: str, whole: str
) -> None:
    assert join(stem) == whole


@pytest.mark.parametrize(
    ("sound", "stress", "expected"),
    [("ænd", 0.5, "ˌænd"), ("ænd", 2.0, "ˈænd"), ("ˌOvəɹ", 2.0, "ˈOvəɹ"), ("kˈæt", -1.0, "kˌæt"),
     ("kˈæt", 0.5, "kˈæt"), ("hm", 2.0, "hm")],
)  # fmt: skip
def test_stress_is_raised_or_lowered(sound: str, stress: float, expected: str) -> None:
    assert english._set_stress(sound, stress) == expected


def test_unknown_words_are_spelled_or_predicted() -> None:
    assert english.phonemise("GPT") == "ʤˌipˌitˈi"
    guess = predict_phonemes("zyxqvort")
    assert guess
    assert all(symbol in model.vocabulary() for symbol in guess)


def test_english_numbers_are_written_as_words_first() -> None:
    written = "Mr. A paid $3.50 at 9:05 am on the 2nd"
    spoken = "Mister A paid three dollars and fifty cents at nine oh five A M on the second"
    assert english.phonemise(written) == english.phonemise(spoken)


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("2024年3月5日", "二零二四年三月五日"),
        ("2024-03-05", "二零二四年三月五日"),
        ("8:30、9:05、10:00", "八点半、九点零五分、十点"),
        ("￥1,200", "一千二百元"),
        ("25.5℃，75%", "二十五点五摄氏度，百分之七十五"),
        ("3/4", "四分之三"),
        ("打13812345678", "打幺三八幺二三四五六七八"),
        ("2个，12个，22个", "两个，十二个，二十二个"),
        ("今天 -5度", "今天 负五度"),
        ("10-20公斤", "十到二十公斤"),
        ("1+1=2", "一加一等于二"),
        ("007和" + "1" * 20, "零零七和" + "幺" * 20),
        ("（第2名）“2000人”", "（第二名）“两千人”"),
        ("2月2日下午2:00", "二月二日下午两点"),
        ("20:05:30，9:00~11:30", "二十点零五分三十秒，九点至十一点半"),
        ("5000年前，5月1日-5月5日", "五千年前，五月一日到五月五日"),
        ("0571-87654321", "零五七幺，八七六五四三二幺"),
        ("3:2，16:9", "三比二，十六比九"),
        ("-3%，5%-10%", "负百分之三，百分之五至百分之十"),
        ("-5℃，余额-10元", "零下五摄氏度，余额负十元"),
        ("2×2，7-2=5", "二乘二，七减二等于五"),
        ("$3.5亿，5元/斤", "三点五亿美元，五元每斤"),
        ("50㎡，α粒子", "五十平方米，阿尔法粒子"),
        ("12345，1234567", "幺二三四五，幺二三四五六七"),
    ],
)
def test_chinese_numbers_are_read(written: str, spoken: str) -> None:
    assert chinese.to_words(written) == spoken


def test_chinese_words_and_tones() -> None:
    assert text.phonemise("我们去公园。", "zh") == "wo↓mən ʨʰy↘ kʊ→ŋɥɛ↗n."
    assert chinese.ipa_of_syllable("si4") == "sɨ↘"
    assert chinese.ipa_of_syllable("o5") == "ɔ"
    assert chinese.ipa_of_syllable("er2") == "ɚ↗"
    assert chinese.ipa_of_syllable("lv4") == "ly↘"


def test_japanese_morae() -> None:
    assert japanese.kana_to_ipa("コンニチワ") == "koɲɲiʨiβa"
    assert japanese.kana_to_ipa("キャッカ") == "kʲaʔka"
    assert japanese.kana_to_ipa("シンブン") == "ɕimbɯɴ"
    assert japanese.kana_to_ipa("ファイル") == "ɸaiɾɯ"
    assert text.phonemise("今日は、東京へ行った！", "ja").startswith("kʲoː βa,")


@pytest.mark.parametrize(
    ("written", "language", "parts"),
    [
        ("我用GPT写了program。", "zh", ["ʤˌipˌitˈi", "pɹˈOɡɹˌæm", "wo↓"]),
        ("ひらがな也可以", "zh", ["çiɾaɡana", "kʰɤ↓"]),
        ("In 北京 we said こんにちは.", "en", ["pei↓ʨi→ŋ", "koɲɲiʨiβa"]),
        ("helloと言った", "ja", ["həlˈO", "to"]),
    ],
)
def test_words_of_another_script_are_spoken_not_dropped(
    written: str, language: str, parts: list[str]
) -> None:
    spoken = text.phonemise(written, language)
    for part in parts:
        assert part in spoken


def test_a_long_sentence_becomes_several_utterances_without_losing_words() -> None:
    written = "word, " * 200 + "end."
    pieces = [tokens for _, tokens in text.split_utterances(written, "en")]
    assert len(pieces) > 1
    assert all(0 < len(piece) <= 400 for piece in pieces)
    assert sum(map(len, pieces)) >= len(text.phonemise(written, "en")) - len(pieces)


def test_a_long_run_without_clauses_or_spaces_is_still_cut() -> None:
    assert max(len(p) for p in text._split_too_long("a b" * 300)) <= 400
    assert [len(p) for p in text._split_too_long("a" * 900)] == [400, 400, 100]


@pytest.mark.parametrize("written", ["...!?", "Привет", "🙂", "—"])
def test_unspeakable_text_gives_no_utterances(written: str) -> None:
    assert list(text.split_utterances(written, "en")) == []


def test_every_phoneme_is_in_the_models_alphabet() -> None:
    for language, written in (("en", "Judge Tom saw youth & joy."), ("zh", "女儿绿色"),
                              ("ja", "「ゔぁいおりん」をちょっと弾く。")):  # fmt: skip
        assert text.phonemise(written, language)
        assert set(text.phonemise(written, language)) <= set(model.vocabulary())


def test_language_modules_load_on_first_use() -> None:
    code = (
        "import sys; from core.voice.kokoro import KokoroVoice;"
        "sys.exit(bool({'jieba', 'pyopenjtalk', 'onnxruntime', 'scipy.signal', 'onnx'}"
        " & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "written",
    ["$" + "9" * 4800, "9" * 4400 + "th", "1/" + "9" * 4998],
    ids=["money", "ordinal", "fraction"],
)
def test_a_number_longer_than_python_reads_is_spelled(written: str) -> None:
    assert en_numbers.expand(written).count("nine") > 4000


@pytest.mark.slow
@pytest.mark.parametrize(
    "text_",
    [
        "ヴァ" * 2500,
        "っ" * 5000,
        "今日は良い天気で" * 600,
        "ア、" * 2500,
        "9" * 5000,
        "𠀀ア" * 2500,
    ],
    ids=["two kana", "one kana", "words", "commas", "digits", "four bytes"],
)
def test_long_japanese_does_not_crash_the_process(text_: str) -> None:
    """OpenJTalk has buffers of a fixed size: each of these texts used to crash the worker."""
    assert japanese.phonemise(text_)
    assert ja.phonemise(text_).phones


@pytest.mark.parametrize("language", ["zh", "ja"])
def test_letters_of_the_phonetic_alphabet_are_not_read_as_sounds(language: str) -> None:
    assert list(text.split_utterances("ɑʃəɕ ʊŋ。", language)) == []


def test_latin_letters_in_full_width_are_read_in_japanese() -> None:
    assert text.phonemise("Ａさん", "ja") == text.phonemise("エイさん", "ja")
