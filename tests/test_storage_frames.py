"""A block gives back exactly what was put into it, or says that it is damaged."""

from __future__ import annotations

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from blockqueue.storage import (
    Body,
    CorruptBlock,
    Envelope,
    Unavailable,
    _frames,
    limits,
    pack_messages,
)
from blockqueue.storage._frames import pack_frame, unpack_frame

bodies = st.one_of(
    st.text(),
    st.binary(),
    st.builds(
        Envelope,
        st.one_of(st.text(), st.binary()),
        st.one_of(st.none(), st.dictionaries(st.text(), st.text(), max_size=3)),
        st.one_of(st.none(), st.text()),
    ),
)
segments = st.lists(
    st.tuples(
        st.lists(bodies, min_size=1, max_size=5),
        st.integers(0, 2**62),
        st.integers(0, 2**32 - 1),
    ),
    min_size=1,
    max_size=4,
)
ADDRESS = (3, -7, 41)


def frame_of(*texts: Body) -> bytes:
    """Make the frame of a block at ``ADDRESS``."""
    raw = msgspec.Raw(pack_messages(texts))
    return pack_frame(*ADDRESS, len(texts), [(len(texts), 1_000, 99, raw)])


@given(
    pieces=segments,
    address=st.tuples(
        st.integers(1, 2**34 - 1), st.integers(-1000, 1000), st.integers(0, 2**44 - 1)
    ),
)
def test_what_goes_in_comes_out(
    pieces: list[tuple[list[Body], int, int]], address: tuple[int, int, int]
) -> None:
    """Text stays text and bytes stay bytes, each message with its own publish's time and tag."""
    packed = [
        (len(each), created, tag, msgspec.Raw(pack_messages(each))) for each, created, tag in pieces
    ]
    expected = [(body, created, tag) for each, created, tag in pieces for body in each]
    first_seq = address[2]

    block = unpack_frame(pack_frame(*address, len(expected), packed), *address, len(expected))

    places = range(first_seq, first_seq + len(expected))
    found = [(block.body(s), block.segment(s).created_ms, block.segment(s).tag) for s in places]
    assert found == expected
    assert [type(body) for body, _, _ in found] == [type(body) for body, _, _ in expected]
    assert block.end_seq == first_seq + len(expected)
    assert {block.segment_end(seq) for seq in places} == {
        first_seq + sum(len(each) for each, _, _ in pieces[: index + 1])
        for index in range(len(pieces))
    }


def test_a_flipped_bit_never_gives_wrong_data() -> None:
    """Each single bit of a frame: an error, or the same messages."""
    texts: list[Body] = [
        "the quick brown fox",
        b"\x00\x01",
        Envelope("jumps", {"over": "the"}, "lazy dog"),
    ]
    data = frame_of(*texts)
    accepted = 0

    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            block = unpack_frame(bytes(flipped), *ADDRESS, 3)
        except CorruptBlock:
            continue
        accepted += 1
        assert block.bodies == texts
        assert (block.segments[0].created_ms, block.segments[0].tag) == (1_000, 99)

    assert accepted <= 1  # zstd has one bit that means nothing


def test_a_frame_that_was_cut_is_refused() -> None:
    """At any length, down to nothing; and what is appended is refused too."""
    data = frame_of("a" * 100, "b" * 100)

    for end in range(len(data)):
        with pytest.raises(CorruptBlock):
            unpack_frame(data[:end], *ADDRESS, 2)
    with pytest.raises(CorruptBlock):
        unpack_frame(data + b"\x00", *ADDRESS, 2)


def test_a_size_that_is_too_big_is_refused_before_it_is_obeyed() -> None:
    """A small frame may declare gigabytes."""
    huge = zstandard.ZstdCompressor().compress(bytes(limits.FRAME_BYTES_MAX + 1))

    with pytest.raises(CorruptBlock, match="at most"):
        unpack_frame(huge, *ADDRESS, 1)


def test_a_frame_without_a_size_is_refused() -> None:
    """How much memory it takes would only show while it takes it."""
    compressor = zstandard.ZstdCompressor().compressobj()
    data = compressor.compress(b"whatever") + compressor.flush()

    with pytest.raises(CorruptBlock):
        unpack_frame(data, *ADDRESS, 1)


@pytest.mark.parametrize(
    "address", [(4, -7, 41, 1), (3, -8, 41, 1), (3, -7, 40, 1), (3, -7, 41, 2)]
)
def test_a_frame_at_the_wrong_address_is_refused(address: tuple[int, int, int, int]) -> None:
    """A block that was swapped is never somebody else's messages; the error names the block."""
    topic_id, priority, first_seq, count = address
    named = f"topic={topic_id} priority={priority} first_seq={first_seq}"

    with pytest.raises(CorruptBlock, match=named) as caught:
        unpack_frame(frame_of("text"), *address)

    assert caught.value.end_seq == first_seq + count


def test_a_count_that_does_not_fit_the_messages_is_refused() -> None:
    """A publisher that counted wrong must not shift its neighbours' messages."""
    packed = msgspec.Raw(pack_messages(["a", "b"]))
    data = pack_frame(*ADDRESS, 3, [(1, 0, 0, packed), (2, 0, 0, packed)])

    with pytest.raises(CorruptBlock):
        unpack_frame(data, *ADDRESS, 3)


def test_an_envelope_that_is_none_is_refused() -> None:
    """Sound compression around something else is damage as well."""
    packed = pack_messages([["one", None, None, None, "too many"]])  # type: ignore[list-item]
    data = pack_frame(*ADDRESS, 1, [(1, 0, 0, msgspec.Raw(packed))])

    with pytest.raises(CorruptBlock):
        unpack_frame(data, *ADDRESS, 1)


@pytest.mark.parametrize("body", ["\ud800", Envelope("\udfff"), Envelope("", {"\ud800": ""})])
def test_a_lone_surrogate_raises_before_anything_is_written(body: Body) -> None:
    """It has no encoding in UTF-8."""
    with pytest.raises(UnicodeEncodeError):
        pack_messages([body])


@pytest.mark.parametrize(
    "error", [MemoryError(), zstandard.ZstdError("Allocation error : not enough memory")]
)
def test_memory_that_is_short_is_no_damage(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A damaged block's messages go to the dead letters; these must not."""
    frame = frame_of("a")

    class Starved:
        def decompress(self, data: bytes, allow_extra_data: bool) -> bytes:
            raise error

    with monkeypatch.context() as patch:
        patch.setattr(_frames._codecs, "decompressor", Starved())
        with pytest.raises(Unavailable, match="not enough memory"):
            unpack_frame(frame, *ADDRESS, 1)
    assert unpack_frame(frame, *ADDRESS, 1).bodies == ["a"]


def test_a_frame_that_asks_for_much_memory_is_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so by its header, whatever memory there is."""

    class Asked:
        def decompress(self, data: bytes, allow_extra_data: bool) -> bytes:
            raise zstandard.ZstdError("Frame requires too much memory for decoding")

    monkeypatch.setattr(_frames._codecs, "decompressor", Asked())

    with pytest.raises(CorruptBlock):
        unpack_frame(frame_of("a"), *ADDRESS, 1)
