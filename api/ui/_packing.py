"""Whether an answer may be compressed."""

from __future__ import annotations

import falcon


def takes_gzip(req: falcon.Request) -> bool:
    """Return whether who asks understands gzip, and has not excluded it by ``q=0``."""
    for coding in (req.get_header("Accept-Encoding") or "").split(","):
        name, _, weight = coding.partition(";")
        if name.strip().lower() == "gzip":
            _, _, value = weight.replace(" ", "").partition("=")
            return value.strip("0.") != "" or value == ""
    return False
