"""What is inside a block: messages as msgpack in one zstd frame with a checksum.

A frame holds its own address, and reading verifies it, so that a block that was swapped,
cut or damaged is an error and never somebody else's messages. Publishers encode their
messages on their own thread; the writer only joins the finished pieces.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import msgspec
import zstandard

from ._errors import CorruptBlock, Unavailable
from .limits import FRAME_BYTES_MAX

_FORMAT = 1
# Level 1 packs JSON messages about as tightly as level 3. The smaller table costs nothing
# in size, and after a commit's wait there is less of it to fetch into the processor's cache.
_PARAMETERS = zstandard.ZstdCompressionParameters.from_level(1, hash_log=12, write_checksum=True)


class Envelope(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A message that carries more than its payload."""

    payload: str | bytes
    headers: dict[str, str] | None = None
    correlation_id: str | None = None
    idempotency_key: str | None = None


Body = str | bytes | Envelope


class Segment(msgspec.Struct, array_like=True, frozen=True):
    """The messages of one publish call, as they stand in a frame."""

    count: int
    created_ms: int
    tag: int
    messages: list[Any]
    #: When they become visible, if not at once.
    visible_ms: int | None = None

    def bodies(self) -> list[Body]:
        """Return the messages; msgpack tells text, bytes and envelopes (arrays) apart."""
        if list not in set(map(type, self.messages)):
            return self.messages
        return [Envelope(*each) if type(each) is list else each for each in self.messages]


#: A ``Segment`` before it is written: its messages are packed already. The time at which
#: they become visible is left out if that is at once.
PackedSegment = tuple[int, int, int, msgspec.Raw] | tuple[int, int, int, msgspec.Raw, int]


class _Frame(msgspec.Struct, array_like=True, frozen=True):
    version: int
    topic_id: int
    priority: int
    first_seq: int
    count: int
    segments: list[Segment]


class _Codecs(threading.local):
    """zstd contexts are not safe for concurrent use: one of each per thread."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(compression_params=_PARAMETERS)
        self.decompressor = zstandard.ZstdDecompressor()


_codecs = _Codecs()
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Frame)


def pack_messages(bodies: Sequence[Body]) -> bytes:
    """Encode messages for ``pack_frame``. Raises UnicodeEncodeError on lone surrogates."""
    return _encoder.encode(bodies)


def pack_frame(
    topic_id: int, priority: int, first_seq: int, count: int, segments: Sequence[PackedSegment]
) -> bytes:
    """Return the frame of a block of ``count`` messages."""
    raw = _encoder.encode((_FORMAT, topic_id, priority, first_seq, count, segments))
    return _codecs.compressor.compress(raw)


class Block:
    """A decoded block: messages by sequence number, with their time and tag."""

    __slots__ = ("_starts", "bodies", "first_seq", "nbytes", "segments")

    def __init__(self, first_seq: int, segments: list[Segment], nbytes: int) -> None:
        self.first_seq = first_seq
        self.segments = segments
        self.nbytes = nbytes
        self.bodies = segments[0].bodies()
        self._starts = [first_seq]
        if len(segments) > 1:
            self.bodies = [body for segment in segments for body in segment.bodies()]
            for segment in segments[:-1]:
                self._starts.append(self._starts[-1] + segment.count)

    @property
    def end_seq(self) -> int:
        return self.first_seq + len(self.bodies)

    def body(self, seq: int) -> Body:
        return self.bodies[seq - self.first_seq]

    def segment(self, seq: int) -> Segment:
        """Return the publish call that ``seq`` came with."""
        if len(self._starts) == 1:
            return self.segments[0]
        return self.segments[bisect_right(self._starts, seq) - 1]

    def segment_end(self, seq: int) -> int:
        """Return the first sequence number after the segment that holds ``seq``."""
        index = bisect_right(self._starts, seq)
        return self._starts[index] if index < len(self._starts) else self.end_seq


def unpack_frame(data: bytes, topic_id: int, priority: int, first_seq: int, count: int) -> Block:
    """Decode and verify a block. Raises CorruptBlock with the block's identity."""
    identity = f"block topic={topic_id} priority={priority} first_seq={first_seq}"
    end_seq = first_seq + count
    try:
        # The limit must be checked first: decompress obeys what the frame declares.
        size = zstandard.frame_content_size(data)
        if not 0 <= size <= FRAME_BYTES_MAX:
            text = f"{identity}: declares {size} bytes, at most {FRAME_BYTES_MAX} are allowed"
            raise CorruptBlock(text, end_seq)
        raw = _codecs.decompressor.decompress(data, allow_extra_data=False)
        frame = _decoder.decode(raw)
    except (zstandard.ZstdError, msgspec.MsgspecError, UnicodeDecodeError, MemoryError) as error:
        # Memory that is short is no damage: later, or in another process, it can be read.
        if isinstance(error, MemoryError) or "not enough memory" in str(error):
            raise Unavailable(f"{identity}: there is not enough memory to read it") from error
        raise CorruptBlock(f"{identity}: {error}", end_seq) from error
    said = (frame.version, frame.topic_id, frame.priority, frame.first_seq, frame.count)
    held = [len(segment.messages) for segment in frame.segments]
    told = [segment.count for segment in frame.segments]
    expected = (_FORMAT, topic_id, priority, first_seq, count)
    if said != expected or held != told or sum(held) != count or not held:
        raise CorruptBlock(f"{identity}: holds {said} with {held} messages", end_seq)
    try:
        return Block(first_seq, frame.segments, len(raw))
    except TypeError as error:
        raise CorruptBlock(f"{identity}: {error}", end_seq) from error
