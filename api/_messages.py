"""From what a caller publishes to packed batches, and back to receipts."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from blockqueue.storage import (
    Batch,
    Body,
    Envelope,
    Keyed,
    ValidationError,
    limits,
    pack_messages,
)

from ._durations import Duration, milliseconds
from ._message import Message
from ._trace_context import Trace, joined

_PLAIN = frozenset({str, bytes})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_fingerprinted = msgspec.msgpack.Encoder(order="deterministic")


class _Options(NamedTuple):
    """What the messages of a batch have in common."""

    priority: int = 0
    delay: Duration | None = None
    schedule_at: datetime | None = None

    def checked(self) -> _Timing:
        """Return it as the storage wants it. Raises ValidationError."""
        limits.check_range("priority", self.priority, -limits.PRIORITY_MAX, limits.PRIORITY_MAX)
        delay_ms, at_ms = 0, None
        if self.delay is not None:
            delay_ms = milliseconds("delay", self.delay)
            limits.check_range("delay", delay_ms, 0, limits.DELAY_MS_MAX, " ms")
        if self.schedule_at is not None:
            if self.delay is not None:
                raise ValidationError("give a delay or a time to schedule at, not both")
            at_ms = _since_epoch("schedule_at", self.schedule_at) // 1000
        return _Timing(self.priority, delay_ms, at_ms)

    def fingerprint(self) -> tuple[Any, ...]:
        """Return what must be the same when a publish is repeated: 5m is 300s."""
        if self.schedule_at is not None:
            return (self.priority, "at", _since_epoch("schedule_at", self.schedule_at))
        if self.delay is not None:
            return (self.priority, "delay", milliseconds("delay", self.delay))
        return (self.priority,)


class _Timing(NamedTuple):
    """Checked options."""

    priority: int = 0
    delay_ms: int = 0
    at_ms: int | None = None


_NO_OPTIONS, _NO_TIMING = _Options(), _Timing()


def _since_epoch(what: str, at: object) -> int:
    """Return a time in microseconds since 1970."""
    if not isinstance(at, datetime) or at.tzinfo is None:
        raise ValidationError(f"{what} must be a datetime with a time zone, not {at!r}")
    return (at - _EPOCH) // timedelta(microseconds=1)


def batches_of(
    messages: Iterable[str | bytes | Message],
    priority: int = 0,
    delay: Duration | None = None,
    trace: Trace | None = None,
) -> list[Batch]:
    """Check and pack messages; ``priority`` and ``delay`` are for those without options.

    ``trace`` becomes part of the headers of those that name none themselves. Raises
    ValidationError naming the first thing that is wrong.
    """
    listed = list(messages)
    if not 1 <= len(listed) <= limits.BATCH_MAX:
        raise ValidationError(f"publish 1 to {limits.BATCH_MAX} messages, not {len(listed)}")
    common = _Options(priority, delay)
    if trace is None and _PLAIN.issuperset(map(type, listed)):
        return _packed(listed, _timing(common))  # type: ignore[arg-type]
    batches: list[Batch] = []
    for options, group in itertools.groupby(listed, lambda each: _options(each, common)):
        batches += _batches([_body(each) for each in group], options, trace)
    return batches


def batch_of(message: Message, trace: Trace | None = None) -> Batch:
    """Check and pack a single message; see ``batches_of``."""
    (batch,) = _batches([_body(message)], _options(message, _NO_OPTIONS), trace)
    return batch


def _options(message: object, common: _Options) -> _Options:
    if not isinstance(message, Message):
        return common
    return _Options(message.priority, message.delay, message.schedule_at)


def _timing(options: _Options) -> _Timing:
    return _NO_TIMING if options == _NO_OPTIONS else options.checked()


def _body(message: str | bytes | Message) -> Body:
    if not isinstance(message, Message):
        return message
    headers, correlation_id = message.headers or None, message.correlation_id or None
    key = message.idempotency_key or None
    if headers is None and correlation_id is None and key is None:
        return message.payload
    if headers is not None:
        headers = _headers(headers)
    return Envelope(message.payload, headers, correlation_id, key)


def _headers(headers: object) -> dict[str, str]:
    if not isinstance(headers, Mapping):
        raise ValidationError(f"headers map text to text, and are not {type(headers).__name__}")
    return dict(headers)


def _batches(bodies: Sequence[Body], options: _Options, trace: Trace | None) -> list[Batch]:
    """Check bodies with the same options, and pack them."""
    timing = _timing(options)
    if trace is None and _PLAIN.issuperset(map(type, bodies)):
        return _packed(bodies, timing)
    for body in bodies:
        _check_kind(body)
    keys = [body.idempotency_key if isinstance(body, Envelope) else None for body in bodies]
    fingerprints: list[bytes] = []
    if any(keys):  # before the trace is added: a publish that is repeated may be in another one
        said = options.fingerprint()
        fingerprints = [
            b"" if key is None else _fingerprint(body, said)
            for key, body in zip(keys, bodies, strict=True)
        ]
    if trace is not None:
        bodies = [_traced(body, trace) for body in bodies]
    return _packed(bodies, timing, Keyed(bodies, keys, fingerprints) if fingerprints else None)


def _traced(body: Body, trace: Trace) -> Body:
    if not isinstance(body, Envelope):
        body = Envelope(body)
    headers = joined(body.headers, trace)
    return Envelope(body.payload, headers, body.correlation_id, body.idempotency_key)


def _fingerprint(body: Body, options: tuple[Any, ...]) -> bytes:
    encoded = _fingerprinted.encode((body, options))
    return hashlib.blake2b(encoded, digest_size=16).digest()


def _packed(bodies: Sequence[Body], timing: _Timing, keyed: Keyed | None = None) -> list[Batch]:
    """Pack bodies, into one batch if they fit into a block."""
    packed = _pack(bodies)
    if len(packed) <= limits.BLOCK_BYTES_MAX:
        return [Batch(len(bodies), packed, *timing, keyed)]
    if len(bodies) == 1:
        _check_size(bodies[0])
        return [Batch(1, packed, *timing, keyed)]
    half = len(bodies) // 2
    return [
        batch
        for part in (slice(0, half), slice(half, None))
        for batch in _packed(bodies[part], timing, keyed and _part(keyed, part))
    ]


def _part(keyed: Keyed, part: slice) -> Keyed | None:
    keys = keyed.keys[part]
    return Keyed(keyed.bodies[part], keys, keyed.fingerprints[part]) if any(keys) else None


def _pack(bodies: Sequence[Body]) -> bytes:
    try:
        return pack_messages(bodies)
    except UnicodeEncodeError:
        raise ValidationError("a message or header holds a lone surrogate: not UTF-8") from None


def _check_kind(body: Body) -> None:
    payload = body.payload if isinstance(body, Envelope) else body
    if not isinstance(payload, str | bytes):
        raise ValidationError(f"a message must be str or bytes, not {type(payload).__name__}")
    if isinstance(body, Envelope):
        _check_headers(body)
        _check_size(body)


def _check_headers(body: Envelope) -> None:
    for name, value in (body.headers or {}).items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise ValidationError("headers map text to text")
    for what, text in (
        ("correlation id", body.correlation_id),
        ("idempotency key", body.idempotency_key),
    ):
        if text is not None and not isinstance(text, str):
            raise ValidationError(f"the {what} must be text")
    _pack([body])
    size = len(msgspec.json.encode(body.headers or {}))
    if size > limits.HEADERS_BYTES_MAX:
        raise ValidationError(
            f"the headers have {size} bytes as JSON; at most {limits.HEADERS_BYTES_MAX} are allowed"
        )
    _check_length("correlation id", body.correlation_id, limits.CORRELATION_BYTES_MAX)
    _check_length("idempotency key", body.idempotency_key, limits.KEY_BYTES_MAX)


def _check_length(what: str, text: str | None, nbytes_max: int) -> None:
    size = len((text or "").encode())
    if size > nbytes_max:
        raise ValidationError(f"the {what} has {size} bytes; at most {nbytes_max} are allowed")


def _check_size(body: Body) -> None:
    payload = body.payload if isinstance(body, Envelope) else body
    size = len(payload.encode() if isinstance(payload, str) else payload)
    if size > limits.MESSAGE_BYTES_MAX:
        raise ValidationError(
            f"the message has {size} bytes; at most {limits.MESSAGE_BYTES_MAX} are allowed"
        )
