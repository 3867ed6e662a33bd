"""What a caller's own statements may do on our connection: nothing to our tables."""

from __future__ import annotations

import apsw

from ._schema import MODELS

_OURS = frozenset(model._meta.table_name for model in MODELS) | {"sqlite_sequence"}
# Which of an action's two names is the table's.
_CHANGES_FIRST = frozenset(
    {apsw.SQLITE_INSERT, apsw.SQLITE_UPDATE, apsw.SQLITE_DELETE, apsw.SQLITE_DROP_TABLE}
)
_CHANGES_SECOND = frozenset(
    {
        *(apsw.SQLITE_ALTER_TABLE, apsw.SQLITE_CREATE_INDEX, apsw.SQLITE_DROP_INDEX),
        *(apsw.SQLITE_CREATE_TRIGGER, apsw.SQLITE_DROP_TRIGGER),
    }
)
_WRITES = frozenset({apsw.SQLITE_INSERT, apsw.SQLITE_UPDATE})
# The transaction is ours to end, and what is temporary would stay on the connection.
_NEVER = frozenset(
    {
        *(apsw.SQLITE_TRANSACTION, apsw.SQLITE_ATTACH, apsw.SQLITE_DETACH),
        *(apsw.SQLITE_CREATE_TEMP_TABLE, apsw.SQLITE_CREATE_TEMP_INDEX),
        *(apsw.SQLITE_CREATE_TEMP_TRIGGER, apsw.SQLITE_CREATE_TEMP_VIEW),
    }
)
_PRAGMAS = frozenset(
    {
        *("table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo"),
        *("foreign_key_list", "foreign_key_check"),
    }
)


class Guard:
    """An authorizer: SQLite asks it about everything a statement does, when it compiles it."""

    def __init__(self) -> None:
        #: Whether it is a caller's statement that is being compiled.
        self.watches = False
        # A table of the caller's is being dropped: its number is forgotten, too.
        self._drops = False

    def __call__(
        self, action: int, first: str | None, second: str | None, schema: str | None, by: str | None
    ) -> int:
        if not self.watches:
            return apsw.SQLITE_OK
        if action == apsw.SQLITE_DELETE and first == "sqlite_sequence" and self._drops:
            self._drops = False
            return apsw.SQLITE_OK
        self._drops = action == apsw.SQLITE_DROP_TABLE or (self._drops and action not in _WRITES)
        denied = (
            action in _NEVER
            or (action in _CHANGES_FIRST and first in _OURS)
            or (action in _CHANGES_SECOND and second in _OURS)
            or (action == apsw.SQLITE_PRAGMA and first not in _PRAGMAS)
        )
        return apsw.SQLITE_DENY if denied else apsw.SQLITE_OK
