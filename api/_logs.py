"""The log of a process on stderr: lines for people, or JSON for programs."""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from pythonjsonlogger.core import RESERVED_ATTRS, BaseJsonFormatter, merge_record_extra

from ._log_context import SubjectFilter

logger = logging.getLogger("blockqueue")

# What can stand in a line as it is. Everything else is quoted, so that no line looks like two.
_PLAIN = re.compile(r"[!#-<>-~]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def configure(form: str, level: str) -> None:
    """Set up the log of this process, unless whoever embeds it has done so."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    handler.addFilter(SubjectFilter())
    logging.basicConfig(handlers=[handler], level=level.upper())
    logging.getLogger("pykka").setLevel(logging.WARNING)
    if level != "debug":  # a line for each request of a worker, with its address
        logging.getLogger("httpx2").setLevel(logging.WARNING)
    if form == "json":  # what is written past the log would be no JSON
        logging.captureWarnings(True)
        sys.excepthook = _on_exception
        threading.excepthook = _on_thread_exception
        sys.unraisablehook = _on_unraisable


class TextLines(logging.Formatter):
    """A line a record, with what else it says as ``name=value`` at the end."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        line = _CONTROL.sub(lambda found: repr(found[0])[1:-1], super().formatMessage(record))
        said = merge_record_extra(record, {}, RESERVED_ATTRS)
        return " ".join([line, *(f"{name}={_quoted(value)}" for name, value in said.items())])


class JsonLines(BaseJsonFormatter):
    """An object a line, in ASCII."""

    def __init__(self) -> None:
        super().__init__(
            ("asctime", "levelname", "name", "message", "process"),
            rename_fields={
                "asctime": "time",
                "levelname": "level",
                "name": "logger",
                "process": "pid",
                "exc_info": "exception",
                "stack_info": "stack",
            },
        )

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        at = datetime.fromtimestamp(record.created, UTC)
        return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def jsonify_log_record(self, log_data: dict[str, Any]) -> str:
        return json.dumps(log_data, default=str)


def _quoted(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if not isinstance(value, str) or _PLAIN.fullmatch(text) else json.dumps(text)


def _on_exception(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    logger.critical("the process ends by a bug", exc_info=(kind, error, traceback))


def _on_thread_exception(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
        name = args.thread.name if args.thread is not None else "?"
        logger.critical("thread %s has ended by a bug", name, exc_info=args.exc_value)


def _on_unraisable(args: sys.UnraisableHookArgs) -> None:
    logger.error("an error that nobody can be told, in %r", args.object, exc_info=args.exc_value)
