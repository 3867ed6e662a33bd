"""What systemd is told, over a socket like its own."""

from __future__ import annotations

import configparser
import shlex
import signal
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from blockqueue.api._service_manager import ServiceManager

from .http_server import PATIENCE_S, Server, serving

UNIT = Path(__file__).resolve().parent.parent / "docs/ops/blockqueue.service"
_CREDENTIALS = struct.Struct("3i")
# The loop turns at least once a second.
_WATCHDOG_S = 3

# A server whose loop hangs once it has served a request.
_HANGS = """
import sys, threading
from blockqueue.api import _health, server
from blockqueue.api.cli import main
hang, turn = threading.Event(), server.Server.turn
def on_get(self, req, resp):
    hang.set()
    resp.data = b""
def turn_or_hang(self, timeout):
    turn(self, timeout)
    if hang.is_set():
        threading.Event().wait(60)
_health.LivezResource.on_get = on_get
server.Server.turn = turn_or_hang
main()
"""


class Manager:
    """The socket at which a service manager listens."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind(address)
        self._socket.settimeout(PATIENCE_S)

    def next(self, timeout: float = PATIENCE_S) -> tuple[list[str], int]:
        """Return the lines of the next message, and who has sent it."""
        self._socket.settimeout(timeout)
        text, ancillary, _, _ = self._socket.recvmsg(4096, socket.CMSG_SPACE(_CREDENTIALS.size))
        pid: int = _CREDENTIALS.unpack(ancillary[0][2])[0]
        return text.decode().split("\n"), pid

    def until(self, line: str) -> list[str]:
        """Return what comes before a message that begins with ``line``."""
        before: list[str] = []
        while True:
            lines, _ = self.next()
            if lines[0] == line:
                return before
            before += lines

    def hears_nothing(self, timeout: float) -> bool:
        """Say whether nothing comes for so long, but for two messages that are on their way."""
        try:
            for _ in range(3):
                self.next(timeout)
        except TimeoutError:
            return True
        return False

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(str(tmp_path / "notify"))
    yield manager
    manager.close()


def serve(tmp_path: Path, *arguments: str, **options: Any) -> Any:
    environment = {
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
        "WATCHDOG_USEC": str(_WATCHDOG_S * 1_000_000),
        "BLOCKQUEUE_PORT": "0",
    }
    return serving(tmp_path / "queue.db", *arguments, environment=environment, **options)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_it_says_that_it_is_ready_lives_and_stops(
    workers: str, manager: Manager, tmp_path: Path
) -> None:
    """Once each, apart from living; and only the process that the manager knows says it."""
    server: Server
    with serve(tmp_path, "--workers", workers) as server:
        lines, pid = manager.next()
        assert lines == ["READY=1", f"STATUS={server.line.removeprefix('blockqueue ')}"]
        assert pid == server.process.pid
        assert manager.next() == (["WATCHDOG=1"], server.process.pid)
        assert manager.next() == (["WATCHDOG=1"], server.process.pid)
        server.signal(signal.SIGTERM)
        assert set(manager.until("STOPPING=1")) <= {"WATCHDOG=1"}
        assert server.wait() == 0


def test_it_is_ready_only_when_it_answers(manager: Manager, tmp_path: Path) -> None:
    """A request that is sent after READY=1 is answered."""
    server: Server
    with serve(tmp_path) as server:
        manager.next()
        assert server.send("GET", "/readyz").status == 200


@pytest.mark.slow
def test_a_loop_that_hangs_is_noticed(manager: Manager, tmp_path: Path) -> None:
    """No more is heard of it within the watchdog's time, although its threads live."""
    server: Server
    with serve(tmp_path, launcher=_HANGS) as server:
        assert not manager.hears_nothing(_WATCHDOG_S)
        assert server.send("GET", "/livez").status == 200
        assert manager.hears_nothing(_WATCHDOG_S)


def test_a_server_that_cannot_start_is_never_ready(manager: Manager, tmp_path: Path) -> None:
    """The manager sees how it ends, and nothing else."""
    (tmp_path / "queue.db").write_text("not a database, for sure" * 1000)
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "BLOCKQUEUE_PORT": "0"}
    server = Server(tmp_path / "queue.db", environment=environment)
    assert server.wait() == 1
    server.close()

    with pytest.raises(TimeoutError):
        manager.next(timeout=0.01)


def test_a_manager_that_is_gone_ends_nothing(tmp_path: Path) -> None:
    """It is said in the log, once for each try."""
    server: Server
    with serve(tmp_path) as server:
        assert server.send("GET", "/readyz").status == 200
        server.stop()
    assert "the service manager could not be told 'READY=1" in server.errors


def test_it_is_told_only_as_often_as_needed(tmp_path: Path) -> None:
    """Three times in the watchdog's time, however often the loop turns; never before READY."""
    now = 0.0
    address = f"@blockqueue-test-{tmp_path}"  # an abstract name
    listening = Manager("\0" + address[1:])
    told = ServiceManager(address, 30.0, clock=lambda: now)
    told.tell_alive()
    told.tell_ready("serves")
    for second in range(61):
        now = float(second)
        told.tell_alive()
    told.tell_stopping()

    assert listening.next()[0] == ["READY=1", "STATUS=serves"]
    assert listening.until("STOPPING=1") == ["WATCHDOG=1"] * 6
    listening.close()


def test_a_watchdog_of_another_process_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor do our children inherit what was meant for us."""
    for name, value in {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}.items():
        monkeypatch.setenv(name, value)

    found = ServiceManager.inherited()

    assert (found._address, found._period_s) == ("\0x", None)
    assert ServiceManager.inherited()._address is None


def test_the_unit_starts_a_server(manager: Manager, tmp_path: Path) -> None:
    """With its own command, options and variables, in another place."""
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(UNIT, encoding="utf-8")
    service = unit["Service"]
    _, serve_word, option, db = shlex.split(service["ExecStart"])
    assert (service["Type"], serve_word, option) == ("notify", "serve", "--db")
    assert db == f"/var/lib/{service['StateDirectory']}/queue.db"
    environment = dict(each.split("=") for each in service["Environment"].split())
    environment |= {"NOTIFY_SOCKET": str(tmp_path / "notify"), "BLOCKQUEUE_PORT": "0"}
    environment["WATCHDOG_USEC"] = "3000000"

    with serving(tmp_path / "queue.db", environment=environment) as server:
        assert manager.next()[0][0] == "READY=1"
        server.signal(signal.SIGHUP)  # as ExecReload does
        assert server.send("GET", "/livez").status == 200
        assert server.stop() == 0
        assert "restarting 2 workers" in server.errors
