"""A crash campaign: kill the server under load, start it again, many times, then judge."""

from __future__ import annotations

import platform
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

import msgspec

import blockqueue

from .crash_checker import OK, Kind, Verdict, check
from .crash_clients import SUBSCRIBERS, TOPIC, Client, Consumer, Gate, Http, Journal, Publisher
from .crash_server import ServerProcess

VISIBILITY_S = 2.0
KILL_AFTER_S = (0.05, 1.5)
READY_MAX_S = 5.0
DRAIN_MAX_S = 30.0

_JOIN_S = 60.0
_LOOK_EVERY_S = 0.05
# The control stores late: only when nothing has come for this long is its queue empty.
_CONTROL_STEADY_S = 0.5
_SHOWN_MAX = 20


class Plan(msgspec.Struct, frozen=True):
    """What to do. The same seed kills after the same times."""

    cycles: int
    seed: int
    publishers: int = 8
    consumers: int = 8
    #: Use the server that is broken on purpose.
    control: bool = False

    @property
    def drain_every(self) -> int:
        """After how many cycles the queue is drained and judged in between."""
        return max(10, self.cycles // 10)


class Report(msgspec.Struct):
    """What happened. ``troubles`` are what is wrong besides the checker's violations."""

    plan: Plan
    version: str = blockqueue.__version__
    machine: str = f"{platform.python_implementation()} {platform.python_version()}, " + (
        platform.platform()
    )
    kills: int = 0
    seconds: float = 0.0
    slowest_ready_s: float = 0.0
    slowest_drain_s: float = 0.0
    verdict: Verdict | None = None
    troubles: list[str] = []

    @property
    def is_clean(self) -> bool:
        return self.verdict is not None and not self.verdict.violations and not self.troubles

    def count(self, *kinds: Kind) -> int:
        return 0 if self.verdict is None else self.verdict.count(*kinds)

    def shown(self) -> list[str]:
        """Return the first things that are wrong, as text; of violations the worst."""
        found = [] if self.verdict is None else self.verdict.violations
        found = sorted(found, key=lambda each: list(Kind).index(each.kind))
        return [*self.troubles, *(f"{each.kind}: {each.text}" for each in found)][:_SHOWN_MAX]


def run(plan: Plan, folder: Path, say: Callable[[str], None] = lambda text: None) -> Report:
    """Run a campaign in ``folder``, which keeps the database, the log and the journal."""
    return Campaign(plan, folder, say).run()


class Campaign:
    """Cycles of one fault. ``server``: another one than ``blockqueue serve`` in ``folder``."""

    #: A cycle lasts that long, at random.
    strike_after_s = KILL_AFTER_S
    publisher: type[Client] = Publisher
    consumer: type[Client] = Consumer

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        say: Callable[[str], None],
        server: ServerProcess | None = None,
    ) -> None:
        self.plan = plan
        self.say = say
        self.report = Report(plan)
        self.server = server or ServerProcess(folder, control=plan.control)
        self.journal = Journal(folder / "journal.jsonl")
        self.gate = Gate()
        self.random = Random(plan.seed)
        self.pause = threading.Event()  # never set: only its timeouts are used
        #: What is told at the end: a slow start is no reason to give up.
        self._late: list[str] = []

    def run(self) -> Report:
        started = time.monotonic()
        try:
            self.prepare()
            with self._clients(self.consumer, self.plan.consumers, "consumer"):
                self._cycles()
            # Only now has every consumer noted what came of its last acknowledgement.
            self._judge(drained=True)
            self._stop()
        except RuntimeError as error:
            self.report.troubles.append(str(error))
            self._judge(drained=False)
        finally:
            self.server.kill()
            self.journal.close()
        self.report.troubles += self._late
        self.report.seconds = time.monotonic() - started
        return self.report

    def prepare(self) -> None:
        """Start the server with what the clients need."""
        self.start()
        self._create_topic()

    def _cycles(self) -> None:
        """Kill and restart; drain from time to time, and at the end."""
        left = self.plan.cycles
        while left and not self.report.troubles:
            part = min(left, self.plan.drain_every)
            left -= part
            name = f"publisher {left}"
            with self._clients(self.publisher, self.plan.publishers, name):
                for _ in range(part):
                    self.cycle()
            self._drain()
            self.on_quiet()
            self._judge(drained=False)
            self.say(f"{self.report.kills} of {self.plan.cycles} cycles, {self._summary()}")

    def strike(self) -> None:
        """Do what this campaign is about."""
        self.server.kill()

    def recover(self) -> None:
        """Put right what the strike has broken."""
        self.start()

    def on_quiet(self) -> None:
        """Look at the server while nothing happens: all queues are empty."""

    def client_port(self) -> int:
        """Return the port that clients talk to."""
        return self.server.port

    def cycle(self) -> None:
        """Let the clients work for a random while, strike, and recover."""
        self.pause.wait(self.random.uniform(*self.strike_after_s))
        if self.server.has_ended():
            raise RuntimeError(f"the server ended by itself: {self.server.last_words()}")
        self.strike()
        self.gate.serving.clear()
        self.report.kills += 1
        self.recover()

    def start(self) -> None:
        ready_s = self.server.start()
        self.gate.serving.set()
        self.report.slowest_ready_s = max(self.report.slowest_ready_s, ready_s)
        if ready_s > READY_MAX_S:
            self._late.append(f"ready only after {ready_s:.1f} s")

    def _stop(self) -> None:
        code = self.server.stop()
        if code != 0:
            self.report.troubles.append(f"the server's exit code after SIGTERM was {code}, not 0")

    def _create_topic(self) -> None:
        option = {"max_attempts": 1_000_000, "visibility_duration": f"{VISIBILITY_S}s"}
        subscribers = [{"name": name, "option": option} for name in SUBSCRIBERS]
        http = Http(self.server.port)
        answer = http.ask("POST", "/topics", {"name": TOPIC, "subscribers": subscribers})
        http.close()
        if answer.status != OK:
            raise RuntimeError(f"the topic was not created: {answer}")

    @contextmanager
    def _clients(self, kind: type[Client], count: int, name: str) -> Iterator[list[Client]]:
        clients = [
            kind(f"{name}.{index}", self.client_port(), self.journal, self.gate, self.plan.seed)
            for index in range(count)
        ]
        for index, client in enumerate(clients):
            client.subscriber = SUBSCRIBERS[index % len(SUBSCRIBERS)]
            client.start()
        try:
            yield clients
        finally:
            self._end(clients)

    def _end(self, clients: Sequence[Client]) -> None:
        for client in clients:
            client.halt()
        for client in clients:
            client.join(_JOIN_S)
            if client.is_alive():
                self.report.troubles.append(f"{client.name} is stuck")
            if client.failure is not None:
                self.report.troubles.append(client.failure)

    def _drain(self) -> None:
        """Wait until the consumers have emptied the queue; nobody publishes any more."""
        self.gate.draining.set()
        http = Http(self.server.port)
        started = time.monotonic()
        steady_s = _CONTROL_STEADY_S if self.plan.control else 0.0
        empty_since: float | None = None
        while empty_since is None or time.monotonic() - empty_since < steady_s:
            counters = http.ask("GET", f"/topics/{TOPIC}/subscribers")
            empty = counters.status == OK and is_empty(counters.body)
            empty_since = (empty_since or time.monotonic()) if empty else None
            if time.monotonic() - started > DRAIN_MAX_S:
                raise RuntimeError(f"not drained after {DRAIN_MAX_S:.0f} s: {counters}")
            self.pause.wait(_LOOK_EVERY_S)
        http.close()
        drain_s = time.monotonic() - started
        self.report.slowest_drain_s = max(self.report.slowest_drain_s, drain_s)
        self.journal.drained()
        self.gate.draining.clear()

    def _judge(self, *, drained: bool) -> None:
        records = self.journal.records()
        self.report.verdict = check(records, SUBSCRIBERS, VISIBILITY_S, drained=drained)

    def _summary(self) -> str:
        verdict = self.report.verdict
        assert verdict is not None
        return f"{verdict.published} published, {len(verdict.violations)} violations"


class _Status(msgspec.Struct):
    unpublished_message: int
    unacked_message: int


class _Statuses(msgspec.Struct):
    data: list[_Status]


def is_empty(counters: bytes) -> bool:
    """Tell by the answer about a topic's subscribers whether they have nothing left."""
    statuses = msgspec.json.decode(counters, type=_Statuses).data
    return all(each.unpublished_message + each.unacked_message == 0 for each in statuses)
