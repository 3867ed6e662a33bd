"""The files of the dashboard. They hold no secrets, so whoever asks gets them.

The page asks for a token itself, if the server needs one: a browser shows none for a page.
"""

from __future__ import annotations

import gzip
import hashlib
from functools import cache
from importlib import resources
from typing import ClassVar, NamedTuple

import falcon

from blockqueue.api._needs import OPEN, Needs

from ._answers import give, is_known

_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
# Nothing inline, nothing from elsewhere, and no text that becomes markup or script.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


class _Asset(NamedTuple):
    """A file as it is sent: as it is, or compressed."""

    content_type: str
    plain: bytes
    packed: bytes
    version: str


@cache
def _assets() -> dict[str, _Asset]:
    """Return all files by name. Whoever asks can name no others."""
    found: dict[str, _Asset] = {}
    for path in resources.files("blockqueue.api.ui").joinpath("assets").iterdir():
        kind = _TYPES.get(path.name.rpartition(".")[2])
        if kind is not None:
            plain = path.read_bytes()
            version = hashlib.blake2b(plain, digest_size=12).hexdigest()
            found[path.name] = _Asset(kind, plain, gzip.compress(plain, 9, mtime=0), version)
    return found


def _give(req: falcon.Request, resp: falcon.Response, name: str) -> None:
    asset = _assets().get(name)
    if asset is None:
        raise falcon.HTTPNotFound(description=f"the dashboard has no file {name!r}")
    resp.set_headers(_HEADERS)
    if not is_known(req, resp, asset.version):
        resp.content_type = asset.content_type
        give(req, resp, asset.version, asset.plain, asset.packed)


class PageResource:
    """GET / and GET /ui"""

    needs: ClassVar[Needs] = {"GET": OPEN}

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        _give(req, resp, "index.html")


class AssetResource:
    """GET /ui/{name}"""

    needs: ClassVar[Needs] = {"GET": OPEN}

    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        _give(req, resp, name)
