"""Those who hear streams, and manifests for them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from core.audio.waveform import Audio, Samples
from core.job.runtime import Runtime
from core.job.streamed import ListenerLeft, StreamStart
from tests.support.runtime import put_job

TEXT = "The first words are heard. Then come the others, while they are made. And the last."


@dataclass
class Hearer:
    """Hears a stream, and leaves after some seconds of sound."""

    leaves_after: float = float("inf")
    start: StreamStart | None = None
    pieces: list[Samples] = field(default_factory=list)

    def begin(self, start: StreamStart) -> None:
        assert self.start is None
        self.start = start

    def hear(self, samples: Samples) -> None:
        assert self.start
        self.pieces.append(samples)
        self.check()

    def check(self) -> None:
        if self.heard and self.heard.seconds >= self.leaves_after:
            raise ListenerLeft

    @property
    def heard(self) -> Audio | None:
        if self.start is None:
            return None
        return Audio(np.concatenate([np.zeros(0, np.float32), *self.pieces]), self.start.rate)


def put_voice(runtime: Runtime, text: str = TEXT, **fields: Any) -> bytes:
    """Put a reference with its consent into the inbox; return the manifest of a stream."""
    key = put_job(runtime, name="another", items=[{"id": "said", "text": text}], **fields)
    manifest = runtime.inbox.get(key, limit=1 << 20).data
    runtime.inbox.delete(key)
    return manifest
