"""Reading blocks: from a bounded cache, else from the database."""

from __future__ import annotations

import threading
from collections import OrderedDict

from ._frames import Block

BlockKey = tuple[int, int, int, int]  # topic_id, priority, first_seq, count


class BlockCache:
    """Decoded blocks, the least recently used dropped first. Safe for any thread.

    Blocks never change and sequence numbers are never reused, so nothing goes stale.
    """

    def __init__(self, nbytes_max: int) -> None:
        self._lock = threading.Lock()  # guards _blocks, _nbytes
        self._blocks: OrderedDict[BlockKey, Block] = OrderedDict()
        self._nbytes_max = nbytes_max
        self._nbytes = 0

    def get(self, key: BlockKey) -> Block | None:
        with self._lock:
            block = self._blocks.get(key)
            if block is not None:
                self._blocks.move_to_end(key)
            return block

    def put(self, key: BlockKey, block: Block) -> None:
        with self._lock:
            if key in self._blocks:
                return
            self._blocks[key] = block
            self._nbytes += block.nbytes
            while self._nbytes > self._nbytes_max:
                _, dropped = self._blocks.popitem(last=False)
                self._nbytes -= dropped.nbytes
