"""Cards, sizes, quotas and prices of Function Compute: the one table that docs and checks share.

Source: the documentation of Function Compute 3.0 (github.com/aliyun-fc/fc-docs, 9 August 2026:
instance types, quotas, billing, resident pools) and the price page of the international site, both
read on 29 November 2026. Compute units (CU) are what is billed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

READ = "2026-11-29"
"""The day on which the sources were read."""


@dataclass(frozen=True, slots=True)
class Card:
    """A kind of GPU. A function gets a whole card."""

    name: str
    memory_gb: int
    sizes: Mapping[int, tuple[int, int]]
    """vCPU -> least and most memory of the function in GB; all multiples of 4 between are offered,
    and for most cards the least is the smallest multiple that the table of the source states."""
    quota: int
    """Cards of this kind that a new account has."""
    on_request: int
    """How many of those may be started by requests, not as minimum instances."""
    active: float
    """CU a second and GB of the card's memory, while a request is processed."""
    idle: float
    """The same for a minimum instance without a request."""
    resident_cny: float
    """Price of a whole card a month, paid in advance, in the regions of mainland China."""


_ADA = {4: (16, 32), 8: (32, 64), 16: (64, 120)}
_TESLA = {4: (4, 16), 8: (8, 32), 16: (16, 64)}
_HOPPER = _ADA | {16: (64, 96), 24: (96, 120)}
_HOPPER_2 = _ADA | {16: (64, 128), 24: (96, 248)}
CARDS: Mapping[str, Card] = {
    card.name: card
    for card in (
        Card("fc.gpu.tesla.1", 16, _TESLA, 10, 3, 2.1, 0.5, 5_903.36),
        Card("fc.gpu.ampere.1", 24, {8: (8, 32), 16: (16, 32)}, 3, 3, 1.8, 0.3, 5_777.76),
        Card("fc.gpu.ada.1", 48, _ADA, 3, 1, 1.7, 0.2, 8_229.75),
        Card("fc.gpu.ada.2", 24, _ADA, 0, 0, 1.95, 0.23, 7_878.00),
        Card("fc.gpu.ada.3", 48, _ADA, 0, 0, 1.95, 0.23, 9_341.40),
        Card("fc.gpu.blackwell.1", 32, _ADA | {24: (96, 184)}, 0, 0, 2.1, 0.28, 11_191.36),
        Card("fc.gpu.hopper.1", 96, _HOPPER, 0, 0, 2.31, 0.315, 21_532.68),
        Card("fc.gpu.hopper.2", 141, _HOPPER_2, 0, 0, 2.31, 0.315, 30_844.50),
    )
}
"""The cards that CUDA programs can use; xpu.1 is none of them."""

VCPU, MEMORY, DISK, CALL = 1.0, 0.15, 0.05, 0.0075
"""CU: a vCPU and second; a GB and second; a GB and second; a call."""
IDLE_MEMORY_GPU, IDLE_MEMORY_CPU = 0.10, 0.15
"""CU a GB and second of an idle minimum instance; its vCPU are free."""
FREE_DISK_GB = 10
"""Of a function without a card. For cards the source states no free disk."""
USD, CNY = 0.000020, 0.00011
"""Price of a CU in the first tier: 100 million a month in USD, 200 million in CNY."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What an instance of a function is configured with, which is what is billed."""

    name: str
    image: str
    """Value of the build argument DEVICE of the Dockerfile."""
    cpu: int
    memory_gb: int
    disk_gb: int = 10
    card: Card | None = None

    @property
    def shares(self) -> dict[str, tuple[float, float]]:
        """Resource, as `VOICEDROP_PRICES` names it -> (amount, CU a second for each)."""
        shares = {"cpu": (float(self.cpu), VCPU), "memory": (float(self.memory_gb), MEMORY)}
        if billed := self.disk_gb - (0 if self.card else FREE_DISK_GB):
            shares["disk"] = (float(billed), DISK)
        if self.card:
            shares["card"] = (float(self.card.memory_gb), self.card.active)
        return shares

    @property
    def active(self) -> float:
        """CU a second while a request is processed."""
        return sum(amount * factor for amount, factor in self.shares.values())

    @property
    def idle(self) -> float:
        """CU a second of a minimum instance without a request."""
        memory = self.memory_gb * (IDLE_MEMORY_GPU if self.card else IDLE_MEMORY_CPU)
        disk = self.shares.get("disk", (0.0, 0.0))[0] * DISK
        return memory + disk + (self.card.memory_gb * self.card.idle if self.card else 0.0)

    @property
    def prices(self) -> str:
        """The setting `VOICEDROP_PRICES` of this machine in USD."""
        shares = (f"{name}={amount:g}*{factor:g}" for name, (amount, factor) in self.shares.items())
        step = " step=1" if self.card else ""  # with a card, seconds are rounded up
        return f"currency=USD unit={USD:.6f} {' '.join(shares)} call={CALL:g}{step}"

    def cost(self, seconds: float) -> float:
        """USD of one call that is processed for so long."""
        billed = math.ceil(seconds) if self.card else seconds
        return (billed * self.active + CALL) * USD

    def seconds_for(self, usd: float) -> float:
        """For how long a call may be processed so that it costs no more than `usd`."""
        seconds = (usd / USD - CALL) / self.active
        return float(math.floor(seconds)) if self.card else seconds


GPU = Machine(name="gpu", image="cuda", cpu=8, memory_gb=16, card=CARDS["fc.gpu.ampere.1"])
CPU = Machine(name="cpu", image="cpu", cpu=4, memory_gb=8)
MACHINES = {machine.name: machine for machine in (GPU, CPU)}
"""Value of VOICEDROP_MACHINE -> the machine that s.yaml then describes."""


def find_size_fault(card: Card, cpu: int, memory_mb: int) -> str:
    """Say what Function Compute refuses about a size with this card; empty: nothing."""
    if cpu not in card.sizes:
        return f"cpu: with {card.name} must be one of {', '.join(map(str, card.sizes))}"
    least, most = card.sizes[cpu]
    if memory_mb % 4096 or not least * 1024 <= memory_mb <= most * 1024:
        return (
            f"memorySize: with {card.name} and {cpu} vCPU must be {least * 1024} to {most * 1024}, "
            "in steps of 4096"
        )
    return ""
