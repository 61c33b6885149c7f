"""core.documents.canonical against RFC 8785 and an independent implementation of it."""

from __future__ import annotations

import math
import struct
from typing import Any

import msgspec
import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from core.documents import canonical, strict
from tests.support import vectors

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-strict.MAX_EXACT_INTEGER, strict.MAX_EXACT_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner))


class Vector(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    why: str
    input: str
    expect: str
    """The canonical text, or `refused`."""


@pytest.mark.parametrize("vector", vectors.read("canonical.json", Vector), ids=lambda v: v.name)
def test_vector(vector: Vector) -> None:
    if vector.expect == "refused":
        with pytest.raises(ValueError, match=r"\w"):
            canonical.dump(canonical.load(vector.input.encode()))
    else:
        assert canonical.dump(canonical.load(vector.input.encode())).decode() == vector.expect


@pytest.mark.parametrize(
    ("bits", "text"),
    [
        ("0000000000000000", "0"),
        ("8000000000000000", "0"),
        ("0000000000000001", "5e-324"),
        ("8000000000000001", "-5e-324"),
        ("7fefffffffffffff", "1.7976931348623157e+308"),
        ("ffefffffffffffff", "-1.7976931348623157e+308"),
        ("4340000000000000", "9007199254740992"),
        ("c340000000000000", "-9007199254740992"),
        ("4430000000000000", "295147905179352830000"),
        ("44b52d02c7e14af5", "9.999999999999997e+22"),
        ("44b52d02c7e14af6", "1e+23"),
        ("44b52d02c7e14af7", "1.0000000000000001e+23"),
        ("444b1ae4d6e2ef4e", "999999999999999700000"),
        ("444b1ae4d6e2ef4f", "999999999999999900000"),
        ("444b1ae4d6e2ef50", "1e+21"),
        ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
        ("3eb0c6f7a0b5ed8d", "0.000001"),
        ("41b3de4355555553", "333333333.3333332"),
        ("41b3de4355555554", "333333333.33333325"),
        ("41b3de4355555555", "333333333.3333333"),
        ("41b3de4355555556", "333333333.3333334"),
        ("41b3de4355555557", "333333333.33333343"),
        ("becbf647612f3696", "-0.0000033333333333333333"),
        ("43143ff3c1cb0959", "1424953923781206.2"),
    ],
)
def test_numbers_of_rfc_8785_appendix_b(bits: str, text: str) -> None:
    (value,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical.dump(value).decode() == text


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(JSON)
def test_agrees_with_an_independent_implementation(value: Any) -> None:
    assert canonical.dump(value) == rfc8785.dumps(value)


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(JSON)
def test_reading_and_rewriting_changes_nothing(value: object) -> None:
    once = canonical.dump(value)
    assert canonical.dump(canonical.load(once)) == once


@pytest.mark.parametrize(
    "value",
    [
        *(math.nan, math.inf, "\ud800", {"a": [-math.inf]}),
        *(2**53 + 1, -(2**53) - 1, 10**21, 10**400),
    ],
)
def test_values_without_canonical_form_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        canonical.dump(value)


class _Counted(msgspec.Struct):
    count: int


@pytest.mark.parametrize("value", [2.0**53, -(2.0**60), 999999999999999900000.0])
def test_a_struct_that_reads_a_large_number_as_an_integer_writes_the_same_bytes(
    value: float,
) -> None:
    written = canonical.dump({"count": value})
    assert canonical.dump(msgspec.json.decode(written, type=_Counted)) == written


def test_deep_nesting_raises_a_value_error() -> None:
    deep: object = 0
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(ValueError, match=r"\w"):
        canonical.dump(deep)
    with pytest.raises(ValueError, match="deep"):
        canonical.load(b"[" * 100_000)
