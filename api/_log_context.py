"""What this thread, or task, is busy with: so that its log records say so."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Protocol


class Subject(Protocol):
    """A request, or a worker's job."""

    def said(self) -> Mapping[str, object]:
        """Return what its log records have besides: ids and names, never a secret."""
        ...


_subject: ContextVar[Subject | None] = ContextVar("blockqueue_subject", default=None)
#: Begin to be busy with something, or with nothing.
busy_with = _subject.set

# Actors are run by whichever thread wakes them, for many at once: what they log is about none.
_ACTORS = frozenset({"blockqueue", "pykka"})


class SubjectFilter(logging.Filter):
    """Lets every record pass, with what it is about. What a record says itself stays."""

    def filter(self, record: logging.LogRecord) -> bool:
        subject = None if record.name in _ACTORS else _subject.get()
        if subject is not None:
            for name, value in subject.said().items():
                vars(record).setdefault(name, value)
        return True
