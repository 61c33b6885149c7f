"""What work costs by the operator's price table, the setting `VOICEDROP_PRICES`.

    currency=USD unit=0.000020 cpu=8*1 memory=32*0.15 disk=10*0.05 card=24*1.95 call=0.0075 step=1

A resource is what the instance is configured with, times the price of a second of it, in units.
Function Compute calls them compute units (CU) and publishes those factors (docs/deploy.md).
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from core.errors import Misconfigured
from core.settings import SETTINGS

RESOURCES = ("cpu", "memory", "disk", "card", "instance")
"""What is billed by the second; `instance` is for platforms with one price for all of it."""
_OTHER = ("currency", "unit", "call", "step")
_DIGITS = 9
"""Decimals of amounts. A call of Function Compute costs 0.00000015 USD."""


class Cost(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the work on a job cost by the operator's price table."""

    currency: str
    """ISO 4217."""
    amount: float
    seconds: float
    """Billed seconds of an instance, of all attempts that are known."""
    calls: int
    """Billed calls: attempts that began to work on the job or on one of its shards."""
    by: dict[str, float] = {}
    """Resource, or `call` -> its share of the amount."""


@dataclass(frozen=True, slots=True)
class PriceTable:
    currency: str
    per_second: Mapping[str, float]
    """Resource -> price of a second."""
    call: float
    """Price of a call."""
    step: float
    """Seconds are rounded up to multiples of this; 0: they are not."""

    def cost(self, seconds: float, calls: int) -> Cost:
        billed = round(seconds, 3)
        if self.step:
            billed = round(math.ceil(round(billed / self.step, 6)) * self.step, 3)
        by = {name: round(price * billed, _DIGITS) for name, price in self.per_second.items()}
        if self.call:
            by["call"] = round(self.call * calls, _DIGITS)
        return Cost(currency=self.currency, amount=_total(by), seconds=billed, calls=calls, by=by)


def parse_prices(text: str) -> PriceTable | None:
    """Return the price table; None if the text is empty. Raises Misconfigured SETTING_INVALID."""
    if not text.strip():
        return None
    entries: dict[str, str] = {}
    for entry in text.split():
        name, _, value = entry.partition("=")
        if name not in (*RESOURCES, *_OTHER):
            raise _invalid(f"{entry!r} is none of {', '.join((*_OTHER, *RESOURCES))}")
        if name in entries:
            raise _invalid(f"{name} is given twice")
        entries[name] = value
    currency = entries.pop("currency", "")
    if not re.fullmatch("[A-Z]{3}", currency):
        raise _invalid(f"currency must be a code of ISO 4217 such as USD, not {currency!r}")
    numbers = {name: _number(name, value) for name, value in entries.items()}
    unit, step = numbers.pop("unit", 1.0), numbers.pop("step", 0.0)
    call = numbers.pop("call", 0.0) * unit
    if not numbers:
        raise _invalid(f"give the price of a second of {', '.join(RESOURCES)}, or of some of them")
    per_second = {name: numbers[name] * unit for name in RESOURCES if name in numbers}
    return PriceTable(currency, per_second, call, step)


def add_up(costs: Iterable[Cost | None]) -> Cost | None:
    """The sum; None if one of them is unknown or in another currency."""
    known: list[Cost] = []
    by: dict[str, float] = defaultdict(float)
    for cost in costs:
        if cost is None or (known and cost.currency != known[0].currency):
            return None
        known.append(cost)
        for name, amount in cost.by.items():
            by[name] += amount
    if not known:
        return None
    shares = {name: round(amount, _DIGITS) for name, amount in by.items()}
    return Cost(
        currency=known[0].currency,
        amount=_total(shares),
        seconds=round(sum(cost.seconds for cost in known), 3),
        calls=sum(cost.calls for cost in known),
        by=shares,
    )


def _total(by: Mapping[str, float]) -> float:
    return round(sum(by.values()), _DIGITS)


def _number(name: str, value: str) -> float:
    """Read `0.15` or `32*0.15`."""
    try:
        product = math.prod(map(float, value.split("*")))
    except ValueError:
        product = math.nan
    if not 0 <= product <= 1e9:
        raise _invalid(f"{name}={value}: write a number, or two as in 32*0.15")
    return product


def _invalid(reason: str) -> Misconfigured:
    return Misconfigured("SETTING_INVALID", f"{SETTINGS['prices'].variable}: {reason}.")
