"""Whatever comes from outside is decoded or refused; nothing else may come of it."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st

from blockqueue.api._durations import milliseconds
from blockqueue.api.v1._pages import Cursors
from blockqueue.storage import (
    Body,
    CorruptBlock,
    Envelope,
    ValidationError,
    delivery_id,
    message_id,
    pack_messages,
    parse_id,
)
from blockqueue.storage._cron import Cron
from blockqueue.storage._frames import pack_frame, unpack_frame

ADDRESS = (3, -7, 41)

anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def good_frame() -> bytes:
    bodies: list[Body] = ["text", b"bytes", Envelope("body", {"a": "b"}, "id")]
    packed = msgspec.Raw(pack_messages(bodies))
    return pack_frame(*ADDRESS, len(bodies), [(len(bodies), 1_000, 99, packed)])


GOOD_FRAME = good_frame()


def compressed(raw: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(raw)


def unpack(data: bytes, count: int = 3) -> list[Any] | None:
    """Decode a block; None if it says that it is damaged. Anything else is a bug."""
    try:
        return list(unpack_frame(data, *ADDRESS, count).bodies)
    except CorruptBlock:
        return None


@given(st.binary(max_size=400))
def test_any_bytes_are_a_block_or_are_refused(data: bytes) -> None:
    """Not even a MemoryError may leave."""
    assert unpack(data) is None


@given(st.binary(max_size=400))
def test_any_bytes_in_a_good_frame_are_refused(raw: bytes) -> None:
    """The decoder of what is inside meets them only then."""
    assert unpack(compressed(raw)) is None


@given(anything, st.integers(0, 5))
def test_any_messagepack_in_a_good_frame_is_a_block_or_is_refused(inside: Any, count: int) -> None:
    """Well-formed, and of another shape: also beneath the right one."""
    raw = msgspec.msgpack.encode((1, *ADDRESS, count, [(count, 1, 2, inside)]))

    for frame in (compressed(raw), compressed(msgspec.msgpack.encode(inside))):
        found = unpack(frame, count)
        assert found is None or len(found) == count


@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 255)), min_size=1, max_size=3))
def test_a_mutated_block_never_gives_another_message(flips: list[tuple[int, int]]) -> None:
    """Damage is noticed, wherever it is."""
    data = bytearray(GOOD_FRAME)
    for place, mask in flips:
        data[place % len(data)] ^= mask

    assert unpack(bytes(data)) in (None, unpack(GOOD_FRAME))


def test_without_a_checksum_the_damage_would_pass() -> None:
    """The control: such frames do give another message."""
    raw = zstandard.ZstdDecompressor().decompress(GOOD_FRAME)
    bare = zstandard.ZstdCompressor(write_checksum=False).compress(raw)
    places = range(len(bare))
    flipped = [bare[:at] + bytes([bare[at] ^ 1]) + bare[at + 1 :] for at in places]

    assert any(unpack(data) not in (None, unpack(GOOD_FRAME)) for data in flipped)


@given(st.text() | st.uuids().map(str) | st.integers(0, 2**128 - 1).map(lambda n: f"{n:032x}"))
@example("")
@example("{" + "0" * 32 + "}")
def test_any_text_is_an_id_or_none(text: str) -> None:
    """And one that is an id is one that we could have given."""
    found = parse_id(text)

    if found is not None:
        make = delivery_id if found.is_delivery else message_id
        again = make(found.owner, found.priority, found.seq, found.tag)
        assert parse_id(again) == found


@given(st.text() | st.floats() | st.integers() | anything)
@example("1h" * 10_000)
@example(float("nan"))
@example(10**400)
@example("٥s")
def test_any_duration_is_milliseconds_or_is_refused(value: Any) -> None:
    """In words that name what was wrong."""
    check_duration(value)


def check_duration(value: Any) -> None:
    try:
        found = milliseconds("delay", value)
    except ValidationError as error:
        told = str(error)
    else:
        told = f"a delay of {found:d} ms"
    assert "delay" in told


durations = st.lists(
    st.sampled_from([*"0123456789.-+ ", "h", "m", "s", "ms", "us", "µs", "ns", "d", "e9"]),
    max_size=12,
).map("".join)


@given(durations)
def test_anything_like_a_duration_is_one_or_is_refused(text: str) -> None:
    """Closer to the real ones than any text."""
    check_duration(text)


CURSORS = Cursors("messages", int, str)


@given(st.text() | st.binary().map(lambda data: base64.urlsafe_b64encode(data).decode()))
@example("=")
@example("é")
def test_any_text_is_a_cursor_or_is_refused(text: str) -> None:
    """With nothing but our own error."""
    check_cursor(text)


def check_cursor(text: str) -> None:
    try:
        position = CURSORS.read(text)
    except ValidationError:
        return
    assert position is None or tuple(map(type, position)) == (int, str)


@given(anything)
def test_any_messagepack_is_a_cursor_or_is_refused(inside: Any) -> None:
    """Well-formed, and of another shape."""
    text = base64.urlsafe_b64encode(msgspec.msgpack.encode(inside)).decode()
    check_cursor(text)


@given(st.integers(-(2**63), 2**63 - 1), st.text())
def test_a_cursor_comes_back_as_it_went(number: int, text: str) -> None:
    """And is no cursor of another list."""
    cursor = CURSORS.write((number, text))
    assert isinstance(cursor, str)

    assert CURSORS.read(cursor) == (number, text)
    with pytest.raises(ValidationError):
        Cursors("others", int, str).read(cursor)


fields = st.lists(
    st.sampled_from([*"0123456789*,-/ ", "MON", "jan", "L", "#", "60", "99", "@daily", "\t", "é"]),
    max_size=16,
).map("".join)
NOW_MS = 1_700_000_000_000
zones = st.sampled_from(["UTC", "Europe/Berlin", "", ".", "../etc/passwd", "Nowhere", "utc\x00"])


@given(fields | st.text(max_size=40), zones | st.text(max_size=20))
def test_any_cron_is_one_or_is_refused(expression: str, zone: str) -> None:
    """One that is accepted also has a next time, or says that it has none."""
    try:
        cron = Cron.parse(expression, zone)
    except ValidationError:
        return
    found = cron.next_after(NOW_MS)
    assert found is None or found > NOW_MS
