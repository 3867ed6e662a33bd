"""T16: very many clients wait, and nothing happens; then it does."""

from __future__ import annotations

import selectors
import time
from pathlib import Path
from statistics import median, quantiles

from ..crash_server import ServerProcess
from ..http_server import Poll
from .calls import Calls, Held, held_by
from .case import Budget, Result, Say
from .controls import program

_QUIET, _BUSY = "quiet", "busy"
_WAKES = 200
_CALLS = 200
_CONTROL_POLLS = 20
_ANSWER_MAX_S = 5.0

_WAKE_MAX_S = 0.050
_THREADS_MAX = 64
_BYTES_MAX = 20 * 1024
# Calls that take so little are noise, twice or not.
_CALL_NOISE_S = 0.005


class IdlePolls:
    """They cost no thread and little memory; a message wakes one of them at once."""

    id = "T16"
    title = "idle long polls (cycles: how many)"
    ci = 500
    night = 2000
    tells = "woke nobody"

    def missing(self) -> str | None:
        return None

    def run(self, budget: Budget, folder: Path, seed: int, say: Say) -> Result:
        return _wait_and_wake(ServerProcess(folder), budget.cycles, full=budget.full)

    def control(self, folder: Path, seed: int, say: Say) -> Result:
        """A build that tells nobody of a commit."""
        server = ServerProcess(folder, program=program("no-wake"))
        return _wait_and_wake(server, _CONTROL_POLLS, full=False)


def _wait_and_wake(server: ServerProcess, count: int, *, full: bool) -> Result:
    with server:
        calls = Calls(server.port)
        calls.create(_QUIET, "a")
        calls.create(_BUSY, "a")
        alone = _time_calls(calls)
        before = held_by(server)
        path = f"/topics/{_QUIET}/subscribers/a?timeout=1h"
        polls = [Poll(server.port, path) for _ in range(count)]
        # First: a wake is answered when all are parked, which keeps the server busy for a second.
        wakes = _wake(calls, polls, path)
        with_polls = _time_calls(calls)
        waiting = held_by(server)
        for poll in polls:
            poll.close()
        calls.close()
        if server.stop() != 0:
            return Result(problems=["the server did not end in order"])
    return _judge(count, wakes, before, waiting, (alone, with_polls), full)


def _p99(times: list[float]) -> float:
    return quantiles(times, n=100)[-1]


def _time_calls(calls: Calls) -> list[float]:
    """Return how long publishes take to which nobody listens."""
    times: list[float] = []
    for number in range(_CALLS):
        started = time.monotonic()
        calls.publish(_BUSY, f"{number}")
        times.append(time.monotonic() - started)
    return times


def _wake(calls: Calls, polls: list[Poll], path: str) -> list[float]:
    """Publish, and note when one of them has its answer. Stops when none comes."""
    times: list[float] = []
    with selectors.DefaultSelector() as selector:
        for poll in polls:
            selector.register(poll.socket, selectors.EVENT_READ, poll)
        for number in range(_WAKES):
            started = time.monotonic()
            calls.publish(_QUIET, f"{number}")
            ready = selector.select(_ANSWER_MAX_S)
            if not ready:
                break
            times.append(time.monotonic() - started)
            for key, _ in ready:
                answer = key.data.answer()
                if answer.texts != [f"{number}"]:
                    raise RuntimeError(f"a poll was answered with {answer}")
                key.data.send(path)
    return times


def _judge(
    count: int,
    wakes: list[float],
    before: Held,
    waiting: Held,
    calls: tuple[list[float], list[float]],
    full: bool,
) -> Result:
    if len(wakes) < _WAKES:
        return Result(problems=[f"a publish woke nobody for {_ANSWER_MAX_S:.0f} s"])
    alone, with_polls = calls
    each_bytes = (waiting.rss - before.rss) / count
    result = Result(
        {
            "polls": count,
            "wake, median, ms": round(median(wakes) * 1000, 1),
            "wake, p99, ms": round(_p99(wakes) * 1000, 1),
            "threads": waiting.threads,
            "KiB each": round(each_bytes / 1024, 1),
            "call alone, p99, ms": round(_p99(alone) * 1000, 1),
            "call beside polls, p99, ms": round(_p99(with_polls) * 1000, 1),
        }
    )
    # A machine that does other things too cannot promise its slowest case: there, the median.
    high = _p99 if full else median
    if high(wakes) > _WAKE_MAX_S:
        result.problems.append(f"a wake took {high(wakes) * 1000:.0f} ms")
    if high(with_polls) > max(2 * high(alone), _CALL_NOISE_S):
        result.problems.append(f"beside polls a call took {high(with_polls) * 1000:.0f} ms")
    if waiting.threads > max(before.threads, _THREADS_MAX):
        result.problems.append(f"{waiting.threads} threads")
    if each_bytes > _BYTES_MAX:
        result.problems.append(f"a poll costs {each_bytes / 1024:.0f} KiB")
    return result
