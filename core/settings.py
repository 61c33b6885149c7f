"""Every setting, read once from an environ that is a parameter: nothing else reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from core.errors import Misconfigured

ConsentPolicy = Literal["required", "optional"]
Engine = Literal["kokoro", "gpt_sovits"]
GuardKind = Literal["sound", "words"]
Producers = Literal["prefix", "principal"]
MarkPreset = Literal["balanced", "quiet", "robust"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    inbox: str = "./bucket/inbox"
    """A folder or `oss://bucket`: where manifests and references arrive."""
    results: str = "./bucket/results"
    control: str = "./bucket/control"
    oss_endpoint: str = ""
    """`https://oss-cn-hangzhou-internal.aliyuncs.com`; empty: derived from the region."""
    oss_region: str = ""
    keys: Path = Path("keys")
    """Folder with the key-encryption, signing and watermark keys, unless the next four are set."""
    kek: str = field(default="", repr=False)
    """Key-encryption key, base64 of 32 bytes."""
    signing_key: str = field(default="", repr=False)
    """Ed25519 private key, PEM in base64."""
    watermark_key: str = field(default="", repr=False)
    """Watermark key, base64 of 32 bytes."""
    kms_key: str = ""
    """Key id, alias or ARN in Alibaba Cloud KMS that wraps data keys instead of `kek`."""
    mark: MarkPreset = "balanced"
    """Strength of the watermark: less audible or harder to destroy."""
    consent: ConsentPolicy = "required"
    engine: Engine = "kokoro"
    bundle: Path | None = None
    """Converted GPT-SoVITS bundle for the engine `gpt_sovits`."""
    guard: GuardKind = "sound"
    """Of gpt_sovits: `words` has a recogniser listen to every sentence as well (extra `asr`)."""
    kokoro: Path | None = None
    """Kokoro model file, instead of the one from the packages."""
    cache: Path = Path.home() / ".cache" / "voicedrop"
    """Models joined from packages. Nothing personal is kept here."""
    label_producer: str = ""
    """Your provider code for the AIGC label of GB 45438-2025."""
    threads: int = 0
    """Threads per model; 0: one for kokoro, the container's quota for gpt_sovits."""
    lease_seconds: float = 30.0
    """How long a silent worker keeps a job; it renews three times as often."""
    max_attempts: int = 5
    """Attempts without any progress before a job is committed as failed."""
    quota_jobs: int = 0
    """Jobs a day and producer; 0: no limit."""
    quota_characters: int = 0
    """Characters to be spoken, a day and producer; 0: no limit."""
    quota_by: Producers = "prefix"
    """Who a producer is: the folder under `jobs/`, or the RAM principal that uploaded."""
    tokens: int = 50
    """Notifications in hand at once, of this process or of all that share `redis`."""
    redis: str = field(default="", repr=False)
    """`redis://[:password@]host:6379/0`, where the tokens of several instances are kept."""
    shard_items: int = 200
    """Jobs of more items are cut into shards of at most as many, each a call of its own."""
    price: float = 0.0
    """Of a minute of speech, in a currency of your choice, for estimates; 0: not known."""

    @staticmethod
    def from_environ(environ: Mapping[str, str]) -> Settings:
        """Raises Misconfigured SETTING_INVALID that names the variable."""
        bucket = environ.get("VOICEDROP_BUCKET", "./bucket").rstrip("/")
        return Settings(
            inbox=environ.get("VOICEDROP_INBOX", f"{bucket}/inbox"),
            results=environ.get("VOICEDROP_RESULTS", f"{bucket}/results"),
            control=environ.get("VOICEDROP_CONTROL", f"{bucket}/control"),
            oss_endpoint=environ.get("VOICEDROP_OSS_ENDPOINT", ""),
            oss_region=environ.get("VOICEDROP_OSS_REGION", environ.get("FC_REGION", "")),
            keys=Path(environ.get("VOICEDROP_KEYS", "keys")),
            kek=environ.get("VOICEDROP_KEK", ""),
            signing_key=environ.get("VOICEDROP_SIGNING_KEY", ""),
            watermark_key=environ.get("VOICEDROP_WATERMARK_KEY", ""),
            kms_key=environ.get("VOICEDROP_KMS_KEY", ""),
            mark=_one_of(environ, "VOICEDROP_MARK", get_args(MarkPreset)),
            consent=_one_of(environ, "VOICEDROP_CONSENT", get_args(ConsentPolicy)),
            engine=_one_of(environ, "VOICEDROP_ENGINE", get_args(Engine)),
            bundle=_path(environ, "VOICEDROP_BUNDLE"),
            guard=_one_of(environ, "VOICEDROP_GUARD", get_args(GuardKind)),
            kokoro=_path(environ, "VOICEDROP_KOKORO"),
            cache=_path(environ, "VOICEDROP_CACHE") or _user_cache(environ),
            label_producer=environ.get("VOICEDROP_LABEL_PRODUCER", ""),
            threads=int(_number(environ, "VOICEDROP_THREADS", 0, low=0, high=256)),
            lease_seconds=_number(environ, "VOICEDROP_LEASE_SECONDS", 30, low=1, high=3600),
            max_attempts=int(_number(environ, "VOICEDROP_MAX_ATTEMPTS", 5, low=1, high=100)),
            quota_jobs=int(_number(environ, "VOICEDROP_QUOTA_JOBS", 0, low=0, high=100_000)),
            quota_characters=int(
                _number(environ, "VOICEDROP_QUOTA_CHARACTERS", 0, low=0, high=1e12)
            ),
            quota_by=_one_of(environ, "VOICEDROP_QUOTA_BY", get_args(Producers)),
            tokens=int(_number(environ, "VOICEDROP_TOKENS", 50, low=1, high=10_000)),
            redis=environ.get("VOICEDROP_REDIS", ""),
            shard_items=int(_number(environ, "VOICEDROP_SHARD_ITEMS", 200, low=1, high=10_000)),
            price=_number(environ, "VOICEDROP_PRICE", 0, low=0, high=1e6),
        )

    def refuse_loops(self) -> None:
        """Results written where manifests are read would trigger new jobs for ever."""
        places = {"inbox": self.inbox, "results": self.results, "control": self.control}
        names = list(places)
        for i, one in enumerate(names):
            for other in names[i + 1 :]:
                if _overlap(places[one], places[other]):
                    raise Misconfigured(
                        "CONFIG_LOOP", f"{one} {places[one]} and {other} {places[other]} overlap"
                    )


def _one_of(environ: Mapping[str, str], name: str, allowed: tuple[str, ...]) -> Any:
    value = environ.get(name, allowed[0])
    if value not in allowed:
        raise Misconfigured("SETTING_INVALID", f"{name} must be one of {', '.join(allowed)}")
    return value


def _number(
    environ: Mapping[str, str], name: str, default: float, *, low: float, high: float
) -> float:
    text = environ.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise Misconfigured("SETTING_INVALID", f"{name} must be a number from {low:g} to {high:g}")
    return value


def _path(environ: Mapping[str, str], name: str) -> Path | None:
    value = environ.get(name, "")
    return Path(value).expanduser() if value else None


def _user_cache(environ: Mapping[str, str]) -> Path:
    base = environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path(environ.get("HOME", "/tmp")) / ".cache") / "voicedrop"  # noqa: S108


def _overlap(one: str, other: str) -> bool:
    if one.startswith("oss://") or other.startswith("oss://"):
        return one.rstrip("/") == other.rstrip("/")
    a, b = Path(one).resolve(), Path(other).resolve()
    return a.is_relative_to(b) or b.is_relative_to(a)
