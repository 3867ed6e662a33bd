"""How commands note in the audit log what an operator does with them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager

import click

from blockqueue.storage import BlockQueueError

from ._audit import Audit


@contextmanager
def audited(path: str | None, what: str, **about: str) -> Iterator[None]:
    """Note what the block does, and whether it worked; without a ``path``, nowhere."""
    if path is None:
        yield
        return
    try:
        audit = Audit(path)
    except OSError as error:
        raise click.ClickException(f"cannot open the audit log {path}: {error}") from error
    said = {"what": what, "from": f"a shell of uid {os.getuid()}", **about}
    with closing(audit):
        try:
            yield
        except (BlockQueueError, click.ClickException) as error:
            audit.note(**said, status=getattr(error, "status", 400), reason=str(error))
            raise
        audit.note(**said, status=200)
