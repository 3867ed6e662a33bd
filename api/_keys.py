"""The tokens as a process that serves knows them, without a query for each request."""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from blockqueue import storage
from blockqueue.actors import Promise
from blockqueue.storage import Snapshot, Token

from ._quota import Quota
from .queue import BlockQueue

logger = logging.getLogger("blockqueue")

# For so long a process believes what it knows, so that a token is revoked everywhere in time.
_BELIEVED_S = 0.5
# How coarse the time is at which a token was last used: each note is a write.
_USED_S = 300.0
_REMEMBERED_MAX = 1_000


class Key:
    """A token that is good, and what is asked for with it at the moment."""

    __slots__ = ("_allowed", "noted_s", "quota", "token")

    def __init__(self, token: Token, now: Callable[[], float]) -> None:
        self.token = token
        self.quota = Quota(token.limits, now)
        self.noted_s = -_USED_S
        self._allowed: set[tuple[str, str]] = set()

    def may(self, action: str, topic: str) -> bool:
        """Say what the token says; what it allows is remembered, for it never changes."""
        asked = action, topic
        if asked in self._allowed:
            return True
        if not self.token.may(action, topic):
            return False
        if len(self._allowed) < _REMEMBERED_MAX:
            self._allowed.add(asked)
        return True


class _Known(NamedTuple):
    """What a look at the database has told. Replaced as a whole, so it needs no lock."""

    #: Empty: no token was ever made.
    version: bytes
    keys: dict[bytes, Key]
    looked_s: float
    commits: int


class KeyRing:
    """Finds tokens. Safe for any thread. An idle process looks at nothing."""

    def __init__(self, queue: BlockQueue, now: Callable[[], float] = time.monotonic) -> None:
        self._queue = queue
        self._now = now
        self._known = _Known(b"", {}, float("-inf"), -1)

    @property
    def is_empty(self) -> bool:
        """Whether no token was ever made. Once one was, it stays false."""
        return not self._fresh().version

    def find(self, secret: str) -> Key | None:
        """Return the key of a token that is good now."""
        digest = storage.digest_of(secret)
        known = self._fresh()
        key = known.keys.get(digest)
        if key is None and known.commits != self._commits():
            key = self._look().keys.get(digest)  # it may have been made just now
        if key is None or not hmac.compare_digest(key.token.digest, digest):
            return None
        if not self._is_live(key.token):
            return None
        if known.looked_s - key.noted_s >= _USED_S:
            self._note_use(key, known.looked_s)
        return key

    def still_has(self, key: Key) -> bool:
        """Say whether a key that was found some time ago is still good."""
        token = key.token
        return token.digest in self._fresh().keys and self._is_live(token)

    def _is_live(self, token: Token) -> bool:
        return token.expires_ms is None or token.is_live(self._queue.system.clock.now_ms())

    def _commits(self) -> int:
        return self._queue.system.store.hints.commits

    def _fresh(self) -> _Known:
        known = self._known
        if self._now() - known.looked_s < _BELIEVED_S:
            return known
        return self._look()

    def _look(self) -> _Known:
        """Ask the database; only if a token was made or revoked that is more than one row."""
        known, looked_s, commits = self._known, self._now(), self._commits()
        with self._queue.system.reading() as snapshot:
            version = storage.tokens_version(snapshot)
            keys = known.keys if version == known.version else self._load(snapshot)
        self._known = known = _Known(version, keys, looked_s, commits)
        return known

    def _load(self, snapshot: Snapshot) -> dict[bytes, Key]:
        before = self._known.keys
        return {
            token.digest: before.get(token.digest) or Key(token, self._now)
            for token in storage.live_tokens(snapshot)
        }

    def _note_use(self, key: Key, now_s: float) -> None:
        """Write down, without waiting for it, that a token is in use."""
        key.noted_s = now_s
        touch = partial(storage.touch_token_in, token_id=key.token.id)
        self._queue.system.start_change(touch).on_done(_say_if_failed)


def _say_if_failed(promise: Promise[None]) -> None:
    if promise.error is not None:
        logger.warning("when a token was last used was not noted: %s", promise.error)
