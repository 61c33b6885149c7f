"""What the functions cost: `python -m cloud.prices` prints the tables of docs/deploy.md."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

from cloud.machines import CARDS, CNY, CPU, GPU, MACHINES, READ, USD, Machine

CLIP_SECONDS = 20.0
GOAL = 0.03
"""USD a call that a clip of 20 s may cost."""
OTHER_STAGES = 1.042
"""Everything except speaking, as a factor: docs/performance.md, `python -m bench.stages`."""
WARM_HOURS = 10.5
"""A working day of `provisionConfig` in s.yaml, 8:30 to 19:00."""
WORKING_DAYS = 21.75
"""In a month: 261 a year."""
MONTH_HOURS = 730.0
PLAN_CNY = 52.5 / 500_000
"""Price of a CU in a prepaid plan, all sizes alike."""


@dataclass(frozen=True, slots=True)
class Speed:
    """Seconds of work for each second of speech, on one instance that does nothing else."""

    engine: str
    machine: Machine
    factor: float
    source: str


SPEEDS = (
    Speed("kokoro", CPU, 0.20, "measured on a Xeon with AVX512-VNNI, one thread"),
    Speed("kokoro", CPU, 0.60, "measured on a Zen 3 without VNNI, one thread"),
    Speed("gpt_sovits", CPU, 0.32, "measured with int8 on a Zen 4, two threads"),
    Speed("kokoro", GPU, 0.20, "**assumed**: as fast as that Xeon; no card was measured"),
    Speed(
        "gpt_sovits",
        GPU,
        0.14,
        "**assumed**: as fast as an H100 with fp32; this card was not measured",
    ),
)
"""From docs/voice.md, docs/performance.md and docs/gpt-sovits.md, with their commands."""


def format_machines() -> Iterator[str]:
    yield (
        "| function | image | CU a second | USD a second | **USD an hour** | CNY an hour "
        "| minimum instance, idle, USD an hour |"
    )
    yield "|---|---|---|---|---|---|---|"
    for one in MACHINES.values():
        sum_ = " + ".join(f"{amount * factor:g}" for amount, factor in one.shares.values())
        yield (
            f"| `{one.name}`: {_describe(one)} | `{one.image}` | {sum_} = {one.active:g} "
            f"| {one.active * USD:.6f} | **{_hour(one.active):.2f}** "
            f"| {_hour(one.active, CNY):.2f} | {_hour(one.idle):.2f} |"
        )


def format_cards() -> Iterator[str]:
    yield (
        "| card | memory | vCPU: memory of the function | cards of a new account "
        "(started by requests) | CU a second, 8 vCPU, least memory | USD an hour | idle |"
    )
    yield "|---|---|---|---|---|---|---|"
    for card in CARDS.values():
        least = card.sizes[8][0]
        one = Machine(name="", image="cuda", cpu=8, memory_gb=least, card=card)
        sizes = "; ".join(f"{cpu}: {low} to {high} GB" for cpu, (low, high) in card.sizes.items())
        yield (
            f"| `{card.name}` | {card.memory_gb} GB | {sizes} | {card.quota} ({card.on_request}) "
            f"| {one.active:g} | {_hour(one.active):.2f} | {_hour(one.idle):.2f} |"
        )


def format_clips() -> Iterator[str]:
    yield (
        f"| engine on function | seconds for a clip of {CLIP_SECONDS:g} s | USD "
        f"| within {GOAL:g} USD | speed |"
    )
    yield "|---|---|---|---|---|"
    for one in SPEEDS:
        seconds = CLIP_SECONDS * one.factor * OTHER_STAGES
        cost = one.machine.cost(seconds)
        yield (
            f"| `{one.engine}` on `{one.machine.name}` | {seconds:.1f} | {cost:.4f} "
            f"| {'yes' if cost <= GOAL else '**no**'} | {one.source} |"
        )
    yield ""
    limits = (
        f"{one.seconds_for(GOAL):.0f} s of `{one.name}` (a real-time factor of "
        f"{one.seconds_for(GOAL) / OTHER_STAGES / CLIP_SECONDS:.2f} for that clip)"
        for one in MACHINES.values()
    )
    yield f"{GOAL:g} USD pay for {' or '.join(limits)}."


def format_warm() -> Iterator[str]:
    yield "| one minimum instance, without any work | `gpu` | `cpu` |"
    yield "|---|---|---|"
    hours = {
        f"a working day, {WARM_HOURS:g} h (as in s.yaml)": WARM_HOURS,
        "a month of such days": WARM_HOURS * WORKING_DAYS,
        "a month day and night": MONTH_HOURS,
    }
    for what, number in hours.items():
        cells = (f"{_hour(one.idle) * number:.2f} USD" for one in MACHINES.values())
        yield f"| {what} | {' | '.join(cells)} |"
    cells = (f"{1 - one.idle / one.active:.0%}" for one in MACHINES.values())
    yield f"| idle is cheaper than at work by | {' | '.join(cells)} |"


def format_reserved() -> Iterator[str]:
    card = GPU.card
    assert card is not None  # noqa: S101
    hour = _hour(GPU.active, CNY)
    yield (
        f"A resident card (`{card.name}`, prepaid, mainland China) costs "
        f"{card.resident_cny:,.2f} CNY a month. At work for all {MONTH_HOURS:g} h, `gpu` costs "
        f"{hour * MONTH_HOURS:,.0f} CNY: the resident card saves "
        f"{1 - card.resident_cny / hour / MONTH_HOURS:.0%}, and it is cheaper from "
        f"{card.resident_cny / hour:.0f} h of work a month on. For `cpu` there are no resident "
        f"instances; a prepaid plan of CU saves {1 - PLAN_CNY / CNY:.1%} on both."
    )


def format_settings() -> Iterator[str]:
    yield "```sh"
    for one in MACHINES.values():
        yield f'export VOICEDROP_PRICES="{one.prices}"   # {one.name}'
    yield "```"


def _describe(one: Machine) -> str:
    card = f"{one.card.name.removeprefix('fc.gpu.')} {one.card.memory_gb} GB, " if one.card else ""
    return f"{card}{one.cpu} vCPU, {one.memory_gb} GB"


def _hour(units: float, price: float = USD) -> float:
    return units * 3600 * price


SECTIONS = {
    "machines": format_machines,
    "cards": format_cards,
    "clips": format_clips,
    "warm": format_warm,
    "reserved": format_reserved,
    "settings": format_settings,
}
"""Name of a generated block of docs/deploy.md -> what writes its lines."""


def main() -> int:
    sys.stdout.write(f"List prices, read {READ}.\n")
    for name, lines in SECTIONS.items():
        sys.stdout.write(f"\n## {name}\n\n" + "\n".join(lines()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
