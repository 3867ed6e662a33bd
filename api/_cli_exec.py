"""Running a command for a message, while the message's lease is kept."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from blockqueue.storage import BlockQueueError, LeaseLost

from ._cli_signals import Interrupts

if TYPE_CHECKING:
    from blockqueue import Delivery
    from blockqueue.client import Delivery as Remote

_ENDED_S = 5.0
_NOT_A_NAME = re.compile(r"[^A-Z0-9]+")


class Run:
    """One run of a command in a shell, with the message on its standard input.

    It is a process group of its own, so that all of a pipeline can be ended. ``timeout_s``:
    how long it may take; None: as long as it wants.
    """

    def __init__(
        self,
        command: str,
        delivery: Delivery | Remote,
        lease_s: float,
        interrupts: Interrupts,
        timeout_s: float | None = None,
    ) -> None:
        self._command = command
        self._delivery = delivery
        self._lease_s = lease_s
        self._interrupts = interrupts
        self._timeout_s = timeout_s
        self._lost = False

    def result(self, environment: dict[str, str]) -> str:
        """Run it to its end. Returns what went wrong; empty: nothing.

        If this is interrupted, the command is ended before that goes on.
        """
        process = feeding = None
        try:
            # It may be running before Popen returns: it must not get lost by a signal then.
            with self._interrupts.held():
                process = self._start(environment)
                feeding = threading.Thread(target=self._feed, args=(process,), daemon=True)
                feeding.start()
            in_time = self._wait(process, self._timeout_s)
            if not in_time:
                self._end(process)
        except BaseException:
            if process is not None:
                self._end(process)
            raise
        finally:
            if feeding is not None:
                feeding.join(_ENDED_S)
        if not in_time:
            return f"the command was ended: it took more than {self._timeout_s:g} s"
        return _verdict(process.returncode)

    def _start(self, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        # The user's own command line: a shell is what was asked for.
        return subprocess.Popen(  # noqa: S602
            self._command,
            shell=True,
            stdin=subprocess.PIPE,
            env={**environment, **about(self._delivery)},
            process_group=0,
        )

    def _feed(self, process: subprocess.Popen[bytes]) -> None:
        payload = self._delivery.message
        assert process.stdin is not None
        try:
            with process.stdin as stdin:
                stdin.write(payload if isinstance(payload, bytes) else payload.encode())
        except BrokenPipeError:
            pass  # it need not read its message

    def _wait(self, process: subprocess.Popen[bytes], most_s: float | None) -> bool:
        """Wait for its end, extending the lease each third of it. False: it took too long."""
        beat_s = self._lease_s / 3
        until = math.inf if most_s is None else time.monotonic() + most_s
        while True:
            started = time.monotonic()
            try:
                process.wait(max(0.0, min(beat_s, until - started)))
                return True
            except subprocess.TimeoutExpired:
                pass
            now = time.monotonic()
            if now >= until:
                return False
            self._extend(now - started)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """End the command and all that it has started."""
        _tell(process, signal.SIGTERM)
        self._wait(process, _ENDED_S)
        _tell(process, signal.SIGKILL)
        process.wait()

    def _extend(self, seconds: float) -> None:
        if self._lost:
            return
        try:
            self._delivery.extend(seconds)
        except LeaseLost:
            self._lost = True
            click.echo(f"{self._delivery.id}: the lease was lost", err=True)
        except BlockQueueError as error:  # a beat that is missed is no loss yet
            click.echo(f"{self._delivery.id}: {error}", err=True)


def about(delivery: Delivery | Remote) -> dict[str, str]:
    """Return what a command's environment says of its message."""
    known = {
        "BLOCKQUEUE_MESSAGE_ID": delivery.id,
        "BLOCKQUEUE_MESSAGE_HEADERS": json.dumps(dict(delivery.headers)),
        "BLOCKQUEUE_MESSAGE_PRIORITY": str(delivery.priority),
        "BLOCKQUEUE_MESSAGE_DELIVERIES": str(delivery.delivery_count),
        "BLOCKQUEUE_MESSAGE_FAILURES": str(delivery.failure_count),
        "BLOCKQUEUE_MESSAGE_CORRELATION_ID": delivery.correlation_id or "",
    }
    for name, value in delivery.headers.items():
        known["BLOCKQUEUE_HEADER_" + _NOT_A_NAME.sub("_", name.upper())] = value
    # No environment can hold these.
    return {name: value for name, value in known.items() if "\0" not in value}


def _verdict(code: int) -> str:
    if code == 0:
        return ""
    if code < 0:
        return f"the command was killed by signal {-code}"
    return f"the command exited with {code}"


def _tell(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # all of them have ended
        os.killpg(process.pid, number)
