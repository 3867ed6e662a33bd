"""What is checked before a server listens: where it can be reached from, and by whom."""

from __future__ import annotations

import ipaddress
import os
import socket
from typing import Any, NamedTuple

import falcon

from blockqueue.api._auth import Mode
from blockqueue.api.app import create_app
from blockqueue.api.queue import BlockQueue
from blockqueue.storage import BlockQueueError, ValidationError

_FILE_BYTES_MAX = 4096


class Exposed(BlockQueueError):
    """Other machines can reach the address, or may, and nobody would need a token."""


class Access(NamedTuple):
    """How a server lets requests in. ``token_file`` holds the administrator's token."""

    auth: Mode
    token_file: str | None = None
    audit_log: str | None = None

    def app(self, queue: BlockQueue, host: str) -> falcon.App[Any, Any]:
        """Return the application that may be served on ``host``.

        Raises Exposed, ValidationError, OSError.
        """
        if self.token_file is not None:
            adopt_token_file(queue, self.token_file)
        if self.auth == "auto":
            check_exposure(queue, host)
        return create_app(queue, auth=self.auth, audit_log=self.audit_log)


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach an address, or what a name stands for.

    Raises Exposed if that cannot be found out.
    """
    try:
        found = socket.getaddrinfo(host or None, 0, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise Exposed(f"cannot listen on {host!r}: {error}") from error
    return all(ipaddress.ip_address(str(each[4][0]).split("%")[0]).is_loopback for each in found)


def check_exposure(queue: BlockQueue, host: str) -> None:
    """Raise Exposed if ``host`` is not a loopback address and no token was ever made."""
    if not is_loopback(host) and not queue.tokens.list():
        raise Exposed(
            f"cannot listen on {host!r}: other machines can reach it, and as no token was made "
            "anybody could do anything. Make one with `blockqueue token create`, or give "
            "--auth required or --insecure-no-auth"
        )


def adopt_token_file(queue: BlockQueue, path: str) -> None:
    """Let the secret in a file be the administrator's token.

    Raises ValidationError, with nothing of the secret in its text.
    """
    try:
        with open(path, encoding="ascii") as file:
            secret = file.read(_FILE_BYTES_MAX).strip()
    except (OSError, UnicodeError) as error:
        reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else "it is not ASCII"
        raise ValidationError(f"cannot read the token file {path}: {reason}") from None
    try:
        queue.tokens.adopt(secret)
    except ValidationError as error:
        raise ValidationError(f"{path}: {error}") from None
