"""The actors: who waits, what is written together, when something is due.

Nothing correct depends on their memory; the database is the authority. ``messages`` says
what can be sent to a topic's actor.
"""

from ._admission import BYTES_MAX, MESSAGES_MAX, Admission
from ._promise import Promise
from ._runtime import Pool, PooledActor
from ._system import System
from .messages import Claim, Publish, Settle

__all__ = [
    "BYTES_MAX",
    "MESSAGES_MAX",
    "Admission",
    "Claim",
    "Pool",
    "PooledActor",
    "Promise",
    "Publish",
    "Settle",
    "System",
]
