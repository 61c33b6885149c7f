"""Read, write and check consent records, `voicedrop/consent/1`.

A record names the SHA-256 of every recording that it covers, so it cannot be used for another
voice. It is stored in the inbox; an object `<key>.revoked` beside it, with any content, withdraws
it (core/consent/withdrawal.py). Results refer to a record by id and SHA-256 and never name the
person.

Sources: separate consent of the person whose voice is edited (China, Provisions on Deep Synthesis,
Art. 14; PIPL, Art. 29); voice protected like portrait (Civil Code, Art. 1023). docs/consent.md.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Literal, NamedTuple

import msgspec

from core.documents import canonical, violation
from core.documents.violation import string_pattern
from core.errors import ExplainedError, Refused
from core.manifest.fields import Channel, Id, Language, Voice, Window
from core.manifest.validate import join_pointer

SCHEMA: Literal["voicedrop/consent/1"] = "voicedrop/consent/1"
MAX_BYTES = 64 * 1024
MAX_RECORDINGS = 100
"""Recordings that a record may name, because each costs a note when it is withdrawn. A voice has at
most nine at a time. A longer record admits nothing, but it can be withdrawn: what keeps the cost
down must not keep a person from withdrawing consent that an earlier version accepted."""

Method = Literal[
    "recorded-statement", "signed-document", "own-voice", "public-domain", "synthetic-voice"
]
NEW_RECORD = "Then make the consent record for the new file."
"""What a converted reference needs, because a record names the digest of a file."""
REQUIRED_EVIDENCE = {
    "recorded-statement": "statement_audio",
    "signed-document": "evidence_sha256",
    "own-voice": "statement_text",
    "public-domain": "source",
    "synthetic-voice": "source",
}
"""Method -> the field that it requires."""

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=4000)]
Digest = Annotated[
    str, string_pattern(r"^[0-9a-f]{64}\Z", "A SHA-256 is 64 hexadecimal digits, lower case")
]
Timestamp = Annotated[datetime, msgspec.Meta(tz=True)]


class Subject(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose voice it is: a name, or a pseudonym that the controller can resolve."""

    name: Text | None = None
    pseudonym: Text | None = None

    def __post_init__(self) -> None:
        if not (self.name or self.pseudonym):
            raise ExplainedError("a subject needs a name or a pseudonym")


