"""Tokens: who may do what over HTTP. Only the hash of a token is kept.

A token's secret part is 32 random bytes, so one round of SHA-256 is enough: there is nothing
to guess that a slow hash would make slower.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import secrets
from collections.abc import Sequence

import msgspec

from . import limits
from ._errors import AlreadyExists, TokenNotFound, ValidationError
from ._scopes import ACTIONS, ALL, Scope, parse_scope
from ._snapshot import Row, Snapshot, Tx

TOKENS_MAX = 10_000
_SCOPES_MAX = 100
_SECRET_BYTES = 32
# A token that an operator has made: enough of it that it cannot be guessed.
_GIVEN_MIN, _GIVEN_MAX = 32, 256


class TokenLimits(msgspec.Struct, frozen=True):
    """How much one token may ask of each server process. None: without a limit.

    ``requests_per_s`` and ``bytes_per_s`` (of requests' bodies) allow bursts of one second's
    worth. ``polls`` are long polls that wait; ``in_flight`` are requests without an answer,
    those polls among them.
    """

    requests_per_s: float | None = None
    bytes_per_s: float | None = None
    polls: int | None = None
    in_flight: int | None = None

    def check(self) -> None:
        """Raise ValidationError naming the first limit that is out of range."""
        for name in self.__struct_fields__:
            value: float | None = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValidationError(f"the limit {name} must be more than 0, not {value!r}")


class Token(msgspec.Struct, frozen=True):
    """A token as stored. Its number is never used again, its name may be once it is revoked.

    ``used_ms`` is coarse: it may lag behind by minutes. ``from_file``: it is the one of the
    administrator's token file.
    """

    id: int
    name: str
    digest: bytes
    scopes: tuple[Scope, ...]
    limits: TokenLimits
    created_ms: int
    expires_ms: int | None
    revoked_ms: int | None
    used_ms: int | None
    from_file: bool

    def may(self, action: str, topic: str) -> bool:
        """Say whether a scope allows the action on a topic; ``ALL`` stands for all topics."""
        return any(each.action == action and each.covers(topic) for each in self.scopes)

    def is_live(self, now_ms: int) -> bool:
        return self.revoked_ms is None and (self.expires_ms is None or now_ms < self.expires_ms)


class NewToken(msgspec.Struct, frozen=True):
    """A token that was just made. ``secret`` is what its owner shows; nobody can see it again."""

    id: int
    secret: str


_COLUMNS = (
    "id, name, digest, scopes, requests_per_s, bytes_per_s, polls, in_flight,"
    " created_ms, expires_ms, revoked_ms, used_ms, from_file"
)


def digest_of(secret: str) -> bytes:
    """Return what is kept of a token."""
    return hashlib.sha256(secret.encode(errors="replace")).digest()


def tokens(snapshot: Snapshot) -> list[Token]:
    """Return all tokens, the expired and revoked ones too, in the order they were made."""
    return list(map(_token, snapshot.rows(f"SELECT {_COLUMNS} FROM token ORDER BY id")))


def live_tokens(snapshot: Snapshot) -> list[Token]:
    """Return the tokens that are good now."""
    rows = snapshot.rows(
        f"SELECT {_COLUMNS} FROM token WHERE revoked_ms IS NULL"
        " AND (expires_ms IS NULL OR expires_ms > ?)",
        (snapshot.now_ms,),
    )
    return list(map(_token, rows))


def tokens_version(snapshot: Snapshot) -> bytes:
    """Return a value that changes whenever a token is made or revoked; empty before the first."""
    found = snapshot.row("SELECT value FROM meta WHERE key = 'tokens'")
    return b"" if found is None else bytes(found[0])


def _token(row: Row) -> Token:
    number, name, digest, scopes, *rest = row
    bounds, (created_ms, expires_ms, revoked_ms, used_ms, from_file) = rest[:4], rest[4:]
    return Token(
        number,
        name,
        digest,
        tuple(map(parse_scope, json.loads(scopes))),
        TokenLimits(*bounds),
        created_ms,
        expires_ms,
        revoked_ms,
        used_ms,
        bool(from_file),
    )


def create_token_in(
    tx: Tx,
    name: str,
    scopes: Sequence[str],
    bounds: TokenLimits,
    expires_in_ms: int | None = None,
) -> NewToken:
    """Make a token; its secret is returned this once.

    Raises ValidationError, and AlreadyExists while a token of that name is not revoked.
    """
    if expires_in_ms is not None:
        limits.check_range("expires", expires_in_ms, 1, limits.DELAY_MS_MAX, " ms")
    random = base64.urlsafe_b64encode(secrets.token_bytes(_SECRET_BYTES)).rstrip(b"=").decode()
    # The number is in the token, so that a found one can be revoked without its secret part.
    found = tx.row("SELECT coalesce(max(seq), 0) + 1 FROM sqlite_sequence WHERE name = 'token'")
    assert found is not None
    secret = f"bq_{found[0]}_{random}"
    number = _insert(tx, name, scopes, bounds, expires_in_ms, secret, from_file=False)
    assert number == found[0], "the number in the token is not the row's"
    return NewToken(number, secret)


def adopt_token_in(tx: Tx, secret: str) -> bool:
    """Let an operator's own secret be the administrator's token, which may do everything.

    It takes the place of the secret that was adopted before. Repeatable; returns whether it
    is new. Raises ValidationError if it is too short, or was revoked.
    """
    plain = secret.isascii() and secret.isprintable() and " " not in secret
    if not plain or not _GIVEN_MIN <= len(secret) <= _GIVEN_MAX:
        raise ValidationError(
            f"an administrator's token has {_GIVEN_MIN} to {_GIVEN_MAX} printable ASCII "
            "characters without a space"
        )
    found = tx.row("SELECT revoked_ms FROM token WHERE digest = ?", (digest_of(secret),))
    if found is not None:
        if found[0] is not None:
            raise ValidationError("the administrator's token was revoked: choose another one")
        return False
    tx.execute(
        "UPDATE token SET revoked_ms = ? WHERE from_file = 1 AND revoked_ms IS NULL", (tx.now_ms,)
    )
    scopes = [f"{action}:{ALL}" for action in ACTIONS]
    _insert(tx, "administrator", scopes, TokenLimits(), None, secret, from_file=True)
    return True


def _insert(
    tx: Tx,
    name: str,
    scopes: Sequence[str],
    bounds: TokenLimits,
    expires_in_ms: int | None,
    secret: str,
    *,
    from_file: bool,
) -> int:
    limits.check_name("token", name)
    bounds.check()
    listed = list(dict.fromkeys(str(parse_scope(each)) for each in scopes))
    limits.check_range("the number of scopes", len(listed), 1, _SCOPES_MAX)
    count = tx.row("SELECT count(*) FROM token WHERE revoked_ms IS NULL")
    assert count is not None
    if count[0] >= TOKENS_MAX:
        raise ValidationError(f"there are {TOKENS_MAX} tokens: revoke some")
    taken = tx.row("SELECT 1 FROM token WHERE name = ? AND revoked_ms IS NULL", (name,))
    if taken is not None:
        raise AlreadyExists(f"there is a token {name!r}: revoke it, or choose another name")
    expires_ms = None if expires_in_ms is None else tx.now_ms + expires_in_ms
    tx.change(
        "INSERT INTO token (name, digest, scopes, requests_per_s, bytes_per_s, polls, in_flight,"
        " created_ms, expires_ms, from_file) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(name, digest_of(secret), json.dumps(listed)),
            *msgspec.structs.astuple(bounds),
            *(tx.now_ms, expires_ms, int(from_file)),
        ),
    )
    _changed(tx)
    found = tx.row("SELECT id FROM token WHERE digest = ?", (digest_of(secret),))
    assert found is not None
    return int(found[0])


def revoke_token_in(tx: Tx, name: str) -> int:
    """Make a token worthless at once; return its number. Raises TokenNotFound."""
    found = tx.row("SELECT id FROM token WHERE name = ? AND revoked_ms IS NULL", (name,))
    if found is None:
        raise TokenNotFound(f"there is no token {name!r} that is not revoked")
    tx.change(
        "UPDATE token SET revoked_ms = ? WHERE id = ? AND revoked_ms IS NULL",
        (tx.now_ms, found[0]),
    )
    _changed(tx)
    return int(found[0])


def touch_token_in(tx: Tx, token_id: int) -> None:
    """Note that a token was used now."""
    tx.change(
        "UPDATE token SET used_ms = max(coalesce(used_ms, 0), ?) WHERE id = ?",
        (tx.now_ms, token_id),
    )


def _changed(tx: Tx) -> None:
    """Let every process see that what it knows of the tokens is old."""
    tx.change(
        "INSERT INTO meta (key, value) VALUES ('tokens', ?)"
        " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (secrets.token_bytes(16),),
    )
