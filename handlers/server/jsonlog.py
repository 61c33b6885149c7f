"""Logging as one JSON object a line, which the log service indexes without a parsing rule."""

from __future__ import annotations

import json
import logging
import sys
import threading
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TextIO

from handlers.server.secrecy import Mask

log = logging.getLogger("voicedrop")

current_request: ContextVar[str] = ContextVar("current_request", default="")
"""Id of the platform's request that this thread or task serves; stated in every line."""

_STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime", "color_message"}
"""Attributes that are not fields given as `extra`."""


class JsonLines(logging.Formatter):
    def __init__(self, mask: Mask) -> None:
        super().__init__()
        self._mask = mask

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id := current_request.get():
            line["request_id"] = request_id
        line |= {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(_masked(line, self._mask), ensure_ascii=False)


def _masked(value: Any, mask: Mask) -> Any:
    """Mask every string by itself, so that the line remains valid JSON."""
    if isinstance(value, dict):
        return {str(name): _masked(inner, mask) for name, inner in value.items()}
    if isinstance(value, list | tuple | set):
        return [_masked(inner, mask) for inner in value]
    return value if isinstance(value, int | float | None) else mask(str(value))


def log_to(stream: TextIO, mask: Mask, level: int = logging.INFO) -> None:
    """Write the records of all loggers, warnings and uncaught exceptions to `stream`, with secrets
    masked. A second call replaces the first."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines(mask))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    sys.excepthook = _uncaught
    threading.excepthook = lambda hook: _uncaught(hook.exc_type, hook.exc_value, hook.exc_traceback)


def _uncaught(
    kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
) -> None:
    log.critical("uncaught", exc_info=(kind, error or kind(), trace))
