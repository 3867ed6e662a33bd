"""Publishes one message after the other, with a line on its output once each is stored.

Run under strace: ``python prefix_writer.py DATABASE COUNT [BREAK]``. It ends without closing
the queue, as one does that is killed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from blockqueue import BlockQueue

TOPIC, SUBSCRIBER = "topic", "worker"
_CHECKPOINT_EVERY = 12


def body(number: int) -> str:
    """Return the message of that number: some are longer than a page."""
    return f"{number} " + "".join(chr(97 + (number * 7 + i * i) % 26) for i in range(number * 97))


def main(database: str, count: int) -> None:
    queue = BlockQueue(database)
    queue.create_topic(TOPIC, [SUBSCRIBER])
    for number in range(count):
        queue.publish(TOPIC, body(number))
        os.write(1, b"stored %d\n" % number)
        if number % _CHECKPOINT_EVERY == _CHECKPOINT_EVERY - 1:
            queue.system.store.checkpoint()
    os._exit(0)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from tests.faults.broken import BREAKS

    for name in sys.argv[3:]:
        BREAKS[name]()
    main(sys.argv[1], int(sys.argv[2]))
