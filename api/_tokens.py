"""The embedded face: the tokens with which programs come over HTTP."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from blockqueue import storage
from blockqueue.storage import NewToken, Token, TokenLimits

from ._durations import Duration, milliseconds
from ._face import Face

_UNLIMITED = TokenLimits()


class Tokens:
    """The tokens of one database. They bind who comes over HTTP, not who opens the file."""

    def __init__(self, face: Face) -> None:
        self._face = face

    def create(
        self,
        name: str,
        scopes: Iterable[str],
        *,
        expires: Duration | None = None,
        limits: TokenLimits = _UNLIMITED,
    ) -> NewToken:
        """Make a token. Its secret is in what this returns, and nowhere else.

        Args:
            name: what operators call it; free again once it is revoked.
            scopes: like ``publish:orders``, ``consume:orders.*``, ``observe:*``.
            expires: in how long it stops working; None: never.
            limits: how much it may ask for; nothing is limited by default.

        Raises:
            ValidationError: a name, scope or limit is not allowed; the text says why.
            AlreadyExists: there is one of that name.
        """
        expires_ms = None if expires is None else milliseconds("expires", expires)
        listed = list(scopes)
        return self._face.change(
            lambda tx: storage.create_token_in(tx, name, listed, limits, expires_ms)
        )

    def adopt(self, secret: str) -> bool:
        """Make a secret of your own the administrator's token, in place of the one before.

        Repeatable; returns whether it is new. Raises ValidationError.
        """
        return self._face.change(partial(storage.adopt_token_in, secret=secret))

    def revoke(self, name: str) -> int:
        """Make a token worthless, within a second everywhere; return its number.

        Raises TokenNotFound.
        """
        return self._face.change(partial(storage.revoke_token_in, name=name))

    def list(self) -> list[Token]:
        """Return all tokens that were ever made, the oldest first."""
        with self._face.system.reading() as snapshot:
            return storage.tokens(snapshot)
