"""Every way a job can fail, and every remark it can make.

JobError                retry   who must act
├── Refused             no      the producer: manifest, recording or record is wrong
├── Failed              no      nobody: we tried and could not make a result worth releasing
├── Misconfigured       no      the operator: keys, buckets, policy
└── Unavailable         yes     nobody yet: the platform calls again

A code is part of the result document: it never changes, its message may. The tables below are the
only list of codes; `docs/errors.md` is written from them and a test keeps it current.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

REFUSED: Mapping[str, str] = {
    # reference recordings
    "AUDIO_EMPTY": "The object holds no bytes: upload the recording again.",
    "AUDIO_UNRECOGNIZED": "Not an audio format we know: send WAV, FLAC, MP3, Ogg Vorbis or Opus.",
    "AUDIO_NOT_AUDIO": "Another kind of file under an audio name: check what the uploader stored.",
    "AUDIO_NO_SAMPLES": "The header is there but no sound follows: export the recording again.",
    "AUDIO_HEADER_INVALID": "The header contradicts itself or is cut: export the recording again.",
    "AUDIO_TRUNCATED": "The file ends before its header says it does: upload it again.",
    "AUDIO_CORRUPT": "The compressed data is damaged: upload the recording again.",
    "AUDIO_RATE_UNSUPPORTED": "Use a sample rate from 8 to 192 kHz.",
    "AUDIO_CHANNELS_UNSUPPORTED": "Use one to eight channels.",
    "AUDIO_CODEC_UNSUPPORTED": "Convert to WAV, FLAC, MP3, Ogg Vorbis or Opus.",
    "AUDIO_PHASE_CANCEL": "The two channels cancel each other: send one of them as mono.",
    "AUDIO_NONFINITE": "Samples are NaN or infinite: export the recording again.",
    "AUDIO_RANGE": "Float samples are far outside -1..1: normalise the recording.",
    "AUDIO_CLIPPED": "Too much of the recording is clipped: record at a lower level.",
    "AUDIO_SILENT": "The recording is silent.",
    "AUDIO_NO_SPEECH": "No speech was found: send a recording of one person speaking.",
    "AUDIO_TOO_SHORT": "Send at least three seconds of speech.",
    "AUDIO_TOO_LONG": "The recording is longer than we accept: cut it to the best ten seconds.",
    "AUDIO_TOO_LARGE": "The object is larger than we accept.",
    "AUDIO_DECODE_LIMIT": "Decoding gave more sound than the header announced: export it again.",
    "REF_NOT_FOUND": "No object has this key: upload the reference, then the manifest.",
    "REF_FORBIDDEN": "References must be keys in the inbox bucket itself.",
    "REF_NOT_READABLE": "The object is archived: restore it first.",
    "REF_HASH_MISMATCH": "The object's SHA-256 is not the one the manifest pins.",
    "REF_IS_SYNTHETIC": "The recording carries our watermark: clone from a human recording.",
    # manifests
    "MANIFEST_GONE": "The manifest was deleted before it could be read.",
    "MANIFEST_EMPTY": "The manifest holds nothing but white space.",
    "MANIFEST_TOO_LARGE": "Split the manifest into several.",
    "JSON_SYNTAX": "Not valid JSON at the line and column given.",
    "JSON_ENCODING": "Save the manifest as UTF-8.",
    "JSON_DUPLICATE_KEY": "A key stands twice in one object: remove one.",
    "JSON_TOO_DEEP": "Values are nested deeper than 16 levels.",
    "NUMBER_RANGE": "The number does not fit.",
    "SCHEMA_UNSUPPORTED": 'Set "schema" to "voicedrop/job/1".',
    "SCHEMA_TYPE": "The value has the wrong type.",
    "FIELD_MISSING": "A required field is missing.",
    "UNKNOWN_FIELD": "No such field: keys of your own must begin with x-.",
    "FIELD_UNSUPPORTED": "The field is part of the format, but this version cannot honour it.",
    "VALUE_RANGE": "The value is outside the range given.",
    "ITEMS_EMPTY": "A job needs at least one item.",
    "ITEMS_TOO_MANY": "Split the job into several.",
    "DUPLICATE_ID": "Two items share an id (compared without case).",
    "ID_INVALID": "Use 1-64 letters, digits, `.`, `_` or `-`, a letter or digit first.",
    "CHAPTER_INVALID": "Give each chapter one name, and put its items one after another.",
    "CHAPTER_TOO_LONG": "A file may have 4 GiB: use flac, mp3 or opus, or make more chapters.",
    "VOICE_UNKNOWN": "The item names a voice that the manifest does not define.",
    "KEY_INVALID": "Object keys are relative paths without . or .. segments.",
    "OUTPUT_EXISTS": "Another job has already written this output.",
    "LANGUAGE_UNSUPPORTED": "The voice engine does not speak this language.",
    # texts
    "TEXT_EMPTY": "There is nothing to say.",
    "TEXT_UNSPEAKABLE": "The text holds no word that can be spoken.",
    "TEXT_TOO_LONG": "Split the text into several items.",
    "TEXT_CONTROL": "Remove control characters other than tab and newline.",
    "TEXT_SURROGATE": "The text holds half of a character (a lone surrogate): encode it again.",
    "TEXT_COMBINING_LIMIT": "Too many combining marks on one letter.",
    # consent, labels, keys
    "CONSENT_MISSING": "Name a consent record for this voice: `voicedrop consent new` writes one.",
    "CONSENT_INVALID": "The consent record is not a valid voicedrop/consent/1 document.",
    "CONSENT_SCOPE": "The consent record does not cover this recording or use.",
    "CONSENT_EXPIRED": "The consent record is not valid today: renew it.",
    "CONSENT_REVOKED": "The speaker has withdrawn this consent.",
    "LABEL_CHARSET": "Label fields take printable ASCII without spaces, quotes or backslashes.",
    # batches
    "JSONL_BLANK_LINE": "Remove the blank line.",
    "JSONL_HEADER": "The first line must be the job header, and only the first.",
    "RETRY_UNKNOWN": "`retry_of` must be the id of a finished job of this results bucket.",
    "JSONL_LINE_TOO_LONG": "Lines may hold at most 64 KiB.",
    # checkpoints
    "CHECKPOINT_INVALID": "Not a whole GPT-SoVITS v2, v2Pro or v2ProPlus file: fetch it again.",
    "CHECKPOINT_UNSAFE": "The file holds more than tensors and could run code: not opened.",
    # quotas
    "QUOTA_EXCEEDED": "Enough for one day: tomorrow (UTC) upload it again with any change in it.",
    # events
    "EVENT_INVALID": "Not an OSS notification or a CloudEvent that wraps one.",
    # stores and sealed files
    "OBJECT_MISSING": "No object has this key.",
    "OBJECT_TOO_LARGE": "The object is larger than the reader accepts.",
    "OBJECT_CHANGED": "The object was replaced while we read it.",
    "SEAL_INVALID": "The sealed file is damaged, cut, or was sealed for another job or item.",
    "SIGNATURE_INVALID": "The document was changed after signing, or signed with another key.",
    "LOG_INVALID": "The log contradicts its signature, its entries or what it was before.",
}

FAILED: Mapping[str, str] = {
    "AUDIO_DECODER_CRASHED": "The decoder crashed or met its limits on this file: convert it.",
    "WATERMARK_VERIFY_FAILED": "The mark could not be read back, so the audio was not released.",
    "LABEL_VERIFY_FAILED": "The label could not be read back, so the audio was not released.",
    "CHAPTER_EMPTY": "No item of the chapter was made, so there is nothing to join.",
    "OUTPUT_SILENT": "The voice engine produced silence.",
    "SPEECH_UNSTABLE": "The voice engine dropped, repeated or stretched words at every attempt.",
    "RETRIES_EXHAUSTED": "The job failed at every attempt: see the dead letter for the last error.",
    "INTERNAL": "An error of ours: please report it with the job id.",
}

MISCONFIGURED: Mapping[str, str] = {
    "SETTING_INVALID": "Correct the setting named in the message.",
    "CONFIG_LOOP": "Inbox and results must not overlap, or results would trigger new jobs.",
    "BUCKET_VERSIONING_UNSAFE": "Use results and control buckets that never had versioning.",
    "BUCKET_MISSING": "Create the bucket or correct its name.",
    "BUCKET_FORBIDDEN": "Grant the role the rights listed in docs/deploy.md.",
    "ENDPOINT_INSECURE": "Use an https:// endpoint.",
    "KEY_NOT_FOUND": "Create the keys with `voicedrop init`, or point to them.",
    "KEY_PERMISSIONS": "Key files must be readable by their owner only (chmod 600).",
    "KEY_UNUSABLE": "The key is disabled or has the wrong form.",
    "KEY_DESTROYED": "The key that sealed this file no longer exists: its content is gone.",
    "MODEL_MISSING": "Install the model: `voicedrop doctor` says how.",
    "MODEL_INVALID": "The model file is not the one this version was made for.",
    "ENGINE_UNSUPPORTED": "Set VOICEDROP_ENGINE to an engine that is installed.",
}

UNAVAILABLE: Mapping[str, str] = {
    "STORAGE_UNAVAILABLE": "The object store did not answer as it should: tried again later.",
    "CREDENTIALS_EXPIRED": "The credentials ran out: tried again with fresh ones.",
    "KMS_UNAVAILABLE": "The key service did not answer: tried again later.",
    "NO_SPACE": "The disk is full: tried again later.",
    "JOB_BUSY": "Another worker holds this job: tried again later.",
    "LEASE_LOST": "Another worker took over this job.",
    "OVERLOADED": "As much is in hand as may be: tried again later.",
}

NOTICES: Mapping[str, str] = {
    "EXTENSION_MISMATCH": "The content is another audio format than the name says.",
    "RIFF_SIZE_FIXED": "The sizes in the WAV header were wrong and were taken from the file.",
    "TRAILING_BYTES": "Bytes before or after the audio were ignored.",
    "LOW_BANDWIDTH": "Telephone bandwidth: the voice will sound dull.",
    "LOSSY_TELEPHONY": "A telephone codec: the voice will sound rough.",
    "DOWNMIXED": "Several channels were mixed to one.",
    "DC_OFFSET": "A constant offset was removed.",
    "CLIPPING": "Some samples are clipped.",
    "LOW_LEVEL": "The recording is very quiet and was raised.",
    "NOISY": "The recording is noisy.",
    "AUDIO_MULTI_SPEAKER": "More than one person seems to speak: the voice will be neither's.",
    "TRANSCRIPT_MISMATCH": "The transcript does not say what is heard in the recording: mend it.",
    "TRIMMED": "The best window of a longer recording was used.",
    "BOM": "A byte order mark was removed.",
    "TEXT_BIDI": "Invisible direction marks were removed.",
    "TEXT_DROPPED_CHARS": "Characters that cannot be spoken were dropped.",
    "LANGUAGE_MISMATCH": "The text is written in another script than its language.",
    "CONSENT_OPTIONAL": "The operator allows voices without a consent record.",
    "LABEL_WAIVED": "The operator or producer waived the label the law asks for.",
    "LABEL_INCOMPLETE": "No provider code is configured, so the AIGC label in the file names none.",
    "CHAPTERS_NOT_JOINED": "Items name chapters, but output.concatenate does not ask to join them.",
    "ENGINE_CHANGED": "Items of this job were made by different engine versions.",
}


class JobError(Exception):
    """Something that ends an item or a job. Raise one of its four children."""

    codes: ClassVar[Mapping[str, str]] = {}
    retry: ClassVar[bool] = False

    def __init__(self, code: str, message: str = "", *, pointer: str = "") -> None:
        self.advice = self.codes[code]
        self.code = code
        self.message = _escape_surrogates(message or self.advice)
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
    """A package is needed that is not installed: one of an extra of pyproject.toml, or, where no
    extra is named, one that every installation has."""
    advice = f"Install it: scripts/setup {extra}" if extra else INSTALL_AGAIN
    return Misconfigured(code, f"{what} is not installed. {advice}")


@contextmanager
def importing(what: str, packages: Collection[str], extra: str = "") -> Iterator[None]:
    """Around imports, of an extra if one is named. Misconfigured MODEL_MISSING says whether the
    packages are not installed, or are and cannot be loaded, with the reason: it names the file that
    is not there."""
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
    """A ValueError whose text is ours: a message may quote it, as it may not quote a library's."""


def _escape_surrogates(text: str) -> str:
    """Half a character, which a producer may put into any name, has no UTF-8 form: a result that
    quotes it could not be written, and its job would be tried again until it is given up."""
    return text.encode(errors="backslashreplace").decode()


@dataclass(frozen=True, slots=True)
class Notice:
    """A remark that does not stop the job; kept in the result."""

    code: str
    message: str = ""
    pointer: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", self.message or NOTICES[self.code])


@contextmanager
def raising(error: JobError, on: type[Exception] | tuple[type[Exception], ...]) -> Iterator[None]:
    """Turn a library's exceptions into one of ours, keeping the cause."""
    try:
        yield
    except on as exc:
        raise error from exc
