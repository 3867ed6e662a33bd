"""All faults, in the order of the matrix."""

from __future__ import annotations

from .access import Access
from .case import Fault
from .clock_jumps import SetClock
from .corruption import Corruption
from .cut_replies import CutReply
from .forks import Forks
from .full_disk import FullDisk
from .gone_clients import GoneClients
from .idle_polls import IdlePolls
from .io_errors import IoErrors
from .kill_server import KillServer
from .kill_supervisor import KillSupervisor
from .kill_worker import KillWorker
from .long_reader import LongReader
from .memory import OutOfMemory
from .power_cut import PowerCut
from .prefixes import Prefixes
from .signals import SignalsUnderLoad
from .slow_clients import SlowClients
from .slow_disk import SlowDisk
from .soak import Soaking
from .stalled import StalledConsumers
from .upgrades import Upgrades
from .volatile_disk import VolatileDisk

#: Those of processes, networks and clocks: tests/test_faults.py runs their controls.
PROCESS: tuple[Fault, ...] = (
    KillServer(),
    KillWorker(),
    KillSupervisor(),
    SetClock(),
    StalledConsumers(),
    GoneClients(),
    IdlePolls(),
    Forks(),
    SignalsUnderLoad(),
    CutReply(),
    Upgrades(),
    Soaking(),
)
#: Those of the disk: tests/test_faults_disk.py runs a few cycles of each.
DISK: tuple[Fault, ...] = (
    PowerCut(),
    VolatileDisk(),
    Prefixes(),
    IoErrors(),
    SlowDisk(),
    FullDisk(),
    Access(),
    Corruption(),
    SlowClients(),
    OutOfMemory(),
    LongReader(),
)

ALL: tuple[Fault, ...] = tuple(sorted((*PROCESS, *DISK), key=lambda fault: int(fault.id[1:])))
