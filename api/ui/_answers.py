"""How an answer is sent: compressed for who can read that, and not at all to who has it."""

from __future__ import annotations

import gzip

import falcon

# Less than this fits into a packet or two as it is.
_PACKED_FROM = 1_000


def accepts_gzip(accepted: str | None) -> bool:
    """Whether an ``Accept-Encoding`` names gzip, and not only to say that it will not do."""
    for each in (accepted or "").lower().split(","):
        coding, _, parameter = each.partition(";")
        if coding.strip() == "gzip":
            weight = parameter.replace(" ", "").removeprefix("q=")
            return weight.strip("0.") != "" or not parameter
    return False


def is_known(req: falcon.Request, resp: falcon.Response, version: str) -> bool:
    """Whether who asks has this version already; then that is the answer."""
    if version not in (req.if_none_match or ()):
        return False
    resp.etag = _etag(version)
    resp.status = falcon.HTTP_304
    return True


def give(
    req: falcon.Request, resp: falcon.Response, version: str, body: bytes, packed: bytes = b""
) -> None:
    """Answer with ``body``; ``packed`` is the same compressed, if that is at hand."""
    resp.etag = _etag(version)
    resp.append_header("Vary", "Accept-Encoding")
    if len(body) >= _PACKED_FROM and accepts_gzip(req.get_header("Accept-Encoding")):
        resp.set_header("Content-Encoding", "gzip")
        body = packed or gzip.compress(body, 1, mtime=0)
    resp.data = body


def _etag(version: str) -> str:
    return f'W/"{version}"'  # weak: the same, however it is packed
