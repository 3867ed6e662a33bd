"""The durable state: one SQLite file, and every operation on it as a small function.

A verb comes twice: ``verb_in(tx, …)`` inside a transaction, ``verb(store, …)`` in one of
its own. Functions that only look take a ``Snapshot``. Nothing here knows about threads,
actors or HTTP, and nothing correct depends on anybody's memory.
"""

from typing import TYPE_CHECKING, Any

from . import limits as limits
from ._buckets import *  # noqa: F403
from ._errors import *  # noqa: F403
from ._subscriber import *  # noqa: F403

# A program that only speaks to a server has no use for SQLite: what needs it is loaded when
# something of it is first asked for.
if TYPE_CHECKING:
    from ._everything import *  # noqa: F403
else:

    def __getattr__(name: str) -> Any:
        if not name.startswith("_"):  # a module of this package, or none of our business
            from . import _everything

            globals().update({each: getattr(_everything, each) for each in _everything.__all__})
            if name in _everything.__all__:
                return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
