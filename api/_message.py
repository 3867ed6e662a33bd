"""A message as a caller writes it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec

from ._durations import Duration


class Message(msgspec.Struct, frozen=True):
    """A message with options of its own, for ``publish_many``.

    ``priority`` is −1000 to 1000, higher first. ``delay`` counts from the commit;
    ``schedule_at`` is a time with a zone instead. See ``BlockQueue.publish``.
    """

    payload: str | bytes
    headers: Mapping[str, str] | None = None
    correlation_id: str | None = None
    priority: int = 0
    delay: Duration | None = None
    schedule_at: datetime | None = None
    idempotency_key: str | None = None
