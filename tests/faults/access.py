"""T10: a disk that cannot be written, files of another owner: at the start, and live."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from ..crash_checker import OK
from ..crash_server import ServerProcess
from . import disk
from .case import Budget, Result, Say
from .integrity import check_database
from .one_client import OneClient
from .power_cut import BROKEN

_MIB = 32
_END_S = 15.0
_PUBLISHES = 20
_NOBODY = 65534
# Root without the right to override permissions, as an account of its own would be.
_BOUND = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")


class Access:
    """It says what is wrong and ends; or it goes on. What was answered stays."""

    id = "T10"
    title = "read-only disk, wrong owner or mode"
    ci = 1
    night = 5
    tells = "it went on to store|lost: "

    def missing(self) -> str | None:
        return disk.missing("setpriv")

    def run(self, budget: Budget, folder: Path, seed: int, say: Say) -> Result:
        result = Result()
        for number in range(budget.cycles):
            place = folder / f"{number}"
            place.mkdir()
            with disk.Ext4(place, _MIB) as on:
                result.problems += _Cases(place, on).run()
        result.figures["cases"] = budget.cycles * len(_CASES)
        return result

    def control(self, folder: Path, seed: int, say: Say) -> Result:
        """A server that says 200 whatever the disk said must lose something."""
        with disk.Ext4(folder, _MIB) as on:
            cases = _Cases(folder, on, "answers-anyway")
            cases.live_read_only()
            return Result({}, cases.problems)


class _Cases:
    def __init__(self, folder: Path, on: disk.Ext4, *what: str) -> None:
        self.folder = folder
        self.disk = on
        self.program = (str(BROKEN), *what) if what else ("-m", "blockqueue")
        self.problems: list[str] = []
        self._place = on.path
        self._number = 0

    def run(self) -> list[str]:
        for case in _CASES:
            before = len(self.problems)
            case(self)
            self.problems[before:] = [f"{case.__name__}: {each}" for each in self.problems[before:]]
        return self.problems

    def _server(self, *prefix: str) -> ServerProcess:
        database = self._place / "queue.db"
        return ServerProcess(self.folder, program=self.program, database=database, prefix=prefix)

    def _made(self, name: str) -> OneClient:
        """Return a client that has published to a new database in a folder of that name."""
        self._place = self.disk.path / name
        self._place.mkdir()
        notes = self.folder / f"notes-{name}"
        notes.mkdir()
        client = OneClient(notes)
        with self._server() as server:
            client.connect(server)
            client.create_topic()
            self._publish(client)
            server.stop()
        return client

    def _publish(self, client: OneClient) -> list[int | None]:
        self._number += 1
        return [client.publish(f"{self._number} {number}") for number in range(_PUBLISHES)]

    def _refuses(self, *prefix: str) -> None:
        """See that a server does not start, and says why."""
        server = self._server(*prefix)
        try:
            server.start()
            self.problems.append("it started")
        except RuntimeError:
            if not server.has_ended():
                self.problems.append("it neither started nor ended")
            else:
                self._judge_end(server)
        finally:
            server.kill()

    def _judge_end(self, server: ServerProcess) -> None:
        code = server.wait(_END_S)
        last = server.last_words().rpartition("\n")[2]
        if code in (0, None) or not last.startswith("Error: ") or "queue.db" not in last:
            self.problems.append(f"exit code {code}, and it said: {last}")

    def _healed(self, client: OneClient) -> None:
        """See that everything is there for a server that can work."""
        with self._server() as server:
            client.connect(server)
            if client.publish(f"healed {self._number}") != OK:
                self.problems.append("a healthy server refused a publish")
            client.drain()
            if server.stop() != 0:
                self.problems.append("a healthy server did not end well")
        client.close()
        self.problems += client.problems
        self.problems += [f"{each.kind}: {each.text}" for each in client.verdict().violations]
        self.problems += check_database(self._place / "queue.db")

    def read_only_at_start(self) -> None:
        client = self._made("start")
        self.disk.remount("ro")
        self._refuses()
        self.disk.remount("rw")
        self._healed(client)

    def live_read_only(self) -> None:
        """ext4 has met an error of its own, and takes no more writes."""
        client = self._made("live")
        server = self._server()
        try:
            server.start()
            client.connect(server)
            self.disk.remount("abort")
            if OK in self._publish(client)[-5:]:
                self.problems.append("it went on to store on a disk that takes no writes")
            if server.wait(_END_S) in (0, None):
                self.problems.append("it did not end")
        finally:
            server.kill()
            self.disk.unmount()
            self.disk.mount()
        self._healed(client)

    def another_owner(self) -> None:
        client = self._made("owner")
        paths = list(self._place.iterdir())
        for path in paths:
            os.chown(path, _NOBODY, _NOBODY)
            path.chmod(0o600)
        self._refuses(*_BOUND)
        for path in paths:
            os.chown(path, 0, 0)
        self._healed(client)

    def database_without_write_permission(self) -> None:
        client = self._made("mode")
        path = self._place / "queue.db"
        os.chown(path, _NOBODY, _NOBODY)
        path.chmod(0o444)
        self._refuses(*_BOUND)
        os.chown(path, 0, 0)
        path.chmod(0o600)
        self._healed(client)

    def directory_without_write_permission(self) -> None:
        client = self._made("directory")
        os.chown(self._place, _NOBODY, _NOBODY)
        self._place.chmod(0o555)
        (self._place / "queue.db-lock").unlink()
        self._refuses(*_BOUND)
        self._place.chmod(0o755)
        os.chown(self._place, 0, 0)
        self._healed(client)

    def live_change_of_owner(self) -> None:
        """What is open stays open: it works on, and a new start is refused."""
        client = self._made("change")
        with self._server(*_BOUND) as server:
            client.connect(server)
            for path in self._place.iterdir():
                os.chown(path, _NOBODY, _NOBODY)
                path.chmod(0o600)
            if set(self._publish(client)) != {OK}:
                self.problems.append("it did not go on with files that were open")
            server.stop()
        self._refuses(*_BOUND)
        for path in self._place.iterdir():
            os.chown(path, 0, 0)
        self._healed(client)
        shutil.rmtree(self._place)


_CASES: tuple[Callable[[_Cases], None], ...] = (
    _Cases.read_only_at_start,
    _Cases.live_read_only,
    _Cases.another_owner,
    _Cases.database_without_write_permission,
    _Cases.directory_without_write_permission,
    _Cases.live_change_of_owner,
)
