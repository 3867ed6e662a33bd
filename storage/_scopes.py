"""What a token may do: an action on a topic, on those below a prefix, or on all."""

from __future__ import annotations

from typing import NamedTuple

from . import limits
from ._errors import ValidationError

PUBLISH = "publish"
CONSUME = "consume"
MANAGE = "manage"
OBSERVE = "observe"
ACTIONS = (PUBLISH, CONSUME, MANAGE, OBSERVE)

ALL = "*"
_BELOW = ".*"


class Scope(NamedTuple):
    """An action, and the topics it is allowed on. None of the actions includes another.

    ``topics`` is a topic's name, or a prefix that ends in ``.*`` (``orders.*`` is every name
    that starts with ``orders.``), or ``*`` for all.
    """

    action: str
    topics: str

    def __str__(self) -> str:
        return f"{self.action}:{self.topics}"

    def covers(self, topic: str) -> bool:
        """Say whether a topic of that name is among the topics."""
        if self.topics.endswith(_BELOW):
            return topic.startswith(self.topics[:-1])
        return self.topics in (ALL, topic)


def parse_scope(text: str) -> Scope:
    """Return the scope that ``text`` says, like ``publish:orders.*``. Raises ValidationError."""
    action, colon, topics = text.partition(":")
    if action not in ACTIONS or not colon:
        actions = ", ".join(ACTIONS)
        raise ValidationError(
            f"{text!r} is not a scope: write ACTION:TOPIC, where the action is one of {actions}"
        )
    if topics != ALL:
        name = topics.removesuffix(_BELOW)
        if "*" in name:
            raise ValidationError(
                f"the scope {text!r} has its * in the wrong place: it is for all topics when it "
                "stands alone, and for all below a prefix when it ends in .*"
            )
        limits.check_name("topic", name)
    return Scope(action, topics)
