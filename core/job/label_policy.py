"""What the operator lets a manifest ask for in `label`: how little, and whose provider code."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from core.errors import Refused
from core.job.quota import Quota
from core.manifest.fields import Label
from core.settings import LeastLabel

ANY = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelPolicy:
    least: LeastLabel = "none"
    """The least label: `none`, `implicit`, or `audible`, which is the implicit one and a cue."""
    codes: frozenset[str] = frozenset({ANY})
    """Provider codes that a manifest may name besides the operator's: `<code>`, or
    `<producer>=<code>` for one producer alone, percent-encoded as in messages about quotas. `*` is
    any code."""

    def refuse(self, label: Label, manifest: str, own: str) -> None:
        """Check the label of the manifest with this key. `own`: the operator's provider code.

        Raises Refused LABEL_REQUIRED, LABEL_PRODUCER_FORBIDDEN.
        """
        if self.least != "none":
            _refuse_less_than_implicit(label, own)
        if self.least == "audible" and label.cue == "none":
            message = "The operator requires an audible label: set `cue` to `morse-start`."
            raise Refused("LABEL_REQUIRED", message, pointer="/label/cue")
        code = own if label.producer is None else label.producer
        if code != own and not self._allows(code, manifest):
            raise Refused("LABEL_PRODUCER_FORBIDDEN", pointer="/label/producer")

    def _allows(self, code: str, manifest: str) -> bool:
        # The folder, never the RAM user: a sweep or the arrival of a recording may start the job.
        producer = quote(Quota().producer(manifest), safe="/:")
        entries = {ANY, f"{producer}={ANY}", f"{producer}={code}"}
        return not self.codes.isdisjoint(entries | ({code} if "=" not in code else set()))


def _refuse_less_than_implicit(label: Label, own: str) -> None:
    if label.profile == "none":
        message = "The operator requires the implicit label in every file: remove `profile`."
        raise Refused("LABEL_REQUIRED", message, pointer="/label/profile")
    if own and label.producer == "":
        message = "The operator requires a provider code in every label: remove `producer`."
        raise Refused("LABEL_REQUIRED", message, pointer="/label/producer")
