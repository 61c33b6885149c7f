"""Check a recorded statement of consent: is it the voice of the reference, and are these its words?

    control  voices/<recording>/statement-<record>.<channel>.<window>.json    the outcome, signed

A record names its recorded statement in `statement_audio`. It is decoded in a confined process like
any recording, compared with the reference by two speaker encoders, and with `statement_text` by a
speech recogniser (extra `asr`). The outcome is kept beside the voice, and destroyed with it. Voice
and words are those of all the speech in the statement: otherwise somebody could read the statement
and append a recording of the person. The reference is that part of the recording from which the
voice is learned: another channel may contain another person.

The check proves that one person spoke both, or that somebody can clone the voice already: it is no
detector of synthetic speech, except that our own watermark is refused.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.audio import decoding, waveform
from core.audio.waveform import Audio, Samples
from core.consent import records
from core.consent.gate import Gate
from core.consent.records import Consent, ConsentClaim, StatementAudio, StatementCheck
from core.crypto.sealing import Digest
from core.documents import signed
from core.documents.signed import Signature
from core.errors import Failed, Refused
from core.job.own_mark import refuse_own_output
from core.job.runtime import Runtime
from core.manifest.fields import Channel, Window
from core.speech import activity, channels, recognise, reference
from core.speech.encoders import Encoder, cosine_similarity
from core.speech.speaker import load_encoders
from core.storage.object_keys import statement_check_key
from core.text.segment import split_by_language

MAX_ERROR_RATE: Final = 0.4
"""Share of the statement's words (characters in Chinese, Japanese and Korean) that may differ from
those that were heard; docs/consent.md says how it was chosen."""
MAX_SECONDS: Final = 120.0
_PIECE_S: Final = 3.0
_MAX_BYTES = 16 * 1024


class KeptCheck(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema: Literal["voicedrop/statement-check/2"] = "voicedrop/statement-check/2"
    recording: Digest
    record: Digest
    channel: Channel
    window: Window
    check: StatementCheck
    signature: Signature | None = None


def check_statement(gate: Gate, runtime: Runtime) -> StatementCheck | None:
    """Return the outcome for the record of a gate; None if it names no recorded statement.

    What is wrong with the statement is part of the outcome.
    """
    if gate.record is None:
        return None
    record = records.parse_consent(gate.record)
    if record.statement_audio is None:
        return None
    key = _key(gate)
    kept = _read(key, runtime)
    if kept and (kept.error_rate is not None or runtime.hear_statement is None):
        return kept
    try:
        check = _compare(gate.claim, record, record.statement_audio, runtime)
    except (Refused, Failed) as exc:
        check = StatementCheck(verified=False, reason=f"{exc.code}: {exc.message}")
    if check.similarity:  # it could be decoded, so that the next check would end in the same way
        runtime.control.put(key, _sign(check, gate, runtime))
    return check


def _compare(
    claim: ConsentClaim, record: Consent, named: StatementAudio, runtime: Runtime
) -> StatementCheck:
    data = _fetch(named.key, named.sha256, "statement", runtime)
    reference.prepare(data, named.key)  # it must be as good as a reference
    decoded = decoding.decode(data, name=named.key, max_seconds=MAX_SECONDS)
    statement = waveform.resample(channels.mix_to_mono(decoded)[0], activity.RATE)
    refuse_own_output(statement, runtime.keys.watermark, named.key)
    recording = _fetch(claim.recording, claim.reference_sha256, "recording", runtime)
    original = reference.prepare(
        recording, record.id, channel=claim.channel, window=claim.window
    ).audio
    is_speech = _find_speech(statement)
    speech = statement.samples[is_speech]
    similarity = {e.name: round(_similarity(e, speech, original), 3) for e in load_encoders()}
    strangers = [e.name for e in load_encoders() if similarity[e.name] < e.threshold]
    # What was not compared with the reference is not heard.
    heard = Audio(np.where(is_speech, statement.samples, np.float32(0)), statement.rate)
    rate = _error_rate(heard, record, runtime)
    reason = ""
    if strangers:
        reason = f"Another voice than that of the reference by {', '.join(strangers)}."
    elif rate is None:
        reason = "The words were not compared: that needs the extra asr, a statement_text and a "
        reason += f"language of {', '.join(sorted(recognise.LANGUAGES))}."
    elif rate > MAX_ERROR_RATE:
        reason = f"{rate:.0%} of the words differ from statement_text."
    return StatementCheck(
        verified=not reason, similarity=similarity, error_rate=rate, reason=reason
    )


def _fetch(key: str, sha256: str, what: str, runtime: Runtime) -> bytes:
    data = runtime.inbox.get(key, limit=decoding.BYTES_LIMIT).data
    if hashlib.sha256(data).hexdigest() != sha256:
        raise Refused("REF_HASH_MISMATCH", f"The SHA-256 of the {what} is another one.")
    return data


def _find_speech(statement: Audio) -> NDArray[np.bool_]:
    """Return which samples are speech."""
    mask = np.repeat(activity.detect_speech(statement.samples).mask, activity.HOP)
    return np.pad(mask, (0, len(statement.samples)))[: len(statement.samples)]


def _similarity(encoder: Encoder, speech: Samples, original: Audio) -> float:
    """Return the lower quartile of the similarities of pieces of speech at 16 kHz with the
    reference: three of four must be as similar, so that a long recording of the person makes up for
    no other voice, and a doubtful piece refuses nobody."""
    count = max(1, len(speech) // round(_PIECE_S * activity.RATE))
    pieces = (Audio(piece, activity.RATE) for piece in np.array_split(speech, count))
    known = encoder.embed(original)
    similar = [cosine_similarity(encoder.embed(piece), known) for piece in pieces]
    return float(np.quantile(similar, 0.25))


def _error_rate(statement: Audio, record: Consent, runtime: Runtime) -> float | None:
    language = statement_language(record.statement_text)
    words = record.statement_text
    if runtime.hear_statement is None or not words or language not in recognise.LANGUAGES:
        return None
    heard = runtime.hear_statement(statement, language)
    return round(recognise.error_rate(words, heard, language), 3)


def statement_language(text: str) -> str:
    """Return the language in which most of a statement is written."""
    lengths: dict[str, int] = {}
    for language, run in split_by_language(text, "auto"):
        lengths[language] = lengths.get(language, 0) + len(run)
    if lengths.get("ja"):
        return "ja"  # names and loan words in Chinese characters are read in Japanese
    return max(lengths, key=lengths.__getitem__, default="en")


def _sign(check: StatementCheck, gate: Gate, runtime: Runtime) -> bytes:
    claim = gate.claim
    kept = KeptCheck(
        recording=claim.reference_sha256,
        record=_record_digest(gate),
        channel=claim.channel,
        window=claim.window,
        check=check,
    )
    return signed.sign(kept, runtime.keys.signing)


def _read(key: str, runtime: Runtime) -> StatementCheck | None:
    with suppress(Refused):
        data = runtime.control.get(key, limit=_MAX_BYTES).data
        kept = signed.read(data, KeptCheck, runtime.keys.verifying)
        if key == statement_check_key(kept.recording, kept.record, kept.channel, kept.window):
            return kept.check
    return None


def _key(gate: Gate) -> str:
    claim = gate.claim
    record = _record_digest(gate)
    return statement_check_key(claim.reference_sha256, record, claim.channel, claim.window)


def _record_digest(gate: Gate) -> str:
    return hashlib.sha256(gate.record or b"").hexdigest()
