"""What a request must be allowed. Each route declares it for each of its methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from blockqueue import storage


class Need(NamedTuple):
    """The action that a token must have a scope for: on the topic of the path, or on all.

    ``in_body``: it is the body that names the topic, so whoever reads it calls
    ``check_creates``.
    """

    action: str
    in_body: bool = False


PUBLISH = Need(storage.PUBLISH)
CONSUME = Need(storage.CONSUME)
MANAGE = Need(storage.MANAGE)
OBSERVE = Need(storage.OBSERVE)
CREATE = Need(storage.MANAGE, in_body=True)
#: Anybody may, without a token.
OPEN = Need("")

Needs = Mapping[str, Need]


def need_of(resource: object, method: str) -> Need | None:
    """Return what a method of a route needs; None: nobody said, so nobody may."""
    needs: Needs = getattr(resource, "needs", {})
    need = needs.get(method)
    if need is None and (method == "OPTIONS" or not hasattr(resource, f"on_{method.lower()}")):
        return OPEN  # it does nothing, or does not exist: that is all it tells
    return need
