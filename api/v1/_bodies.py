"""Reading a request's body: one JSON value of a declared type, and nothing else."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import inspect

from blockqueue.api._nesting import check_nesting
from blockqueue.storage import ValidationError

_decode = msgspec.json.Decoder().decode


class BodyReader:
    """Reads bodies of one type.

    A member's name may be in any case, and null stands for an absent member. Nearly all
    bodies need neither, so the whole body is put right only once the strict decoder has
    refused it.
    """

    def __init__(self, kind: Any, *, may_be_empty: bool = False) -> None:
        self.kind = kind
        self.may_be_empty = may_be_empty
        self._strict = msgspec.json.Decoder(kind).decode
        self._info = inspect.type_info(kind)

    def read(self, body: bytes) -> Any:
        """Return the value. Raises ValidationError saying what is wrong."""
        if self.may_be_empty and body.strip() in {b"", b"null"}:
            body = b"{}"
        try:
            try:
                return self._strict(body)  # whose types say how deep it can be
            except msgspec.ValidationError:
                check_nesting(body)
                return msgspec.convert(_put_right(_decode(body), self._info), self.kind)
        except msgspec.ValidationError as error:
            raise ValidationError(f"the JSON is not what is expected: {error}") from error
        except (msgspec.DecodeError, UnicodeError) as error:
            raise ValidationError(f"the body is not one JSON value: {error}") from error
        except RecursionError:
            raise ValidationError("the JSON is nested too deeply") from None


def _put_right(value: Any, kind: inspect.Type) -> Any:
    """Give members of objects the names of the type, and leave out those that are null."""
    if isinstance(kind, inspect.Metadata):
        return _put_right(value, kind.type)
    if isinstance(kind, inspect.UnionType):
        (kind,) = (each for each in kind.types if not isinstance(each, inspect.NoneType))
        return _put_right(value, kind)
    if isinstance(kind, inspect.IntType) and isinstance(value, float) and value.is_integer():
        return int(value)  # to JSON 1.0 is the same number
    if isinstance(kind, inspect.ListType) and isinstance(value, list):
        return [_put_right(item, kind.item_type) for item in value]
    if isinstance(kind, inspect.StructType) and isinstance(value, dict):
        fields = {field.encode_name.lower(): field for field in kind.fields}
        renamed: dict[str, Any] = {}
        for name, item in value.items():
            field = fields.get(name.lower())
            if field is None:
                renamed[name] = item  # is refused as unknown
            elif item is not None:
                renamed[field.encode_name] = _put_right(item, field.type)
        return renamed
    return value
