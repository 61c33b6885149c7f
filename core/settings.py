"""Every setting, declared once: its default, the values it accepts and one line of help.

The parser, `voicedrop doctor`, the help of options and the tables in both READMEs come from these
declarations. The environment is a parameter; nothing else reads our variables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from core.errors import Misconfigured

ApiJwt = Literal["off", "platform"]
CacheStore = Literal["bucket", "redis"]
ConsentPolicy = Literal["required", "optional", "verified"]
Engine = Literal["kokoro", "gpt_sovits"]
GuardKind = Literal["sound", "words"]
LeastLabel = Literal["none", "implicit", "audible"]
MarkPreset = Literal["balanced", "quiet", "robust"]
Preparation = Literal["best", "article"]
Producers = Literal["prefix", "principal"]
SandboxPolicy = Literal["required", "best_effort"]
SpeechCacheStore = Literal["off", "bucket", "redis"]
Environ = Mapping[str, str]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One row of the table."""

    name: str
    type: Any
    """Says how the text is read: str, Path, int, float, or a Literal of the choices."""
    default: Any
    help: str
    low: float = 0
    high: float = 0
    secret: bool = False
    verbatim: bool = False
    """Of a path: `~` is not expanded, and an empty text is the current folder."""
    is_place: bool = False
    """A folder or bucket: an empty text counts as not set."""
    otherwise: Callable[[Environ], Any] | None = None
    """Gives the default where other variables decide about it."""

    @property
    def variable(self) -> str:
        return f"VOICEDROP_{self.name.upper()}"

    @property
    def choices(self) -> tuple[str, ...]:
        return get_args(self.type) if get_origin(self.type) is Literal else ()

    def read(self, environ: Environ) -> Any:
        """Raises Misconfigured SETTING_INVALID that names the variable."""
        text = environ.get(self.variable)
        keeps_empty = (self.type is str or self.choices or self.verbatim) and not self.is_place
        if text is None or not (text or keeps_empty):
            return self.otherwise(environ) if self.otherwise else self.default
        if self.type in (int, float):
            return self.type(self._number(text))
        if self.choices and text not in self.choices:
            raise self._invalid(f"one of {', '.join(self.choices)}")
        if self.choices or self.type is str:
            return text
        return Path(text) if self.verbatim else Path(text).expanduser()

    def _number(self, text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not self.low <= value <= self.high:
            raise self._invalid(f"a number from {self.low:g} to {self.high:g}")
        return value

    def _invalid(self, expected: str) -> Misconfigured:
        return Misconfigured("SETTING_INVALID", f"{self.variable} must be {expected}")


def setting(default: T, help: str, *, secret: bool = False, **row: Any) -> T:
    """Declares a field of `Settings`. `row`: further fields of its `Setting`."""
    metadata = {"help": help, "secret": secret, **row}
    return field(default=default, repr=not secret, metadata=metadata)


def _in_bucket(folder: str) -> Callable[[Environ], str]:
    return lambda environ: f"{BUCKET.read(environ).rstrip('/')}/{folder}"


def _user_cache(environ: Environ) -> Path:
    base = environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path(environ.get("HOME", "/tmp")) / ".cache") / "voicedrop"  # noqa: S108


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    inbox: str = setting(
        "./bucket/inbox",
        "Folder or `oss://bucket` where manifests and recordings arrive. Empty: in "
        "`VOICEDROP_BUCKET`, like the next two.",
        is_place=True,
        otherwise=_in_bucket("inbox"),
    )
    results: str = setting(
        "./bucket/results",
        "Folder or `oss://bucket` for results, sealed audio, events and the log.",
        is_place=True,
        otherwise=_in_bucket("results"),
    )
    control: str = setting(
        "./bucket/control",
        "Folder or `oss://bucket` for what workers keep, such as leases and voiceprints.",
        is_place=True,
        otherwise=_in_bucket("control"),
    )
    oss_endpoint: str = setting(
        "", "Address of OSS, beginning with `https://`. Empty: the public address for the region."
    )
    oss_region: str = setting(
        "",
        "Region of the buckets and the KMS key, such as `cn-hangzhou`. Not set: `FC_REGION`.",
        otherwise=lambda environ: environ.get("FC_REGION", ""),
    )
    # Expanding `~` now would lose the keys of those who have a folder of that name.
    keys: Path = setting(
        Path("keys"),
        "Folder of the keys that `voicedrop init` makes; used while the next three are all empty.",
        verbatim=True,
    )
    kek: str = setting(
        "",
        "Key-encryption key: 32 bytes in base64, or several with commas between, the current one "
        "first. Empty: from `VOICEDROP_KEYS`. This and every other secret may instead say where it "
        "is read at the start (docs/deploy.md): `control:KEY`, or encrypted by KMS, `kms:BLOB`.",
        secret=True,
    )
    signing_key: str = setting(
        "",
        "Ed25519 private key: its PEM file in base64. After it, with commas between, those of "
        "earlier signing keys or their public keys. Empty: from `VOICEDROP_KEYS`.",
        secret=True,
    )
    watermark_key: str = setting(
        "",
        "Watermark key: 32 bytes in base64, or several with commas between, the current one first. "
        "Empty: from `VOICEDROP_KEYS`.",
        secret=True,
    )
    kms_key: str = setting(
        "",
        "Key in Alibaba Cloud KMS (id, alias or ARN) that wraps the data keys. Empty: the "
        "key-encryption key does.",
    )
    kms_endpoint: str = setting(
        "", "Host of KMS. Empty: the public one of the region, `kms.<region>.aliyuncs.com`."
    )
    mark: MarkPreset = setting(
        "balanced",
        "Strength of the watermark: `quiet` is less audible, `robust` is harder to destroy "
        "(docs/watermark.md).",
    )
    consent: ConsentPolicy = setting(
        "required",
        "`required` refuses a voice without a consent record; `optional` accepts it, and every "
        "result says so; `verified` also demands a recorded statement, in the voice of the "
        "reference and in the record's words (extra `asr`; docs/consent.md).",
    )
    engine: Engine = setting(
        "kokoro", "Voice engine; `gpt_sovits` needs `VOICEDROP_BUNDLE` (docs/gpt-sovits.md)."
    )
    bundle: Path | None = setting(
        None, "Folder of a converted GPT-SoVITS model for the engine `gpt_sovits`. Empty: none."
    )
    guard: GuardKind = setting(
        "sound",
        "`words` has whisper (extra `asr`) compare recordings with their transcripts, and every "
        "sentence of `gpt_sovits` with its text, in one or two seconds each; `sound` does not.",
    )
    kokoro: Path | None = setting(
        None, "Model file of the engine `kokoro`. Empty: the one in the installed packages."
    )
    prepare: Preparation = setting(
        "best",
        "How recordings are prepared: `best`, or `article` (16 kHz, compression, a peak of 0.9, "
        "half a second of silence at both ends), which measured worse (docs/reference.md). A "
        "manifest may choose for a voice.",
    )
    cache: Path = setting(
        Path.home() / ".cache" / "voicedrop",
        "Folder for models, without personal data. Empty: in `XDG_CACHE_HOME`, or in `~/.cache`.",
        otherwise=_user_cache,
    )
    label_producer: str = setting(
        "", "Your provider code for the AIGC label of GB 45438-2025 (docs/labels.md). Empty: none."
    )
    label_min: LeastLabel = setting(
        "none",
        "The least label that a manifest may ask for: `none`, with a waiver; `implicit`, that in "
        "a file's metadata; `audible`, which also needs a cue.",
    )
    label_codes: str = setting(
        "*",
        "Provider codes that manifests may name besides yours, with spaces between; "
        "`jobs/acme=CODE` allows one to that folder only. `*`: any. Empty: none.",
    )
    sandbox: SandboxPolicy = setting(
        "best_effort",
        "`required` decodes no recording where the kernel cannot filter the system calls of a "
        "decoder; `best_effort` does, with a warning. The image sets `required`.",
    )
    threads: int = setting(
        0, "Threads per model. 0: one for `kokoro`, every usable CPU for `gpt_sovits`.", high=256
    )
    lanes: int = setting(
        0,
        "Items of a job that are made at once. 0: one per usable CPU for `kokoro` (fewer if "
        "`VOICEDROP_THREADS` is more than one), and as many for `gpt_sovits` as it speaks in one "
        "batch.",
        high=256,
    )
    lease_seconds: float = setting(
        30.0,
        "Seconds after which a worker that no longer answers loses its job.",
        low=1,
        high=3600,
    )
    max_attempts: int = setting(
        5, "Attempts without progress before a job is committed as failed.", low=1, high=100
    )
    quota_jobs: int = setting(0, "Jobs per producer per day (UTC). 0: no limit.", high=100_000)
    quota_characters: int = setting(
        0, "Characters to be spoken per producer per day (UTC). 0: no limit.", high=10**12
    )
    quota_traces: int = setting(
        0, "Clips that are traced per producer per day (UTC). 0: no limit.", high=100_000
    )
    quota_by: Producers = setting(
        "prefix",
        "Who a producer is: the first folder under `jobs/` or `audit/` (`prefix`) or the RAM user "
        "who uploads (`principal`; docs/operations.md).",
    )
    trace_seconds: float = setting(
        360.0,
        "Seconds that a worker may spend on tracing a clip, a tenth of the function's time limit; "
        "then the report says that it is not complete. `voicedrop trace` has no limit.",
        low=1,
        high=86_400,
    )
    calls: int = setting(
        4,
        "Notifications that an instance of the function carries out at once; more wait. The same "
        "number as `instanceConcurrency` in s.yaml. Their items share the lanes.",
        low=1,
        high=200,
    )
    tokens: int = setting(
        50, "Notifications in progress at once, per process or per Redis.", low=1, high=10_000
    )
    redis: str = setting(
        "",
        "`redis://[:password@]host:6379/0` (`rediss://` for TLS), where instances count their "
        "notifications together (extra `redis`). Empty: each process counts its own.",
        secret=True,
    )
    voice_cache: CacheStore = setting(
        "bucket",
        "Where voiceprints are kept: in the control bucket, or for `VOICEDROP_CACHE_HOURS` in "
        "`VOICEDROP_REDIS`. They are sealed in both.",
    )
    speech_cache: SpeechCacheStore = setting(
        "off",
        "Where the speech of items is kept, sealed but not yet watermarked, so that the same words "
        "in the same voice need not be spoken again: nowhere, in the control bucket or in "
        "`VOICEDROP_REDIS` (docs/producers.md).",
    )
    cache_hours: float = setting(
        24.0,
        "Hours for which speech is kept, and everything in `VOICEDROP_REDIS`.",
        low=0.01,
        high=8760,
    )
    shard_items: int = setting(
        200, "Items per shard; a job with more items is split into shards.", low=1, high=10_000
    )
    price: float = setting(
        0.0,
        "Price of a minute of speech, in any currency, for estimates without `VOICEDROP_PRICES` or "
        "before anything is measured. 0: none is given.",
        high=1e6,
    )
    prices: str = setting(
        "",
        "Price table of the instance, such as `currency=USD unit=0.000020 cpu=4*1 memory=8*0.15 "
        "call=0.0075`, with which results state what they cost (docs/deploy.md). Empty: none.",
    )
    api_tokens: str = setting(
        "",
        "Who may call the HTTP interface: `NAME:SCOPE+SCOPE:SHA256` of each token, with spaces "
        "between; `voicedrop keys token` makes them (docs/http.md). Empty: whoever is on this "
        "machine, if it listens on a loopback address.",
    )
    api_jwt: ApiJwt = setting(
        "off",
        "`platform`: callers of the HTTP interface send JSON Web Tokens that the platform has "
        "verified before; `sub` names the producer. `off`: they send `VOICEDROP_API_TOKENS`.",
    )
    webhook: str = setting(
        "",
        "Address (`https://`) of a web server that is told about every finished job and trace "
        "(docs/events.md). Empty: none.",
    )
    webhook_secret: str = setting(
        "",
        "Secret with which it verifies that: `whsec_` and 24 to 64 bytes in base64. Several with "
        "commas between all sign.",
        secret=True,
    )
    webhook_networks: str = setting(
        "",
        "Networks such as `10.0.0.0/8`, with spaces between, where that server may be although "
        "they are not part of the Internet.",
    )
    metrics: str = setting(
        "",
        "Address and port, such as `127.0.0.1:9464`, where Prometheus metrics are served without a "
        "password at `/metrics` (extra `metrics`; docs/monitoring.md). Empty: nowhere.",
    )

    @staticmethod
    def from_environ(environ: Environ) -> Settings:
        """Raises Misconfigured SETTING_INVALID that names the variable."""
        return Settings(**{f.name: SETTINGS[f.name].read(environ) for f in fields(Settings)})

    def refuse_loops(self) -> None:
        """Results written where manifests are read would trigger new jobs for ever."""
        places = {"inbox": self.inbox, "results": self.results, "control": self.control}
        names = list(places)
        for i, one in enumerate(names):
            for other in names[i + 1 :]:
                if _overlap(places[one], places[other]):
                    raise Misconfigured(
                        "CONFIG_LOOP", f"{one} {places[one]} and {other} {places[other]} overlap."
                    )


