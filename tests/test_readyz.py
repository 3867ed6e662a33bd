"""``/readyz`` says why a server cannot work: all of it, a line for each reason."""

from __future__ import annotations

from pathlib import Path

import falcon.testing

from blockqueue.api.app import create_app

from .embedded_helpers import open_queue


def test_all_reasons_are_told_at_once(tmp_path: Path) -> None:
    """Whoever mends the first one need not come back to learn the next."""
    with open_queue(tmp_path, messages_max=10, bytes_max=100) as (queue, _):
        client = falcon.testing.TestClient(create_app(queue))
        ready = client.simulate_get("/readyz")
        assert (ready.status_code, ready.content) == (200, b"")
        queue.system.admission.enter(10, 95)
        space = queue.system.store.space
        space._stuck_bytes = 65 * 1024 * 1024
        queue.drain()
        answer = client.simulate_get("/readyz")
        space._stuck_bytes = 0
        queue.system.admission.leave(10, 95)
    assert answer.status_code == 503
    *lines, log = answer.text.splitlines()
    assert lines == [*("stopping", "10 messages wait to be written", "95 bytes wait to be written")]
    assert "65 MiB that cannot be moved" in log
