"""Which outputs of a result are of a voice whose consent was withdrawn since.

For whoever uses results: the notes of withdrawal (core/consent/withdrawal.py) are in their bucket,
and the signed results say from which recording each output was made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from core.consent.withdrawal import WithdrawalNote, find_withdrawals
from core.documents import signed
from core.errors import Refused
from core.result.document import Result, format_timestamp
from core.result.item_result import ItemResult, VoiceUsed
from core.storage.object_keys import result_key
from core.storage.port import Store


@dataclass(frozen=True, slots=True)
class WithdrawnSince:
    """Answers for each item of a result when consent to its voice was withdrawn since.

    Consent that was withdrawn before the item was made is a finding of an audit, not a remark.
    """

    result: Result
    fetch: Callable[[str], bytes]
    """Reads an object beside the result, such as the result of a job from which items were kept."""
    results: Store
    keys: Mapping[str, Ed25519PublicKey]
    _makers: dict[str, Result | None] = field(default_factory=dict)
    _notes: dict[str, list[WithdrawalNote]] = field(default_factory=dict)

    def __call__(self, item: ItemResult) -> str:
        """Return the time in RFC 3339; empty if consent was not withdrawn, or nothing was made."""
        made = self._maker(item.kept_from or self.result.job_id)
        if made is None:
            return ""
        started = datetime.fromisoformat(made.started)
        notes = [note for recording in self.recordings(item) for note in self._find(recording)]
        times = [note.at for note in notes if note.at >= started]
        return format_timestamp(max(times).timestamp()) if times else ""

    def recordings(self, item: ItemResult) -> list[str]:
        """Return the SHA-256 of the recordings from which the output of an item was made."""
        made = self._maker(item.kept_from or self.result.job_id) if item.output else None
        used = made.voices.get(item.voice) if made else None
        return recordings_of(used) if used else []

    def _maker(self, job: str) -> Result | None:
        if job == self.result.job_id:
            return self.result
        if job not in self._makers:
            self._makers[job] = None
            with suppress(Refused):
                made = signed.read(self.fetch(result_key(job)), Result, self.keys)
                self._makers[job] = made if made.job_id == job else None
        return self._makers[job]

    def _find(self, recording: str) -> list[WithdrawalNote]:
        if recording not in self._notes:
            self._notes[recording] = find_withdrawals(recording, self.results, self.keys)
        return self._notes[recording]


def recordings_of(used: VoiceUsed) -> list[str]:
    """Return the SHA-256 of the recordings that a voice was learned from."""
    named = [used.reference_sha256, *(one.reference_sha256 for one in used.aux)]
    return [digest for digest in named if digest]
