"""From what a caller publishes to packed batches, and back to receipts."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import overload

import msgspec

from blockqueue.storage import (
    Batch,
    Body,
    Envelope,
    Published,
    ValidationError,
    limits,
    pack_messages,
)

from ._durations import Duration, milliseconds

_PLAIN = frozenset({str, bytes})


class Message(msgspec.Struct, frozen=True):
    """A message with options of its own, for ``publish_many``.

    ``priority`` is −1000 to 1000, higher first; ``delay`` counts from the commit.
    """

    payload: str | bytes
    headers: Mapping[str, str] | None = None
    correlation_id: str | None = None
    priority: int = 0
    delay: Duration = 0


class Receipt:
    """What a publish returns: the message is on the disk."""

    __slots__ = ("_index", "_published")

    def __init__(self, published: Published, index: int) -> None:
        self._published = published
        self._index = index

    @property
    def id(self) -> str:
        """The message's id, by which every view names it."""
        return self._published.id(self._index)

    @property
    def scheduled_at(self) -> datetime:
        """When it becomes visible, by the queue's clock."""
        return from_ms(self._published.visible_ms)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Receipt) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<Receipt {self.id}>"


class Receipts(Sequence[Receipt]):
    """The receipts of ``publish_many``, in the order of the messages, made when looked at."""

    def __init__(self, published: Sequence[Published]) -> None:
        self._published = published
        self._ends = list(itertools.accumulate(each.count for each in published))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[Receipt]:
        for each in self._published:
            for index in range(each.count):
                yield Receipt(each, index)

    @overload
    def __getitem__(self, index: int) -> Receipt: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Receipt]: ...

    def __getitem__(self, index: int | slice) -> Receipt | Sequence[Receipt]:
        if isinstance(index, slice):
            return list(self)[index]
        index = range(len(self))[index]
        for each in self._published:
            if index < each.count:
                return Receipt(each, index)
            index -= each.count
        raise AssertionError("the index is in range")


def from_ms(ms: int) -> datetime:
    """Return a time of the queue as a datetime in UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def batches_of(
    messages: Iterable[str | bytes | Message], priority: int = 0, delay: Duration = 0
) -> list[Batch]:
    """Check and pack messages; ``priority`` and ``delay`` are for those without options.

    Raises ValidationError naming the first thing that is wrong.
    """
    listed = list(messages)
    if not 1 <= len(listed) <= limits.BATCH_MAX:
        raise ValidationError(f"publish 1 to {limits.BATCH_MAX} messages, not {len(listed)}")
    common = (priority, delay)
    if _PLAIN.issuperset(map(type, listed)):
        return _packed(listed, *common)  # type: ignore[arg-type]
    batches: list[Batch] = []
    for (priority, delay), group in itertools.groupby(listed, lambda each: _options(each, common)):
        batches += _batches([_body(each) for each in group], (priority, delay))
    return batches


def batch_of(message: Message) -> Batch:
    """Check and pack a single message."""
    (batch,) = _batches([_body(message)], (message.priority, message.delay))
    return batch


def _options(message: object, common: tuple[int, Duration]) -> tuple[int, Duration]:
    return (message.priority, message.delay) if isinstance(message, Message) else common


def _body(message: str | bytes | Message) -> Body:
    if not isinstance(message, Message):
        return message
    if message.headers is None and message.correlation_id is None:
        return message.payload
    headers = None if message.headers is None else dict(message.headers)
    return Envelope(message.payload, headers, message.correlation_id)


def _batches(bodies: Sequence[Body], options: tuple[int, Duration]) -> list[Batch]:
    """Check bodies with the same options, and pack them."""
    if not _PLAIN.issuperset(map(type, bodies)):
        for body in bodies:
            _check_kind(body)
    return _packed(bodies, *options)


def _packed(bodies: Sequence[Body], priority: int, delay: Duration) -> list[Batch]:
    """Pack bodies, into one batch if they fit into a block."""
    delay_ms = 0
    if priority != 0 or delay != 0:
        limits.check_range("priority", priority, -limits.PRIORITY_MAX, limits.PRIORITY_MAX)
        delay_ms = milliseconds("delay", delay)
        limits.check_range("delay", delay_ms, 0, limits.DELAY_MS_MAX, " ms")
    packed = _pack(bodies)
    if len(packed) <= limits.BLOCK_BYTES_MAX:
        return [Batch(len(bodies), packed, priority, delay_ms)]
    if len(bodies) == 1:
        _check_size(bodies[0])
        return [Batch(1, packed, priority, delay_ms)]
    half = len(bodies) // 2
    return _packed(bodies[:half], priority, delay) + _packed(bodies[half:], priority, delay)


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
    if body.correlation_id is not None and not isinstance(body.correlation_id, str):
        raise ValidationError("the correlation id must be text")
    _pack([body])
    size = len(msgspec.json.encode(body.headers or {}))
    if size > limits.HEADERS_BYTES_MAX:
        raise ValidationError(
            f"the headers have {size} bytes as JSON; at most {limits.HEADERS_BYTES_MAX} are allowed"
        )
    size = len((body.correlation_id or "").encode())
    if size > limits.CORRELATION_BYTES_MAX:
        raise ValidationError(
            f"the correlation id has {size} bytes; "
            f"at most {limits.CORRELATION_BYTES_MAX} are allowed"
        )


def _check_size(body: Body) -> None:
    payload = body.payload if isinstance(body, Envelope) else body
    size = len(payload.encode() if isinstance(payload, str) else payload)
    if size > limits.MESSAGE_BYTES_MAX:
        raise ValidationError(
            f"the message has {size} bytes; at most {limits.MESSAGE_BYTES_MAX} are allowed"
        )
