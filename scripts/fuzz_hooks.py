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

_NAME = re.compile(r"[^/\s\x00-\x1f\x7f-\x9f]+")
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
