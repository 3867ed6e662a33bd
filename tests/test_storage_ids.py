"""Ids say where a message is; receipts prove one claim of it."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from blockqueue.storage import MessageRef, delivery_id, message_id, parse_id, public_id
from blockqueue.storage._ids import receipt_token

owners = st.integers(0, 2**34 - 1)
priorities = st.integers(-1000, 1000)
seqs = st.integers(0, 2**44 - 1)
tags = st.integers(0, 2**32 - 1)
secrets = st.binary(min_size=32, max_size=32)


@given(owner=owners, priority=priorities, seq=seqs, tag=tags)
def test_an_id_says_what_it_was_made_of(owner: int, priority: int, seq: int, tag: int) -> None:
    """Over the whole range, for both kinds of id, in either case of letters."""
    message, delivery = (
        message_id(owner, priority, seq, tag),
        delivery_id(owner, priority, seq, tag),
    )

    assert parse_id(message) == MessageRef(owner, False, priority, seq, tag)
    assert parse_id(delivery) == MessageRef(owner, True, priority, seq, tag)
    assert parse_id(message.upper()) == parse_id(message)


@pytest.mark.parametrize("owner", [0, 2**34 - 1])
@pytest.mark.parametrize("priority", [-1000, 0, 1000])
@pytest.mark.parametrize("seq", [0, 2**44 - 1])
@pytest.mark.parametrize("tag", [0, 2**32 - 1])
def test_the_corners_of_the_range_fit(owner: int, priority: int, seq: int, tag: int) -> None:
    """No field spills into its neighbour, and the result is a UUID of version 8."""
    text = message_id(owner, priority, seq, tag)

    assert parse_id(text) == MessageRef(owner, False, priority, seq, tag)
    assert str(uuid.UUID(text)) == text
    assert uuid.UUID(text).version == 8
    assert uuid.UUID(text).variant == uuid.RFC_4122


@given(text=st.text())
def test_foreign_text_is_no_id(text: str) -> None:
    """Whatever a client sends, the answer is an id that exists nowhere or None."""
    found = parse_id(text)

    assert found is None or isinstance(found, MessageRef)


@given(number=st.integers(0, 2**128 - 1))
def test_a_foreign_uuid_is_no_id(number: int) -> None:
    """Only version 8 with a priority in range; what is accepted is an id's one spelling."""
    found = parse_id(str(uuid.UUID(int=number)))

    if found is not None:
        make = delivery_id if found.is_delivery else message_id
        again = make(found.owner, found.priority, found.seq, found.tag)
        assert again == str(uuid.UUID(int=number))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        str(uuid.UUID(int=0)),
        "f81d4fae-7dec-4b2d-a765-00a0c91e6bf6",
        "\ud800",
        None,
        5,
        b"bytes",
    ],
)
def test_what_is_not_an_id_gives_none(text: object) -> None:
    """Not an exception: an unknown id is simply not found."""
    assert parse_id(text) is None  # type: ignore[arg-type]


def test_a_priority_out_of_range_is_no_id() -> None:
    """Eleven bits hold more than 2001 priorities."""
    text = message_id(1, 1001, 2, 3)

    assert parse_id(text) is None


@given(secret=secrets, place=st.tuples(owners, priorities, seqs, tags), generation=seqs)
def test_a_receipt_differs_for_each_claim(
    secret: bytes, place: tuple[int, int, int, int], generation: int
) -> None:
    """The same claim gives the same receipt, the next one another."""
    token = receipt_token(secret, *place, generation)

    assert token == receipt_token(secret, *place, generation)
    assert token != receipt_token(secret, *place, generation + 1)
    assert str(uuid.UUID(token)) == token


@given(one=st.tuples(secrets, owners, priorities, seqs, tags, seqs), data=st.data())
def test_a_receipt_differs_in_everything_it_is_made_of(
    one: tuple[bytes, int, int, int, int, int], data: st.DataObject
) -> None:
    """Another file, subscriber, lane, message, publish or claim: another receipt."""
    other = data.draw(st.tuples(secrets, owners, priorities, seqs, tags, seqs))
    assume(one != other)

    assert receipt_token(*one) != receipt_token(*other)


@given(secret=secrets, number=st.integers(0, 2**40))
def test_a_public_id_is_stable_and_names_one_thing(secret: bytes, number: int) -> None:
    """The same in every process; another for another kind, number or file."""
    shown = public_id(secret, "topic", number)

    assert shown == public_id(secret, "topic", number) == str(uuid.UUID(shown))
    assert (uuid.UUID(shown).version, uuid.UUID(shown).variant) == (8, uuid.RFC_4122)
    others = [
        public_id(secret, "subscriber", number),
        public_id(secret, "topic", number + 1),
        public_id(bytes(byte ^ 1 for byte in secret), "topic", number),
    ]
    assert len({shown, *others}) == 4


def test_ten_thousand_public_ids_are_distinct() -> None:
    """And none of them can be taken for a number's text that runs into its kind."""
    shown = {public_id(bytes(32), "topic", number) for number in range(10_000)}

    assert len(shown) == 10_000
    assert public_id(bytes(32), "a,1", 2) != public_id(bytes(32), "a", 12)
