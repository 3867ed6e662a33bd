"""All faults, in the order of the matrix."""

from __future__ import annotations

from .case import Fault
from .io_errors import IoErrors
from .kill_server import KillServer
from .power_cut import PowerCut
from .prefixes import Prefixes
from .volatile_disk import VolatileDisk

#: Those of the disk: tests/test_faults_disk.py runs a few cycles of each.
DISK: tuple[Fault, ...] = (PowerCut(), VolatileDisk(), Prefixes(), IoErrors())

ALL: tuple[Fault, ...] = (KillServer(), *DISK)
