"""Every error that can end a job or an item, and every notice that a result can carry.

JobError                retry   who must act
├── Refused             no      the producer: the manifest, recording or consent record is wrong
├── Failed              no      no one: the output was made but is not fit for release
├── Misconfigured       no      the operator: keys, buckets, policy
└── Unavailable         yes     no one yet: the platform calls again

A code is part of the result document and never changes; its message may. The tables below are the
only list of codes. `docs/errors.md` is generated from them, and a test checks that it is current.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

MANIFEST: Mapping[str, str] = {
    # manifests
    "MANIFEST_EMPTY": "The manifest is empty or only white space.",
    "MANIFEST_TOO_LARGE": "The manifest is too large: split it into several.",
    "JSON_SYNTAX": "This is not valid JSON: correct it at the line and column given.",
    "JSON_ENCODING": "The manifest is not UTF-8: save it as UTF-8.",
    "JSON_DUPLICATE_KEY": "A JSON object has a duplicate key: remove one of the two.",
    "JSON_TOO_DEEP": "Values are nested deeper than 16 levels: flatten them.",
    "NUMBER_RANGE": "The number is too large to be kept exactly.",
    "SCHEMA_UNSUPPORTED": 'Set "schema" to "voicedrop/job/1".',
    "SCHEMA_TYPE": "The value has the wrong type.",
    "FIELD_MISSING": "A required field is missing.",
    "UNKNOWN_FIELD": "There is no such field: names of your own fields must begin with x-.",
    "FIELD_UNSUPPORTED": "The field is part of the format, but this version does not support it.",
    "VALUE_RANGE": "The value is outside the allowed range.",
    "ITEMS_EMPTY": "The manifest has no items: add at least one.",
    "ITEMS_TOO_MANY": "The manifest has too many items: split the job into several.",
    "DUPLICATE_ID": "Two items have the same id (case is ignored).",
    "ID_INVALID": "Use 1-64 letters, digits, `.`, `_` or `-`; begin with a letter or digit.",
    "CHAPTER_INVALID": "Name each chapter uniquely, and keep its items together.",
    "CHAPTER_TOO_LONG": "A WAV file is limited to 4 GiB: use flac, mp3 or opus, or split it.",
    "VOICE_UNKNOWN": "The item names a voice that the manifest does not define.",
    "KEY_INVALID": "Object keys are relative paths without . or .. segments.",
    # texts
    "TEXT_EMPTY": "The text is empty.",
    "TEXT_UNSPEAKABLE": "The text contains no word that can be spoken.",
    "TEXT_TOO_LONG": "The text is too long: split it into several items.",
    "TEXT_CONTROL": "Remove control characters other than tab and newline.",
    "TEXT_SURROGATE": "The text contains a lone surrogate (half a character): encode it again.",
    "TEXT_COMBINING_LIMIT": "One letter has too many combining marks: remove some.",
    "MARKUP_INVALID": "Correct the markup: docs/text.md lists the elements of SSML that are read.",
    # batches
    "JSONL_BLANK_LINE": "JSON Lines may not contain blank lines: remove it.",
    "JSONL_HEADER": 'The first line, and no other, must be the job header: an object with "schema" '
    'and "voices", but without items.',
    "JSONL_LINE_TOO_LONG": "A line may be at most 64 KiB long.",
}
"""Refused, and only a changed manifest, which is a new job, can correct it: a retry cannot."""

REFUSED: Mapping[str, str] = {
    # reference recordings
    "AUDIO_EMPTY": "The file is empty (0 bytes): record it, or copy it again.",
    "AUDIO_UNRECOGNIZED": "Unsupported audio format: send WAV, FLAC, MP3, Ogg Vorbis or Opus.",
    "AUDIO_NOT_AUDIO": "The content is not audio, whatever the name says: check the upload.",
    "AUDIO_NO_SAMPLES": "The file has a header but no samples: export the recording again.",
    "AUDIO_HEADER_INVALID": "The header is inconsistent or truncated: export the recording again.",
    "AUDIO_TRUNCATED": "The file is shorter than its header says: upload it again.",
    "AUDIO_CORRUPT": "The compressed data is damaged: upload the recording again.",
    "AUDIO_RATE_UNSUPPORTED": "Use a sample rate from 8 to 192 kHz.",
    "AUDIO_CHANNELS_UNSUPPORTED": "Use one to eight channels.",
    "AUDIO_CODEC_UNSUPPORTED": "Convert to WAV, FLAC, MP3, Ogg Vorbis or Opus.",
    "AUX_UNSUPPORTED": "This engine learns from one recording only: remove `aux` from the voice.",
    "AUDIO_CHANNEL_MISSING": "The recording has one channel only: remove `channel` from the voice.",
    "AUDIO_PHASE_CANCEL": "The two channels cancel each other out: send one of them as mono.",
    "AUDIO_NONFINITE": "Samples are NaN or infinite: export the recording again.",
    "AUDIO_RANGE": "Float samples are far outside -1 to 1: normalise the recording.",
    "AUDIO_CLIPPED": "Too much of the recording is clipped: record at a lower level.",
    "AUDIO_SILENT": "The recording is silent: record it again.",
    "AUDIO_NO_SPEECH": "No speech was found: send a recording of one person speaking.",
    "AUDIO_TOO_SHORT": "Send at least three seconds of speech.",
    "AUDIO_TOO_LONG": "The recording is too long: cut it to the best ten seconds.",
    "AUDIO_TOO_LARGE": "The file is too large: send a shorter recording.",
    "AUDIO_DECODE_LIMIT": "The audio is longer than its header says: export it again.",
    "REF_NOT_FOUND": "The inbox has no file of this name: submit the recording, then the manifest.",
    "REF_FORBIDDEN": "A reference must be the key of an object in the inbox bucket.",
    "REF_NOT_READABLE": "The object is in archive storage: restore it first.",
    "REF_HASH_MISMATCH": "The recording's SHA-256 differs from the one in the manifest.",
    "REF_IS_SYNTHETIC": "The recording carries a voicedrop watermark: use a human recording.",
    **MANIFEST,
    # manifests that may be right elsewhere, or at another time
    "MANIFEST_GONE": "The manifest was deleted before it could be read.",
    "OUTPUT_EXISTS": "Another job has already written this output.",
    "LANGUAGE_UNSUPPORTED": "Choose a language that the voice engine speaks: `voicedrop doctor` "
    "lists them.",
    "RETRY_UNKNOWN": "`retry_of` must be the id of a finished job of this results bucket.",
    # consent, labels, keys
    "CONSENT_MISSING": "The voice has no consent record: `voicedrop consent new` writes one, which "
    "the manifest must name as `consent` of the voice.",
    "CONSENT_INVALID": "The consent record is not a valid voicedrop/consent/1 document: "
    "`voicedrop consent new` writes one.",
    "CONSENT_SCOPE": "The consent record does not cover this recording or use: "
    "`voicedrop consent new` writes one that does.",
    "CONSENT_EXPIRED": "The consent record has ended or has not begun: `voicedrop consent new` "
    "writes one that is valid now.",
    "CONSENT_UNVERIFIED": "The record needs a recorded statement that can be verified.",
    "CONSENT_REVOKED": "Consent was withdrawn: only a record valid from a later date counts, which "
    "`voicedrop consent new` writes if the person consents again.",
    "VOICE_PROTECTED": "The voice is protected: only a consent record that names its owner admits "
    "it (`voicedrop consent new --protection-owner`).",
    "LEXICON_MISSING": "The inbox has no lexicon of this name: submit it, or correct its name in "
    "the manifest.",
    "LEXICON_INVALID": "Correct the lexicon: docs/text.md says what an entry contains.",
    "LEXICON_CHANGED": "The lexicon was replaced while the job ran: `voicedrop retry` the job.",
    "LABEL_CHARSET": "Label fields take printable ASCII without spaces, quotes or backslashes.",
    "LABEL_REQUIRED": "The operator requires more of a label than this manifest asks for.",
    "LABEL_PRODUCER_FORBIDDEN": "This provider code is not allowed here: remove `producer`, or ask "
    "the operator to allow it.",
    # checkpoints
    "CHECKPOINT_INVALID": "Not a complete GPT-SoVITS v2, v2Pro or v2ProPlus file: fetch it again.",
    "CHECKPOINT_UNSAFE": "The file contains more than tensors and could run code: not loaded.",
    "JOB_CANCELLED": "The job was cancelled: `voicedrop retry` the job to have the rest made.",
    # the HTTP interface
    "REQUEST_INVALID": "Correct the request as the message says; /openapi.json describes it.",
    "CALLER_UNKNOWN": "Send the token that the operator gave you: `Authorization: Bearer TOKEN`.",
    "SCOPE_MISSING": "Your token does not allow this: ask the operator for one that does.",
    "ORIGIN_FORBIDDEN": "Call this server by its own address, and from no other web page.",
    "IDEMPOTENCY_KEY_REUSED": "Choose a new Idempotency-Key: this one came with another request.",
    "JOB_FINISHED": "The job is finished, so nothing is left to cancel: `voicedrop erase` deletes "
    "outputs.",
    "NOT_OPENED_HERE": "This server holds no keys: fetch the sealed file, and open it where the "
    "keys are.",
    # quotas
    "QUOTA_EXCEEDED": "Daily quota exceeded: `voicedrop retry` the job after 00:00 UTC.",
    # events
    "EVENT_INVALID": "The event is neither an OSS notification nor a CloudEvent that contains one.",
    # stores and sealed files
    "OBJECT_MISSING": "There is no such object or file: check its name.",
    "OBJECT_TOO_LARGE": "The file or object is too large to be read.",
    "FILE_EXISTS": "The file exists and is not replaced: choose another name, or move it away.",
    "FILE_UNUSABLE": "Check its permissions and the free space of the disk, or choose another.",
    "OBJECT_CHANGED": "The object was replaced while it was being read.",
    "SEAL_INVALID": "The sealed file is damaged, truncated, or belongs to another job or item.",
    "SIGNATURE_INVALID": "The document was changed after signing, or signed with another key.",
    "LOG_MISSING": "This bucket has no log: nothing was logged, or this copy lacks log/.",
    "LOG_INVALID": "The log does not match its signature, entries or an earlier checkpoint.",
}

FAILED: Mapping[str, str] = {
    "AUDIO_DECODER_CRASHED": "The decoder crashed or exceeded its limits on this file: convert it.",
    "WATERMARK_VERIFY_FAILED": "The watermark could not be read back: the audio was not released.",
    "LABEL_VERIFY_FAILED": "The label could not be read back, so the audio was not released.",
    "CHAPTER_EMPTY": "All items of the chapter failed, so there is nothing to join.",
    "OUTPUT_SILENT": "The voice engine produced silence.",
    "SPEECH_UNSTABLE": "The voice engine dropped, repeated or stretched words at every attempt.",
    "STREAM_CANCELLED": "The listener left too early for anything to be kept: ask again.",
    "RETRIES_EXHAUSTED": "The job failed at every attempt: correct what the last error names, "
    "then `voicedrop retry` the job.",
    "INTERNAL": "Internal error: please report it with the job id.",
}

MISCONFIGURED: Mapping[str, str] = {
    "SETTING_INVALID": "Correct the setting named in the message.",
    "CONFIG_LOOP": "Use separate inbox and results buckets: results would trigger new jobs.",
    "BUCKET_VERSIONING_UNSAFE": "Versioning was enabled on this bucket: use one that never had it.",
    "BUCKET_MISSING": "Correct the name, or create it. --bucket names the folder that contains "
    "`inbox`, `results` and `control`; VOICEDROP_RESULTS and its like name each of them.",
    "BUCKET_FORBIDDEN": "Access denied: grant the role the permissions listed in docs/deploy.md.",
    "ENDPOINT_INSECURE": "Use an https:// endpoint.",
    "KEY_NOT_FOUND": "Set VOICEDROP_KEYS to the folder that has the keys, or put them there.",
    "KEY_PERMISSIONS": "Key files must be readable by their owner only (chmod 600).",
    "KEY_UNUSABLE": "The key is disabled or has the wrong form.",
    "KEY_DESTROYED": "The key of this sealed file was not found: restore it if that is possible. "
    "Without it the file cannot be opened.",
    "MODEL_MISSING": "Install what is missing: `voicedrop models get NAME` for a GPT-SoVITS model, "
    "scripts/setup for everything else.",
    "MODEL_INVALID": "The model file does not belong to this version: install the model again.",
    "SANDBOX_UNAVAILABLE": "This system cannot confine decoders: run on Linux with seccomp, or set "
    "VOICEDROP_SANDBOX=best_effort.",
    "DECODER_UNAVAILABLE": "The process that decodes recordings fails to start: "
    "docs/operations.md says how to see why.",
    "ENGINE_UNSUPPORTED": "Set VOICEDROP_BUNDLE to a model, or VOICEDROP_ENGINE to kokoro.",
}

UNAVAILABLE: Mapping[str, str] = {
    "STORAGE_UNAVAILABLE": "The object store did not answer correctly.",
    "CREDENTIALS_EXPIRED": "The credentials have expired.",
    "KMS_UNAVAILABLE": "The key service (KMS) did not answer.",
    "WEBHOOK_FAILED": "The web server of VOICEDROP_WEBHOOK did not accept an event.",
    "NO_SPACE": "The disk is full: make room on it.",
    "JOB_BUSY": "Another worker is running this job.",
    "LEASE_LOST": "Another worker took over this job.",
    "FORMAT_NEWER": "A newer version of voicedrop wrote this, and its workers continue: upgrade "
    "this one.",
    "OVERLOADED": "Too many jobs are in progress.",
}

NOTICES: Mapping[str, str] = {
    "EXTENSION_MISMATCH": "The audio format differs from the file name extension.",
    "RIFF_SIZE_FIXED": "The sizes in the WAV header were wrong and were taken from the file size.",
    "TRAILING_BYTES": "Bytes before or after the audio were ignored.",
    "LOW_BANDWIDTH": "The recording has telephone bandwidth: the voice will sound dull.",
    "LOSSY_TELEPHONY": "The recording uses a telephone codec: the voice will sound rough.",
    "DOWNMIXED": "Several channels were mixed down to one.",
    "BOTH_SIDES_SPEAK": "Somebody speaks in each channel of the call: set `channel` to choose.",
    "DC_OFFSET": "A DC offset was removed.",
    "CLIPPING": "Some samples are clipped.",
    "LOW_LEVEL": "The recording is very quiet and was raised.",
    "NOISY": "The recording is noisy.",
    "AUDIO_MULTI_SPEAKER": "Several people seem to speak: the voice will match none of them.",
    "TRANSCRIPT_MISMATCH": "The transcript does not match the recording: correct it.",
    "TRIMMED": "The recording is long: only its best part was used.",
    "BOM": "A byte order mark was removed.",
    "TEXT_BIDI": "Invisible direction marks were removed.",
    "TEXT_DROPPED_CHARS": "Characters that cannot be spoken were dropped.",
    "LANGUAGE_MISMATCH": "The script of the text does not match its language.",
    "STATEMENT_UNVERIFIED": "The recorded statement of consent could not be verified.",
    "PROTECTION_WAIVED": "The voice is protected; its consent record names the protection's owner.",
    "CONSENT_OPTIONAL": "The operator allows voices without a consent record.",
    "LABEL_WAIVED": "The operator or producer waived the label that the law requires.",
    "LABEL_INCOMPLETE": "No provider code is configured, so the AIGC label in the file has none.",
    "CHAPTERS_NOT_JOINED": "Items name chapters but were not joined: output.concatenate is none.",
    "OUTPUT_REMOVED": "Consent ended before the job was finished: the file was deleted.",
    "STREAM_SHORTENED": "The listener left before the end: the file is what was sent until then.",
    "ENGINE_CHANGED": "Items of this job were made by different engine versions.",
}


class JobError(Exception):
    """An error that ends an item or a job. Raise one of the four subclasses."""

    codes: ClassVar[Mapping[str, str]] = {}
    retry: ClassVar[bool] = False

    def __init__(
        self, code: str, message: str = "", *, pointer: str = "", advice: str | None = None
    ) -> None:
        """`advice`: what to do, if the table has nothing for this case; empty if the message says
        it."""
        self.advice = self.codes[code] if advice is None else advice
        self.code = code
        self.message = _escape_surrogates(message or self.codes[code])
        self.pointer = _escape_surrogates(pointer)
        """JSON pointer into the manifest, or an object key."""
        super().__init__(f"{code}: {self.message}" + (f" (at {self.pointer})" if pointer else ""))


class Refused(JobError):
    codes = REFUSED


class Failed(JobError):
    codes = FAILED


class Misconfigured(JobError):
    codes = MISCONFIGURED


INSTALL_AGAIN = "Install it again: scripts/setup"


def missing_extra(what: str, extra: str, code: str = "MODEL_MISSING") -> Misconfigured:
    """Return the error for a package that is not installed. `extra`: the extra of pyproject.toml
    that installs it; empty if every installation should have it."""
    advice = f"Install it: scripts/setup {extra}" if extra else INSTALL_AGAIN
    return Misconfigured(code, f"{what} is not installed. {advice}")


@contextmanager
def importing(what: str, packages: Collection[str], extra: str = "") -> Iterator[None]:
    """Turn an ImportError in the block into Misconfigured MODEL_MISSING. Its message says whether
    the packages are not installed, or which file keeps an installed one from loading."""
    try:
        yield
    except ImportError as exc:
        if isinstance(exc, ModuleNotFoundError) and exc.name in packages:
            raise missing_extra(what, extra) from exc
        message = f"{what} is installed but cannot be loaded: {exc}"
        raise Misconfigured("MODEL_MISSING", message) from exc


class Unavailable(JobError):
    codes = UNAVAILABLE
    retry = True


class ExplainedError(ValueError):
    """A ValueError whose text was written for users, so that messages may quote it."""


def _escape_surrogates(text: str) -> str:
    """Escape lone surrogates, which have no UTF-8 form. A producer may put one into any name, and a
    result that quotes it could not be written."""
    return text.encode(errors="backslashreplace").decode()


@dataclass(frozen=True, slots=True)
class Notice:
    """A remark that does not stop the job and is reported in the result."""

    code: str
    message: str = ""
    pointer: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", self.message or NOTICES[self.code])


@contextmanager
def raising(error: JobError, on: type[Exception] | tuple[type[Exception], ...]) -> Iterator[None]:
    """Replace exceptions of the types `on` by `error`, with the original as its cause."""
    try:
        yield
    except on as exc:
        raise error from exc
