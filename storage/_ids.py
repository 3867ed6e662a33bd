"""Identities that decode without a look-up, and the receipts that fence a lease.

A *message id* is a UUIDv8 of (topic number, priority, sequence number, tag); a *delivery id*
is the same with the subscriber's number instead, so that it differs for each subscriber. The
tag is 32 random bits drawn per publish and kept in the block: an id that was told to a
client and then lost (a crash, an old backup) is never valid for another message.

    122 bits:  owner 34 | kind 1 | priority + 1000: 11 | seq 44 | tag 32

A *receipt token* is a keyed hash over (subscriber, delivery, generation). ``generation``
rises with every claim, so a token stops working as soon as the message is claimed again.
"""

from __future__ import annotations

import hashlib
import os
import struct
import uuid
from typing import NamedTuple

from .limits import PRIORITY_MAX

_LOW_62 = (1 << 62) - 1


class MessageRef(NamedTuple):
    """What an id says. ``owner`` is a topic's number, or a subscriber's if ``is_delivery``."""

    owner: int
    is_delivery: bool
    priority: int
    seq: int
    tag: int


def _format(number: int) -> str:
    text = f"{number >> 74:012x}8{number >> 62 & 0xFFF:03x}{2 << 62 | number & _LOW_62:016x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def message_id(topic_id: int, priority: int, seq: int, tag: int) -> str:
    """Return the id of a message, the same for every subscriber."""
    place = (topic_id << 12 | priority + PRIORITY_MAX) << 44 | seq
    return _format(place << 32 | tag)


def delivery_id(subscriber_id: int, priority: int, seq: int, tag: int) -> str:
    """Return the id of a message as one subscriber sees it through the first HTTP contract."""
    place = ((subscriber_id << 1 | 1) << 11 | priority + PRIORITY_MAX) << 44 | seq
    return _format(place << 32 | tag)


def parse_id(text: str) -> MessageRef | None:
    """Return what ``text`` says if it is an id of either kind, else None."""
    try:
        number = uuid.UUID(text).int
    except (ValueError, AttributeError, TypeError):
        return None
    if number >> 76 & 0xF != 8 or number >> 62 & 3 != 2:
        return None
    packed = number >> 80 << 74 | (number >> 64 & 0xFFF) << 62 | number & _LOW_62
    place, tag = packed >> 32, packed & 0xFFFFFFFF
    seq, head = place & (1 << 44) - 1, place >> 44
    priority = (head & 0x7FF) - PRIORITY_MAX
    if priority > PRIORITY_MAX:
        return None
    return MessageRef(head >> 12, bool(head >> 11 & 1), priority, seq, tag)


def new_tags(count: int) -> tuple[int, ...]:
    """Draw the tags of so many publish calls."""
    return struct.unpack(f"{count}I", os.urandom(4 * count))


def public_id(secret: bytes, kind: str, number: int) -> str:
    """Return the UUID by which the HTTP contract shows a numbered thing that is not a message."""
    said = f"{kind},{number}".encode()
    return _format(int.from_bytes(hashlib.blake2b(said, digest_size=16, key=secret).digest()) >> 6)


def receipt_token(
    secret: bytes, subscriber_id: int, priority: int, seq: int, tag: int, generation: int
) -> str:
    """Return the token that proves one claim of one message, as a UUID string."""
    said = f"{subscriber_id},{priority},{seq},{tag},{generation}".encode()
    return str(uuid.UUID(bytes=hashlib.blake2b(said, digest_size=16, key=secret).digest()))
