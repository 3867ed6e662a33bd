"""The trace that a publish belongs to: the two headers of W3C's Trace Context.

What is malformed is ignored, as the standard wants it: a trace never makes a publish fail.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from blockqueue.storage import limits

PARENT, STATE = "traceparent", "tracestate"

#: ``traceparent``, and ``tracestate`` if there is one: as headers of a message, too.
Trace = Mapping[str, str]

_NAMES = frozenset({PARENT, STATE})
_IDS = "(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
# Of a version that is not known yet, the beginning means what it means now.
_PARENT = re.compile(rf"00-{_IDS}|(?!00|ff)[0-9a-f]{{2}}-{_IDS}(-[\x21-\x7e]*)?")
_VALUE = r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
_KEY = r"([a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})"
_MEMBER = re.compile(rf"{_KEY}={_VALUE}")
_MEMBERS_MAX = 32


def received(environ: Mapping[str, Any]) -> Trace | None:
    """Return the trace that a request says it belongs to; None if it says none."""
    parent = environ.get("HTTP_TRACEPARENT")
    return None if parent is None else parsed(parent, environ.get("HTTP_TRACESTATE"))


def parsed(parent: str, state: str | None) -> Trace | None:
    """Return a trace. None if the parent is malformed; a malformed state is left out."""
    parent = parent.strip(" \t")
    if _PARENT.fullmatch(parent) is None:
        return None
    trace = {PARENT: parent}
    if state is not None and _is_state(state):
        trace[STATE] = state.strip(" \t")
    return trace


def trace_id(parent: str | None) -> str | None:
    """Return the id of the trace that a ``traceparent`` names, if it is well-formed."""
    trace = None if parent is None else parsed(parent, None)
    return None if trace is None else trace[PARENT].split("-", 2)[1]


def _is_state(text: str) -> bool:
    members = [each for each in (part.strip(" \t") for part in text.split(",")) if each]
    found = [match for match in map(_MEMBER.fullmatch, members) if match is not None]
    keys = {match[1] for match in found}
    return 0 < len(members) == len(found) == len(keys) <= _MEMBERS_MAX


def joined(headers: dict[str, str] | None, trace: Trace) -> dict[str, str] | None:
    """Return a message's headers with its trace.

    The publisher's own trace outranks it. It counts against the limit of the headers, and is
    left out where there is no room for it: the state first.
    """
    own = headers or {}
    if not _NAMES.isdisjoint(map(str.lower, own)):
        return headers
    for said in (trace, {PARENT: trace[PARENT]}):
        both = {**own, **said}
        if len(msgspec.json.encode(both)) <= limits.HEADERS_BYTES_MAX:
            return both
    return headers
