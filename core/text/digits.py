"""The decimal digits of every script."""

from __future__ import annotations

import re
import unicodedata

_OTHER_DIGIT = re.compile(r"[^\D0-9]")


def to_ascii_digits(text: str) -> str:
    """Write decimal digits of other scripts as 0-9: `共٣个` is `共3个`.

    The rules for numbers begin with this, because `\\d` matches the digits of every script, while
    the rules compare them with 0-9.
    """
    return _OTHER_DIGIT.sub(lambda match: str(unicodedata.decimal(match[0])), text)
