"""How a client talks to its server. Checked when it is made, so that a typo shows at once."""

from __future__ import annotations

from typing import Any

import httpx2

from blockqueue.api._durations import Duration, milliseconds
from blockqueue.storage import ValidationError


class Settings:
    """A server's address, and what every request to it has."""

    def __init__(self, url: str, token: str | None, timeout: Duration) -> None:
        self.base = _base(url)
        self.timeout_s = milliseconds("timeout", timeout) / 1000
        if self.timeout_s <= 0:
            raise ValidationError(f"timeout must be more than zero, not {timeout!r}")
        self._headers = {"accept": "application/json", "user-agent": "blockqueue-client"}
        if token is not None:
            if not token.isascii() or not token.isprintable() or " " in token or not token:
                raise ValidationError("a token is printable ASCII without spaces")
            self._headers["authorization"] = f"Bearer {token}"

    def options(self) -> dict[str, Any]:
        """Return what both clients of httpx are made with."""
        return {
            "headers": self._headers,
            # Many threads may poll at once; each holds a connection.
            "limits": httpx2.Limits(max_connections=None, max_keepalive_connections=100),
            # Certificates take 50 ms to read, and plain HTTP has none.
            "verify": self.base.startswith("https:"),
        }


def _base(url: str) -> str:
    """Return the address of ``/v1``. Raises ValidationError."""
    try:
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, TypeError) as error:
        raise ValidationError(f"{url!r} is no address: {error}") from None
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise ValidationError(f"an address is like 'http://localhost:8080', not {url!r}")
    if parsed.port is not None and not 0 < parsed.port < 65536:
        raise ValidationError(f"a port is from 1 to 65535, not {parsed.port}")
    if parsed.query or parsed.fragment:
        raise ValidationError(f"an address has no '?' or '#': {url!r}")
    return str(parsed).rstrip("/").removesuffix("/v1") + "/v1"
