"""How deep a JSON text is nested is told without decoding it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockqueue.api import _nesting
from blockqueue.storage import ValidationError

TEXTS = st.text(alphabet='[]{}"\\x,é\n')
JSON = st.recursive(
    TEXTS | st.integers() | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=40,
)


def depth_of(value: object) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


def check_limit(value: object, piece: int) -> None:
    """Put a value into as many lists as may be around it, and into one more."""
    spare = 64 - depth_of(value)
    most = b"[" * spare + json.dumps(value, ensure_ascii=False).encode() + b"]" * spare
    _nesting.check_nesting(most, piece)
    with pytest.raises(ValidationError, match="more than 64 levels"):
        _nesting.check_nesting(b"[" + most + b"]", piece)


@given(JSON, st.integers(min_value=1, max_value=40))
def test_levels_are_counted_as_decoding_would(value: object, piece: int) -> None:
    """Wherever the text is cut, and whatever its strings hold."""
    check_limit(value, piece)


def test_what_is_closed_again_does_not_count() -> None:
    _nesting.check_nesting(b"[" + b",".join([b'[{"a":"]"}]'] * 100_000) + b"]")


def test_control_a_check_that_is_off_by_one_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else stops what has 65 levels."""
    assert depth_of(json.loads("[" * 65 + "]" * 65)) == 65
    monkeypatch.setattr(_nesting, "NESTING_MAX", 65)
    with pytest.raises(pytest.fail.Exception):
        check_limit([], 7)
