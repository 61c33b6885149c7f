"""The keys that a manifest may name."""

from __future__ import annotations

import posixpath
import random
import unicodedata
from urllib.parse import unquote

import pytest

from core.errors import Refused
from core.manifest import reference_key

GOOD = [
    "a",
    "refs/alice.wav",
    "参考/小明.wav",
    "リファレンス/声 1.flac",
    "with space.wav",
    "plus+sign.wav",
    "percent%20literal.wav",
    "literal%2fslash.wav",
    "100%.wav",
    "..hidden/...wav",
    "a..b/c.",
    "colon:name.wav",
    "x" * 1023,
    "名" * 341,
    "full／width.wav",
]


@pytest.mark.parametrize("key", GOOD)
def test_a_key_is_taken_literally(key: str) -> None:
    assert reference_key.check(key, "/p") == key


BAD = {
    "empty": "",
    "absolute": "/etc/passwd",
    "a folder": "refs/",
    "parent": "../a.wav",
    "inner parent": "refs/../../a.wav",
    "parent at the end": "refs/..",
    "this folder": "./a.wav",
    "an empty segment": "a//b",
    "backslash": "a\\b",
    "backslash first": "\\\\server\\share",
    "encoded": "..%2fa.wav",
    "encoded dots": "%2e%2e/a.wav",
    "encoded twice": "%252e%252e%252fa.wav",
    "encoded backslash": "..%5ca.wav",
    "full-width dots": "．．/a.wav",
    "full-width everything": "．．／a.wav",
    "a two-dot leader": "‥/a.wav",
    "a full-width encoding": "%EF%BC%8E%EF%BC%8E/a.wav",
    "a NUL": "a\0b",
    "a newline": "a\nb",
    "delete": "a\x7fb",
    "a direction mark": "a\u202egnp.wav",
    "a zero-width space": "a\u200bb",
    "a lone surrogate": "a\ud800",
    "1,024 bytes": "x" * 1024,
    "1,024 bytes of Chinese": "名" * 342,
}


@pytest.mark.parametrize("key", BAD.values(), ids=BAD)
def test_an_ambiguous_key_is_refused(key: str) -> None:
    with pytest.raises(Refused) as caught:
        reference_key.check(key, "/voices/a/reference")
    assert (caught.value.code, caught.value.pointer) == ("KEY_INVALID", "/voices/a/reference")


OTHER_PLACES = [
    "oss://other/x.wav",
    "OSS://other/x.wav",
    "http://169.254.169.254/latest/meta-data",
    "https://example.com/a.wav",
    "file:///etc/passwd",
    "data:audio/wav;base64,AAAA",
    "acs:oss:cn-hangzhou:1:other/x.wav",
]


@pytest.mark.parametrize("key", OTHER_PLACES)
def test_urls_and_other_buckets_are_forbidden(key: str) -> None:
    with pytest.raises(Refused, match="REF_FORBIDDEN"):
        reference_key.check(key, "/p")


def test_a_path_of_this_machine_is_answered_with_what_a_key_is() -> None:
    with pytest.raises(Refused, match=r"'/home/me/alice.wav' is no key: .* `refs/alice.wav`"):
        reference_key.check("/home/me/alice.wav", "/voices/a/reference")


PIECES = [
    ".", "..", "%2e%2e", "%2E.", "．．", "‥", "。。", "\u2024\u2024", "..%00", "%252e%252e", "a",
    "b.flac", "/", "\\", "%2f", "%5c", "／", "＼", "\0", "\u202e", "%c0%ae", "..;", "~", "C:",
    "\u2215", "%", "%%32%65", "%EF%BC%8E", "%e2%80%a5",
]  # fmt: skip


def test_no_key_climbs_out_of_the_bucket_however_it_is_decoded() -> None:
    """Random keys of such pieces, decoded and normalised in any order by another program."""
    assert find_climbing_keys(3000) == []


def find_climbing_keys(count: int) -> list[str]:
    rng = random.Random(3)
    found = []
    for _ in range(count):
        parts = [
            "".join(rng.choices(PIECES, k=rng.randint(1, 2))) for _ in range(rng.randint(1, 3))
        ]
        key = rng.choice(["", "refs/"]) + "/".join(parts)
        try:
            reference_key.check(key, "")
        except Refused:
            continue
        once, twice = unquote(key), unquote(unquote(key))
        forms = {form for name in (key, once, twice) for form in (name, nfkc(name))}
        forms |= {unquote(nfkc(key)), unquote(nfkc(once)), nfkc(unquote(nfkc(once)))}
        paths = [posixpath.normpath(f"/inbox/{form}".replace("\\", "/")) for form in forms]
        if not all(path.startswith("/inbox/") or path == "/inbox" for path in paths):
            found.append(key)
    return found


def nfkc(text: str) -> str:
    return unicodedata.normalize("NFKC", text)
