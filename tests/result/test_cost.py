"""The price table is read as it stands in docs/deploy.md, and costs follow from it."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest

from core.errors import Misconfigured
from core.result.cost import Cost, PriceTable, add_up, parse_prices
from tests.support.present import present

CARD = "currency=USD unit=0.000020 cpu=8*1 memory=32*0.15 disk=10*0.05 card=24*1.95 call=0.0075"


def table(text: str = CARD) -> PriceTable:
    return present(parse_prices(text))


def test_the_cost_is_that_of_each_resource_and_of_calls() -> None:
    cost = table().cost(100.0004, 2)
    assert (cost.currency, cost.seconds, cost.calls) == ("USD", 100.0, 2)
    assert cost.by == {
        "cpu": 0.016,
        "memory": 0.0096,
        "disk": 0.001,
        "card": 0.0936,
        "call": 0.0000003,
    }
    assert cost.amount == 0.1202003


def test_the_tables_in_the_documentation_give_the_prices_there() -> None:
    page = (Path(__file__).parents[2] / "docs/deploy.md").read_text(encoding="utf-8")
    rows = [row.split("|") for row in page.splitlines() if re.match(r"\|.* = \d", row)]
    hours = [float(row[5].strip(" *")) for row in rows]
    tables = re.findall(r'VOICEDROP_PRICES="(.*)"', page)
    assert len(tables) == len(hours) == 2
    assert [round(table(text).cost(3600, 0).amount, 2) for text in tables] == hours


def test_a_platform_with_one_price_for_the_instance_needs_no_units() -> None:
    assert table("currency=CNY instance=0.5").cost(3, 1) == Cost(
        currency="CNY", amount=1.5, seconds=3.0, calls=1, by={"instance": 1.5}
    )


@pytest.mark.parametrize(
    ("seconds", "step", "billed"),
    [(0.2, "1", 1.0), (3.0, "1", 3.0), (3.0001, "1", 3.0), (3.001, "1", 4.0), (0.7, "0.1", 0.7)],
)
def test_seconds_are_rounded_up_to_steps(seconds: float, step: str, billed: float) -> None:
    assert table(f"{CARD} step={step}").cost(seconds, 1).seconds == billed


def test_costs_are_added_by_resource_unless_one_is_unknown_or_in_another_currency() -> None:
    one, two = table().cost(1, 1), table("currency=USD instance=1").cost(2, 0)
    total = present(add_up([one, two, one]))
    assert (total.seconds, total.calls, total.by["instance"]) == (4.0, 2, 2.0)
    assert total.by["card"] == 2 * one.by["card"]
    assert math.isclose(total.amount, sum(total.by.values()))
    assert add_up([one, None]) is None
    assert add_up([one, table("currency=CNY instance=1").cost(1, 1)]) is None
    assert add_up([]) is None


@pytest.mark.parametrize("text", ["", "  "])
def test_without_a_table_there_is_none(text: str) -> None:
    assert parse_prices(text) is None


BAD: dict[str, Any] = {
    "currency=USD memroy=1": "memroy=1",
    "USD cpu=1": "'USD' is none of currency",
    "cpu=1": "currency must be",
    "currency=usd cpu=1": "currency must be",
    "currency=USD": "price of a second",
    "currency=USD call=1": "price of a second",
    "currency=USD cpu=1 cpu=2": "cpu is given twice",
    "currency=USD cpu=": "cpu=: write a number",
    "currency=USD cpu=one": "write a number",
    "currency=USD cpu=-1": "write a number",
    "currency=USD cpu=nan": "write a number",
    "currency=USD cpu=inf": "write a number",
    "currency=USD cpu=1 step=1e400": "write a number",
    "currency=USD cpu=8*": "write a number",
}


@pytest.mark.parametrize("text", BAD)
def test_a_wrong_table_is_refused_with_its_variable_and_what_is_wrong(text: str) -> None:
    with pytest.raises(Misconfigured, match="VOICEDROP_PRICES: ") as caught:
        parse_prices(text)
    assert (caught.value.code, BAD[text] in caught.value.message) == ("SETTING_INVALID", True)
