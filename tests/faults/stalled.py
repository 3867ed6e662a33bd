"""T13: consumers claim and stall, or beat for ever."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

from ..crash_server import ServerProcess
from .calls import Calls
from .case import Budget, Result, Say
from .controls import program
from .integrity import check_database

_TOPIC, _STALLED, _BEATING = "work", "stalled", "beating"
_CONSUMERS = 200
_BEATS = 20
_DELIVERIES = 3
_LEASE_S = 1.0
# The sweeper looks twice a second; the rest is for a busy machine.
_LATE_S = 0.5 + 1.5
_SLACK_S = 0.1


class StalledConsumers:
    """Their messages come again when the lease has ended, and die after the last try."""

    id = "T13"
    title = "consumers that stall, or beat for ever"
    ci = 1
    night = 10
    tells = r"came \d+ times|are dead letters$| came$"

    def missing(self) -> str | None:
        return None

    def run(self, budget: Budget, folder: Path, seed: int, say: Say) -> Result:
        result = Result()
        for number in range(budget.cycles):
            where = folder / str(number)
            where.mkdir()
            found = _stall(ServerProcess(where))
            result.problems += found.problems
            for name, figure in found.figures.items():
                before = result.figures.get(name, figure)
                assert isinstance(before, float | int)
                assert isinstance(figure, float | int)
                result.figures[name] = max(before, figure)
        result.figures["rounds"] = budget.cycles
        return result

    def control(self, folder: Path, seed: int, say: Say) -> Result:
        """A build whose leases last for an hour."""
        return _stall(ServerProcess(folder, program=program("long-leases")))


def _stall(server: ServerProcess) -> Result:
    with server:
        calls = Calls(server.port)
        # Here max_attempts counts what comes after the first one, and a retry is due at once.
        calls.create(_TOPIC, _STALLED, _BEATING, max_attempts=_DELIVERIES - 1)
        result = _watch(calls)
        calls.close()
        server.stop()
    result.problems += check_database(server.database)
    return result


def _watch(calls: Calls) -> Result:
    """Claim everything, never acknowledge, and note when it comes again."""
    problems: list[str] = []
    calls.publish(_TOPIC, *(f"{number}" for number in range(_CONSUMERS)))
    beating = calls.claim(_TOPIC, _BEATING, f"limit={_BEATS}&lease={_LEASE_S}s")
    times: Counter[str] = Counter()
    leased: dict[str, tuple[float, float]] = {}
    slowest_s = 0.0
    deadline = time.monotonic() + (_LEASE_S + _LATE_S) * _DELIVERIES
    while time.monotonic() < deadline:
        sent = time.monotonic()
        found = calls.claim(_TOPIC, _STALLED, f"limit=1000&lease={_LEASE_S}s&timeout=300ms")
        answered = time.monotonic()
        for each in found:
            identity = str(each["id"])
            times[identity] += 1
            if identity in leased:
                first_sent, first_answered = leased[identity]
                slowest_s = max(slowest_s, answered - first_answered - _LEASE_S)
                if answered < first_sent + _LEASE_S - _SLACK_S:
                    problems.append(f"{identity} came again before its lease had ended")
            leased[identity] = sent, answered
        for each in beating:
            calls.settle(_TOPIC, _BEATING, each, "lease")
    if slowest_s > _LATE_S:
        problems.append(f"a message came again {slowest_s:.1f} s after its lease had ended")
    again = {each["id"] for each in calls.claim(_TOPIC, _BEATING, "limit=1000&timeout=100ms")}
    problems += [
        f"{each['id']} was handed out under a beat" for each in beating if each["id"] in again
    ]
    for each in beating:
        calls.settle(_TOPIC, _BEATING, each, "ack")
    problems += _judge_dead(calls, times)
    figures = {"messages": _CONSUMERS, "slowest after its lease, s": round(slowest_s, 3)}
    return Result(dict(figures), problems)


def _judge_dead(calls: Calls, times: Counter[str]) -> list[str]:
    """See that each came as often as it may, and is a dead letter now."""
    problems = [
        f"{identity} came {count} times, not {_DELIVERIES}"
        for identity, count in times.items()
        if count != _DELIVERIES
    ]
    if len(times) != _CONSUMERS:
        problems.append(f"{len(times)} of {_CONSUMERS} came")
    path = f"/v1/topics/{_TOPIC}/subscribers/{_STALLED}/dlq?limit=1000"
    dead = calls.send("GET", path).body.count(b'"status":"dead_letter"')
    if dead != _CONSUMERS:
        problems.append(f"{dead} of {_CONSUMERS} are dead letters")
    return problems
