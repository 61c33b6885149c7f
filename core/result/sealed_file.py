"""What a result states about each sealed file, and whether its parts agree.

An item names the output and, apart from that, the envelope with which it is opened. Both belong to
the same file only if key, owner, media type, sizes and digests agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from core.crypto.sealing import Envelope
from core.errors import Refused
from core.manifest.chapters import PARTIAL_SUFFIX
from core.result.item_result import SUBTITLE_TYPES, Chapter, ItemResult, Output, SubtitleFile
from core.storage.object_keys import chapter_name, parse_output_key


@dataclass(frozen=True, slots=True)
class SealedFile:
    """A sealed file as a signed document describes it."""

    key: str
    size: int
    sealed_sha256: str
    plain_sha256: str
    media_type: str
    envelope: Envelope | None
    owner: tuple[str, str]
    """Job id, and item id or `chapter_name`, for which it is sealed."""

    def checked_envelope(self) -> Envelope:
        """Return the envelope. Raises Refused SEAL_INVALID if it is of another file, or if the key
        is that of another owner."""
        found = self.envelope
        if found is None:
            raise Refused("SEAL_INVALID", "The result gives no envelope.", pointer=self.key)
        stated = (self.size, self.sealed_sha256, self.plain_sha256, self.media_type)
        is_same = (found.ct_len, found.ct_sha256, found.pt_sha256, found.ctx.mt) == stated and (
            found.ctx.job,
            found.ctx.item,
        ) == self.owner == parse_output_key(self.key)
        if not is_same:
            raise Refused("SEAL_INVALID", "The envelope is that of another file.", pointer=self.key)
        return found


def of_output(output: Output, envelope: Envelope | None, owner: tuple[str, str]) -> SealedFile:
    return SealedFile(
        key=output.key,
        size=output.bytes,
        sealed_sha256=output.sealed_sha256,
        plain_sha256=output.plain_sha256,
        media_type=output.media_type,
        envelope=envelope,
        owner=owner,
    )


def of_subtitle(file: SubtitleFile, owner: tuple[str, str]) -> SealedFile:
    envelope = file.envelope
    return SealedFile(
        key=file.key,
        size=envelope.ct_len,
        sealed_sha256=envelope.ct_sha256,
        plain_sha256=envelope.pt_sha256,
        media_type=SUBTITLE_TYPES[file.format],
        envelope=envelope,
        owner=owner,
    )


def owner_of(made: ItemResult | Chapter, job_id: str) -> tuple[str, str]:
    """Return the job and item for which an item or joined file of the job `job_id` is sealed."""
    if isinstance(made, ItemResult):
        return made.kept_from or job_id, made.id
    return job_id, chapter_name(made.id + (PARTIAL_SUFFIX if made.status == "partial" else ""))


def sealed_files(made: ItemResult | Chapter, job_id: str) -> Iterator[SealedFile]:
    """Yield the output of an item or joined file of the job `job_id`, then its subtitles."""
    if made.output:
        owner = owner_of(made, job_id)
        yield of_output(made.output, made.envelope, owner)
        for file in made.subtitles:
            yield of_subtitle(file, owner)