class Scope(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the voice may be used; an empty list sets no limit."""

    languages: list[Language] = []
    """ISO 639 codes as in manifests; checked."""
    channels: list[Text] = []
    """Such as radio, audiobook or telephone; not checked."""


class StatementAudio(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    key: Text
    sha256: Digest


class Consent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema: Literal["voicedrop/consent/1"]
    id: Id
    subject: Subject
    controller: Text
    """Who makes and uses the voice."""
    purposes: Annotated[list[Text], msgspec.Meta(min_length=1)]
    scope: Scope = Scope()
    valid_from: Timestamp
    valid_until: Timestamp | None = None
    """The record is valid before this time; null: without end."""
    revocable: bool = True
    method: Method
    statement_text: Annotated[str, msgspec.Meta(max_length=4000)] = ""
    """What the person said or signed."""
    statement_audio: StatementAudio | None = None
    evidence_sha256: Digest | None = None
    """SHA-256 of the signed document."""
    source: Annotated[str, msgspec.Meta(max_length=4000)] = ""
    """Origin and licence of the recording."""
    ref_audio_sha256: Annotated[list[Digest], msgspec.Meta(min_length=1)]
    """SHA-256 of the file of every recording that this record covers; see MAX_RECORDINGS."""
    protection_owner: Annotated[str, msgspec.Meta(max_length=4000)] = ""
    """The owner of the protection of this voice, if it is protected and its use is allowed."""
    created_by: Text

    def __post_init__(self) -> None:
        if not getattr(self, REQUIRED_EVIDENCE[self.method]):
            raise ExplainedError(f"the method {self.method} needs {REQUIRED_EVIDENCE[self.method]}")
        if self.valid_until and self.valid_until <= self.valid_from:
            raise ExplainedError("valid_until is not after valid_from")


class StatementCheck(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether a recorded statement is in the voice of the reference and in the record's words."""

    verified: bool
    similarity: dict[str, float] = {}
    """Speaker encoder -> similarity of statement and reference (cosine, -1..1)."""
    error_rate: float | None = None
    """Share of the words that differ from `statement_text`; null: not compared."""
    reason: str = ""
    """Why it is not verified."""


class ConsentRef(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A reference to a consent record, as results contain it."""

    id: str
    sha256: str
    """SHA-256 of the record's bytes."""
    method: Method
    statement: StatementCheck | None = None
    """Only if the record names a recorded statement."""


class ConsentClaim(NamedTuple):
    """A recording, and the consent record that is named for it."""

    key: str | None
    """Key of the record in the inbox; None if none is named."""
    reference_sha256: str
    pointer: str
    """JSON pointer into the manifest, for errors."""
    recording: str = ""
    """Its key in the inbox; empty if it is not known, so that errors name its digest."""
    channel: Channel = "mix"
    window: Window = "best"
    """From which part of it the voice is learned, like `channel`; another person may speak in
    another one."""

    @property
    def is_auxiliary(self) -> bool:
        """Whether it is about a recording of `aux`, whose index there ends the pointer."""
        return self.pointer.rpartition("/")[2].isdigit()

    @staticmethod
    def of(voice: Voice, index: int, digest: str, pointer: str) -> ConsentClaim:
        """Return the claim for `voice.recordings[index]`; pointer: that of the voice."""
        key, part = voice.recordings[index], (voice.channel, voice.window)
        place = f"{pointer}/aux/{index - 1}" if index else join_pointer(pointer, "consent")
        return ConsentClaim(voice.consent, digest, place, key, *part)


def parse_consent(record: bytes, *, pointer: str = "") -> Consent:
    """Parse a record. Raises Refused CONSENT_INVALID with the field and what is wrong with it."""
    try:
        return _parse(record)
    except ValueError as exc:
        message = f"Not a consent record: {_explain(exc, record)}."
        raise Refused("CONSENT_INVALID", message, pointer=pointer) from exc


@lru_cache(maxsize=16)
def _parse(record: bytes) -> Consent:
    """Parse a record once, because every item of a job asks what it allows."""
    return msgspec.convert(canonical.load(record), Consent)


def _explain(error: ValueError, record: bytes) -> str:
    if isinstance(error, ExplainedError):
        return str(error)
    if isinstance(error.__cause__, ExplainedError):  # raised by __post_init__
        return str(error.__cause__)
    found = violation.find_violation(canonical.load(record), Consent)
    if found is None:
        return "its fields have the wrong types"
    return f"{join_pointer('', *found.path)}: {found.message}" if found.path else found.message


def refuse_many(consent: Consent, pointer: str = "") -> None:
    """Raises Refused CONSENT_INVALID for a record of more than MAX_RECORDINGS recordings."""
    if (count := len(consent.ref_audio_sha256)) > MAX_RECORDINGS:
        message = (
            f"/ref_audio_sha256: A record names at most {MAX_RECORDINGS} recordings, not {count}. "
            "Divide them among several records."
        )
        raise Refused("CONSENT_INVALID", message, pointer=pointer)


def new_id() -> str:
    """Return a random id, which reveals nothing about the person."""
    return f"consent-{secrets.token_hex(6)}"


def format_consent(consent: Consent) -> bytes:
    """Return the record as indented JSON. Raises Refused CONSENT_INVALID as `parse_consent`."""
    fields = msgspec.to_builtins(consent)
    if not consent.protection_owner:
        del fields["protection_owner"]  # earlier versions do not know it
    data = msgspec.json.format(msgspec.json.encode(fields), indent=2) + b"\n"
    refuse_many(parse_consent(data))
    return data


def check_consent(
    record: bytes | None,
    claim: ConsentClaim,
    *,
    languages: Collection[str],
    at: datetime,
    revoked: bool,
) -> Consent:
    """Return the record if it allows the claimed recording to be used for these languages then.

    Raises Refused CONSENT_REVOKED, _MISSING, _INVALID, _SCOPE or _EXPIRED, in this order.
    """
    if revoked:
        raise Refused("CONSENT_REVOKED", pointer=claim.pointer)
    if record is None:
        raise Refused("CONSENT_MISSING", pointer=claim.pointer)
    consent = parse_covering(record, claim)
    refuse_use(consent, claim, languages=languages, at=at)
    return consent


def refuse_use(
    consent: Consent, claim: ConsentClaim, *, languages: Collection[str], at: datetime
) -> None:
    """Raise Refused CONSENT_SCOPE or CONSENT_EXPIRED unless the record allows these languages at
    this time, whatever the recording."""
    name = claim.key or consent.id
    if beyond := sorted(set(languages) - set(consent.scope.languages or languages)):
        allowed = ", ".join(consent.scope.languages)
        raise Refused(
            "CONSENT_SCOPE",
            f"The record {name} allows {allowed}; the text is spoken in {', '.join(beyond)}: "
            "`voicedrop consent new` writes one that allows it.",
            pointer=claim.pointer,
        )
    when = ""
    if at < consent.valid_from:
        when = f"is not valid yet, but from {_minute(consent.valid_from)} on"
    elif consent.valid_until and at >= consent.valid_until:
        when = f"was valid until {_minute(consent.valid_until)}"
    if when:
        raise Refused(
            "CONSENT_EXPIRED",
            f"The record {name} {when}: `voicedrop consent new` writes one that is valid now.",
            pointer=claim.pointer,
        )


def _minute(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def parse_covering(record: bytes, claim: ConsentClaim) -> Consent:
    """Parse a record that covers the recording of the claim. Raises Refused CONSENT_INVALID,
    CONSENT_SCOPE."""
    consent = parse_consent(record, pointer=claim.pointer)
    if claim.reference_sha256 in consent.ref_audio_sha256:
        return consent
    recording = claim.recording or f"the recording {claim.reference_sha256}"
    if claim.recording and claim.is_auxiliary:
        recording += " of `aux`"
    raise Refused(
        "CONSENT_SCOPE",
        f"The record {claim.key or consent.id} does not cover {recording}. Make one that does: "
        "`voicedrop consent new` with all recordings of the voice.",
        pointer=claim.pointer,
    )
