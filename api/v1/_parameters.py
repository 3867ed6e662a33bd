"""The query parameters, and the types of members that several bodies have."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from blockqueue.storage import ValidationError, limits

from ._pages import LIMIT_DEFAULT, Cursors, read_limit
from ._table import Parameter
from ._times import lease_ms, within

_CONTROL = r"\x00-\x1f\x7f-\x9f"
# Without look-arounds, which not every reader of schemas knows.
_NAME = rf"^[^/\s{_CONTROL}\ufffd]([^/{_CONTROL}\ufffd]*[^/\s{_CONTROL}\ufffd])?$"
_SPAN = r"\+?(0|(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)"
_GO = "numbers with units ns, us, ms, s, m or h"

DURATION_SCHEMA: dict[str, Any] = {
    "type": "string",
    "format": "go-duration",
    "maxLength": 64,
    "pattern": f"^({_SPAN})?$",
}
_DURATION_SAYS = ("format", "maxLength", "pattern")

NAME_SCHEMA: dict[str, Any] = {"pattern": _NAME, "not": {"enum": [".", ".."]}}

Name = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=limits.NAME_BYTES_MAX,
        description=f"1 to {limits.NAME_BYTES_MAX} bytes of UTF-8 without `/`, control "
        "characters, or spaces at either end; not `.` or `..`.",
        extra_json_schema=NAME_SCHEMA,
    ),
]
TopicName = Annotated[Name, Meta(examples=["orders"])]
SubscriberName = Annotated[Name, Meta(examples=["worker"])]
Duration = Annotated[
    str,
    Meta(
        description=f"A duration: {_GO}, like `300ms`, `5s` or `1h30m`.",
        examples=["30s"],
        extra_json_schema={name: DURATION_SCHEMA[name] for name in _DURATION_SAYS},
    ),
]
Reason = Annotated[
    str,
    Meta(description="Cut to 16,384 bytes if it is longer.", examples=["the order is void"]),
]
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_LENIENT = {"type": ["integer", "string"]}  # what makes no sense there is not refused


def page(cursors: Cursors) -> list[Parameter]:
    """Return the parameters of a list in pages."""
    return [
        Parameter(
            "limit",
            read_limit,
            {**_LENIENT, "default": LIMIT_DEFAULT},
            f"At most so many items, 1 to {limits.BATCH_MAX}.",
        ),
        Parameter(
            "cursor",
            cursors.read,
            {"type": "string", "format": "cursor", "pattern": "^[A-Za-z0-9_-]*$"},
            "The `next_cursor` of the page before.",
        ),
    ]


def _wait_for(text: str | None) -> bool:
    if text is None or text == "commit":
        return text is not None
    raise ValidationError(f"wait_for can only be 'commit', not {text[:64]!r}")


def _timeout(text: str | None) -> int:
    allowed = "more than zero and at most 60s"
    return within("timeout", text or "30s", 1, limits.WAIT_MS_MAX, allowed)


def _lease(text: str | None) -> int | None:
    return lease_ms("lease", text)


def _claim_limit(text: str | None) -> int:
    return read_limit(text, 10)


def _force(text: str | None) -> bool:
    if text in _TRUE:
        return True
    if not text or text in _FALSE:
        return False
    raise ValidationError(f"force must be true or false, not {text[:64]!r}")


WAIT_FOR = Parameter(
    "wait_for",
    _wait_for,
    {"type": "string", "enum": ["commit"]},
    "With `commit` the answer is 200. A message is on the disk before the answer either way.",
)
TIMEOUT = Parameter(
    "timeout",
    _timeout,
    {**DURATION_SCHEMA, "default": "30s"},
    "How long to wait for the first message: more than zero, at most 60s.",
)
LEASE = Parameter(
    "lease",
    _lease,
    DURATION_SCHEMA,
    "How long the messages are the caller's: more than zero, at most 12h. Default: the "
    "subscriber's visibility.",
)
CLAIM_LIMIT = Parameter(
    "limit",
    _claim_limit,
    {**_LENIENT, "default": 10},
    f"At most so many messages, 1 to {limits.BATCH_MAX}.",
)
FORCE = Parameter(
    "force",
    _force,
    {"type": "string", "enum": ["", *sorted(_TRUE | _FALSE)], "default": "false"},
    "Publish even while the run before is unfinished.",
)
