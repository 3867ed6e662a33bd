"""A server that is broken on purpose: it answers a publish before it is on the disk.

The campaign must catch it, or a clean campaign proves nothing. Run as
``python crash_control.py serve …``, with the options of ``blockqueue serve``.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from typing import Any

from blockqueue import BlockQueue, Message
from blockqueue.actors import Promise
from blockqueue.api.cli import main

LATE_S = 0.2


class LateCommits:
    """Takes messages, says that they are stored, and stores them some time later."""

    def __init__(self) -> None:
        self._publish = BlockQueue.publish
        self._waiting: queue.SimpleQueue[tuple[float, BlockQueue, str, Message]]
        self._waiting = queue.SimpleQueue()
        threading.Thread(target=self._store, daemon=True).start()

    def publish(self, blockqueue: BlockQueue, topic: str, message: Message) -> Promise[Any]:
        """Return at once a promise that is kept, as if the message were on the disk."""
        self._waiting.put((time.monotonic() + LATE_S, blockqueue, topic, message))
        promise: Promise[Any] = Promise()
        promise.complete([])
        return promise

    def _store(self) -> None:
        pause = threading.Event()
        while True:
            due, blockqueue, topic, message = self._waiting.get()
            pause.wait(max(0.0, due - time.monotonic()))
            self._publish(blockqueue, topic, message.payload)


if __name__ == "__main__":
    late = LateCommits()

    def start_publish(
        self: BlockQueue, topic: str, messages: Sequence[Message], trace: object = None
    ) -> Promise[Any]:
        (message,) = messages
        return late.publish(self, topic, message)

    BlockQueue.start_publish = start_publish  # type: ignore[method-assign, assignment]
    main(prog_name="blockqueue")
