"""All faults, in the order of the matrix."""

from __future__ import annotations

from .case import Fault
from .kill_server import KillServer

ALL: tuple[Fault, ...] = (KillServer(),)
