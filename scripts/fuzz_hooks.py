"""What Schemathesis must be told to make requests that a schema alone cannot describe."""

from __future__ import annotations

import re
from typing import Any

import schemathesis
from hypothesis import strategies as st

# Short ones, or claims would wait; all are in every range that is asked for.
schemathesis.openapi.format("go-duration", st.sampled_from(["1ms", "0.002s", "5ms", "7000us"]))
schemathesis.openapi.format("go-duration-long", st.sampled_from(["1m", "1h30m", ".5h", "11h"]))
schemathesis.openapi.format("cursor", st.just(""))
schemathesis.openapi.format(
    "cron",
    st.builds(
        " ".join,
        st.tuples(
            st.sampled_from(["*", "*/5", "0", "1,2,30-40/3"]),
            st.sampled_from(["*", "?", "0-6", "7/3"]),
            st.sampled_from(["*", "1", "*/2"]),
            st.sampled_from(["*", "JAN-mar", "12"]),
            st.sampled_from(["*", "SUN", "1-5"]),
        ),
    ),
)
schemathesis.openapi.format(
    "time-zone",
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"]),
)

# Names that the document allows, or fewer: a bad one must stay bad.
_NAME = re.compile(r"(?!\.{1,2}$)[^/\s\x00-\x1f\x7f-\x9f\ufffd]{1,150}")
_NAMES = {"topic": "orders", "sub": "worker"}


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: Any) -> Any:
    """Ask about the topic that is there, unless it is to be deleted or the name is a bad one."""
    for name, known in _NAMES.items():
        given = (path_parameters or {}).get(name)
        last = context.operation.path.endswith("{" + name + "}")
        if isinstance(given, str) and _NAME.fullmatch(given) and not last:
            path_parameters[name] = known
    return path_parameters


@schemathesis.hook
def map_query(context: Any, query: Any) -> Any:
    """Don't wait for messages as long as a claim does unless it is told otherwise."""
    if context.operation.path.endswith("/claim") and not (query or {}).get("timeout"):
        return {**(query or {}), "timeout": "5ms"}
    return query


# Limited in bytes, which a schema can only say in characters.
_BYTES_MAX = {"idempotency_key": 128, "correlation_id": 255, "name": 150}


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Let no text have more bytes than it may have characters."""
    for each in _objects(body):
        for name, most in _BYTES_MAX.items():
            text = each.get(name)
            if isinstance(text, str) and len(text) <= most < len(text.encode(errors="ignore")):
                each[name] = text.encode(errors="ignore")[:most].decode(errors="ignore")
    return body


@schemathesis.hook
def filter_body(context: Any, body: Any) -> bool:
    """Leave out a null where the document allows it: it is also made to be what is no date."""
    return not any("schedule_at" in each and each["schedule_at"] is None for each in _objects(body))


def _objects(body: Any) -> list[dict[str, Any]]:
    found = body if isinstance(body, list) else [body]
    return [each for each in found if isinstance(each, dict)]