def _overlap(one: str, other: str) -> bool:
    if one.startswith("oss://") or other.startswith("oss://"):
        return one.rstrip("/") == other.rstrip("/")
    a, b = Path(one).resolve(), Path(other).resolve()
    return a.is_relative_to(b) or b.is_relative_to(a)


BUCKET = Setting(
    name="bucket",
    type=str,
    default="./bucket",
    help="Folder that contains the folders `inbox`, `results` and `control`.",
    is_place=True,
)
_TYPES = get_type_hints(Settings)
SETTINGS: Mapping[str, Setting] = {"bucket": BUCKET} | {
    f.name: Setting(name=f.name, type=_TYPES[f.name], default=f.default, **f.metadata)
    for f in fields(Settings)
}
"""Name -> row, in the order in which they are shown. `bucket` alone is no field of `Settings`."""
DEPLOYMENT = frozenset(
    f"VOICEDROP_{name}"
    for name in (
        *("IMAGE", "MACHINE", "DOMAIN", "CERT_ID"),
        *("INBOX_BUCKET", "RESULTS_BUCKET", "CONTROL_BUCKET"),
        *("KEK_SOURCE", "SIGNING_KEY_SOURCE", "WATERMARK_KEY_SOURCE", "REDIS_SOURCE"),
    )
)
"""Variables that s.yaml reads at deployment. They are not settings."""


def unknown_variables(environ: Environ) -> Iterator[tuple[str, str]]:
    """Yield each variable that looks like a setting and is none, with a remark that names the
    setting that may be meant."""
    known = {row.variable for row in SETTINGS.values()} | DEPLOYMENT
    for variable in environ:
        if variable.startswith("VOICEDROP_") and variable not in known:
            name = variable.removeprefix("VOICEDROP_").lower()
            nearest = get_close_matches(name, SETTINGS, n=1)
            hint = f" Did you mean {SETTINGS[nearest[0]].variable}?" if nearest else ""
            yield variable, f"Unknown setting, ignored.{hint}"
