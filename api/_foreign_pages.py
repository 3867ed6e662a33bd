"""Pages of other sites: what they make a browser send must not reach a server without tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._needs import OBSERVE, Need

_OWN_SITES = frozenset({None, "same-origin", "none"})


def is_of_foreign_page(env: Mapping[str, Any], need: Need | None) -> bool:
    """Say whether a browser sends a request for a page that is not this server's.

    Any page can make its reader's browser send requests to the loopback address, though it
    cannot read the answers. Browsers say so themselves: by ``Origin`` of what is not a GET, by
    ``Sec-Fetch-Site`` of all. Other clients say nothing. A link to what only shows something
    may be followed.
    """
    origin: str | None = env.get("HTTP_ORIGIN")
    if origin is not None and origin.partition("://")[2] != env.get("HTTP_HOST"):
        return True
    if env.get("HTTP_SEC_FETCH_SITE") in _OWN_SITES:
        return False
    return need is not OBSERVE or env.get("HTTP_SEC_FETCH_MODE") != "navigate"
