"""The outcome of a job in lines for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from core.errors import Notice
from core.result.cost import Cost
from core.result.document import Estimate, Result
from core.result.item_result import Chapter, ItemResult, Problem

SHORT = 8
"""Digits of a job id that are shown to people; commands take them as well."""
MAX_NAMED = 5
"""Items named in one line; a voice that may not be used fails all of its items alike."""
MAX_LINES = 20
"""Different errors that are listed; the result has all of them."""
SUCCESSFUL = ("succeeded", "validated")
CHOSEN = frozenset({"CONSENT_OPTIONAL", "LABEL_INCOMPLETE", "LABEL_WAIVED"})
"""Remarks on what the operator or the producer has chosen. The result has them."""


def count_jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"


def describe_finished(count: int, unsuccessful: int, when: str = "") -> str:
    """Return a line such as `4 jobs finished, 3 of them not successfully`; `when` follows
    `finished`."""
    line = f"{count_jobs(count)} finished{when}"
    return f"{line}, {unsuccessful} of them not successfully" if unsuccessful else line


def describe_totals(result: Result) -> str:
    """Return the counts after the status, such as `2 of 3 items, 4.1 s of speech`."""
    totals, estimate = result.totals, result.estimate
    if estimate:
        can = f"{estimate.items} of {totals.items} items can be made"
        return f"{can}, about {_describe_estimate(estimate)}; nothing was spoken"
    if result.error and not totals.items:
        return "nothing was made"  # the manifest was not read, so that its items are not known
    kept = f", {totals.kept} of them kept" if totals.kept else ""
    items = f"{totals.succeeded} of {totals.items} items{kept}"
    cost = f", cost {describe_cost(result.cost)}" if result.cost else ""
    return f"{items}, {totals.audio_s:.1f} s of speech{cost}"


def _describe_estimate(estimate: Estimate) -> str:
    cost = f", cost {estimate.cost:.3g} {estimate.currency}".rstrip() if estimate.cost else ""
    if estimate.seconds is None:  # a result of an earlier version
        return f"{estimate.audio_s:.1f} s of speech{cost}"
    measured = sum(one.measured for one in estimate.languages.values())
    known = f"measured on {measured} items" if estimate.basis == "measured" else "not measured here"
    return f"{estimate.audio_s:.1f} s of speech in {estimate.seconds:.1f} s of work{cost} ({known})"


def describe_cost(cost: Cost) -> str:
    """Return the amount with three digits, such as `0.0201 USD`."""
    return f"{cost.amount:.3g} {cost.currency}"


def describe_result(result: Result) -> list[str]:
    """Return the errors, remarks and similarities of a result, a line each."""
    lines = describe_failures(result, [*result.items, *result.chapters])
    counts: Counter[str] = Counter()
    for part in result.parts:
        counts.update(part.errors)
    lines += [f"{count} items: {code}" for code, count in counts.items()]
    if counts:
        lines.append(f"each of them: {result.attachments['errors'].key}")
    return [*lines, *describe_remarks(result)]


def describe_remarks(result: Result) -> list[str]:
    """Return the remarks that change what is heard, which part of a recording was chosen, and how
    similar each voice is."""
    return [*_remarks(result), *_choices(result), *_matches(result)]


def describe_failures(result: Result, outputs: Iterable[ItemResult | Chapter]) -> list[str]:
    """Return a line for each different error: of the job, of a voice, of items alike."""
    who: dict[tuple[str, str], list[str]] = {}
    for name, error in _errors(result, outputs):
        who.setdefault((error.code, error.message), []).append(name)
    lines = [
        f"{join_names(names)}: {code}: {message}".removeprefix(": ")
        for (code, message), names in who.items()
    ]
    return limit_lines(lines)


def limit_lines(errors: list[str]) -> list[str]:
    """Return the first lines about errors, and how many more there are."""
    more = len(errors) - MAX_LINES
    return errors if more <= 0 else [*errors[:MAX_LINES], f"and {more} other errors"]


def item_name(item_id: str, index: int, pointer: str) -> str:
    """Return what a person finds the item by: its id, its line, or its number, counted from 1."""
    if item_id:
        return f"item {item_id}"
    return pointer.partition("/")[0] or f"item {index + 1} of the list"


def _voice_name(name: str, pointer: str) -> str:
    """Return the name with the recording that an error or remark is about, if its pointer is the
    key of one."""
    is_key = pointer and not pointer.startswith("/")
    return f"voice {name} ({pointer})" if is_key else f"voice {name}"


def _errors(
    result: Result, outputs: Iterable[ItemResult | Chapter]
) -> Iterator[tuple[str, Problem]]:
    if result.error:
        yield _where(result.error), result.error
    for name, voice in result.voices.items():
        if voice.error:
            yield _voice_name(name, voice.error.pointer), voice.error
    for output in outputs:
        if output.error and isinstance(output, ItemResult):
            yield item_name(output.id, output.index, output.error.pointer), output.error
        elif output.error:
            yield f"joined file {output.id}", output.error


def _where(error: Problem) -> str:
    return f"at {error.pointer}" if error.pointer else ""


def join_names(names: list[str]) -> str:
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def _remarks(result: Result) -> Iterator[str]:
    """Yield the remarks that change what is heard."""
    for notice in result.notices:
        yield from _remark("", notice)
    for name, voice in result.voices.items():
        for notice in voice.notices:
            yield from _remark(f"{_voice_name(name, notice.pointer)}: ", notice)
    found = [(item, notice) for item in result.items for notice in item.notices]
    for code, count in Counter(notice.code for _, notice in found).items():
        item, notice = next((item, notice) for item, notice in found if notice.code == code)
        more = f" and {count - 1} more" if count > 1 else ""
        yield from _remark(f"{item_name(item.id, item.index, '')}{more}: ", notice)


def _remark(prefix: str, notice: Notice) -> Iterator[str]:
    if notice.code not in CHOSEN:
        yield f"{prefix}{notice.code}: {notice.message}"


def _choices(result: Result) -> Iterator[str]:
    """Yield a line for each voice that was learned from a chosen part of its recording."""
    for name, voice in result.voices.items():
        if (voice.channel or "mix", voice.window or "best") != ("mix", "best"):
            yield f"voice {name}: channel {voice.channel}, window {voice.window}"


def _matches(result: Result) -> Iterator[str]:
    for name, voice in result.voices.items():
        for encoder, match in voice.match.items():
            yield (
                f"voice {name}, by {encoder}: {match.default:.2f} unadapted -> "
                f"{match.achieved:.2f} (the same person: {match.same_person:.2f})"
            )
