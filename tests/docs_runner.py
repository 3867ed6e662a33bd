"""Runs what a page of the documentation prints, in order, as its reader would.

In a folder of its own: Python whose first line names a file becomes that file, other Python and
shell is run. A block of ``text`` or ``json`` that follows is what must come out; "…" stands for
anything. Comments that no reader sees say the rest:

- ``<!-- background -->``: the next block goes on running. It has started when it has printed
  the lines of the block of text that follows.
- ``<!-- stop -->``: Ctrl-C for the last one that was started so. It must end well.
- ``<!-- setup … -->``: shell that is run first, for what the page takes for granted.
- ``<!-- not run: why -->``: the next block is only read.
- ``<!-- made by: what -->``: nothing here is to be done.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import NamedTuple

from .http_server import child_environment, unused_port

PATIENCE_S = 60.0
_PART = re.compile(
    r"^```(?P<kind>\w*)\n(?P<text>.*?)^```$|^<!-- (?P<order>[a-z ]+)(?P<rest>.*?)-->$",
    re.MULTILINE | re.DOTALL,
)
# Ids, receipts and times: different each time, and printed as "…".
_CHANGING = re.compile(r'"(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d{4}-\d\d-\d\dT[^"]*Z)"')
_FILE = re.compile(r"# ([\w/]+\.py)\n")
# What a reader does once, and a test has done already.
_DONE = re.compile(r"^(git clone .*|pip install .*|\. \.venv/bin/activate)\n", re.MULTILINE)
_OUTPUTS = {"text", "json"}
_SHELL = {"sh", ""}


class PageFailed(AssertionError):
    """A page prints what is not so."""


class Part(NamedTuple):
    """A block of code, or an order in a comment."""

    kind: str
    text: str
    order: str
    line: int


def parts_of(page: str) -> list[Part]:
    """Return the blocks and orders of a page."""
    return [
        Part(
            found["kind"] or "",
            found["text"] if found["order"] is None else found["rest"],
            (found["order"] or "").strip(),
            page.count("\n", 0, found.start()) + 1,
        )
        for found in _PART.finditer(page)
    ]


def _pattern(text: str) -> str:
    return re.escape(text).replace("…", ".*?")


def check_text(printed: str, expected: str, where: str) -> None:
    """Raise PageFailed unless that was printed."""
    pattern = r"\s+".join(_pattern(word) for word in expected.split())
    if re.fullmatch(pattern, printed.strip(), re.DOTALL) is None:
        raise PageFailed(f"{where}: printed was {printed!r}, and not {expected!r}")


def check_json(printed: str, expected: str, where: str) -> dict[str, str]:
    """Raise PageFailed unless those lines were printed. Returns the id and receipt in them."""
    found: dict[str, str] = {}
    answers = [json.loads(line) for line in printed.splitlines() if line]
    for answer in answers:
        data = answer.get("data")
        if isinstance(data, list) and data:
            found["id"] = data[0].get("id") or data[0].get("message_id") or ""
            found["receipt"] = data[0].get("receipt_token") or ""
    shown = [json.loads(_CHANGING.sub('"…"', json.dumps(answer))) for answer in answers]
    if shown != [json.loads(line) for line in expected.splitlines()]:
        raise PageFailed(f"{where}: printed was {shown}, and not {expected}")
    return found


class Background:
    """A program that goes on while the next blocks are run."""

    def __init__(self, script: str, folder: Path, environment: dict[str, str]) -> None:
        # "exec", so that a signal reaches the program and not its shell.
        self._process = subprocess.Popen(
            ["sh", "-ec", f"exec {script}"],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self.lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def wait_for(self, expected: str, where: str) -> None:
        """Wait until it has printed these lines, in their order, among others."""
        pattern = ".*?".join(_pattern(line) for line in expected.splitlines())

        def has_come() -> bool:
            return re.search(pattern, "".join(self.lines), re.DOTALL) is not None

        with self._changed:
            ended = self._changed.wait_for(
                lambda: has_come() or self._process.poll() is not None, PATIENCE_S
            )
            if not has_come():
                how = "ended without" if ended else "did not say"
                raise PageFailed(f"{where}: it {how} {expected!r}: {''.join(self.lines)}")

    def stop(self, number: int, where: str) -> None:
        """End it by a signal. Raises PageFailed unless it ends well."""
        self._process.send_signal(number)
        try:
            code = self._process.wait(PATIENCE_S)
        finally:
            self.kill()
        # 130: Ctrl-C came before it had begun to work.
        if code != 0 and (number, code) != (signal.SIGINT, 130):
            raise PageFailed(f"{where}: it ended with {code}: {''.join(self.lines)}")

    def kill(self) -> None:
        """End it somehow, and let go of its pipe."""
        self._process.kill()
        self._process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        assert self._process.stdout is not None
        self._process.stdout.close()


class Runner:
    """Runs one page."""

    def __init__(self, page: Path, folder: Path) -> None:
        self._name = page.name
        self._folder = folder
        #: The ports that the pages print, and those that are used here instead.
        self._ports = {port: str(unused_port()) for port in ("8080", "9101")}
        self._parts = parts_of(page.read_text())
        self._environment = _environment(folder)
        self._running: list[Background] = []
        self.ran = 0

    def run(self) -> int:
        """Run all; return how many blocks that were. Raises PageFailed."""
        parts = self._parts
        order = ""
        try:
            for part, after in itertools.zip_longest(parts, parts[1:]):
                where = f"{self._name}:{part.line}"
                output = after if after is not None and after.kind in _OUTPUTS else None
                if part.order:
                    order = self._obey(part, where)
                elif part.kind in _OUTPUTS:
                    continue
                else:
                    self._run_block(part, order, output, where)
                    order = ""
            while self._running:
                self._running.pop().stop(signal.SIGTERM, self._name)
        finally:
            for left in self._running:
                left.kill()
        return self.ran

    def _obey(self, part: Part, where: str) -> str:
        """Do what an order says now; return it if it is for the next block."""
        if part.order == "stop":
            self._running.pop().stop(signal.SIGINT, where)
        elif part.order == "setup":
            self._shell(part.text, where)
        elif part.order == "background" or (part.order == "not run" and part.text.strip(": \n")):
            return part.order
        elif part.order != "made by":
            raise PageFailed(f"{where}: {part.order!r} is no order, or gives no reason")
        return ""

    def _run_block(self, part: Part, order: str, output: Part | None, where: str) -> None:
        if order == "not run":
            return
        self.ran += 1
        text = _DONE.sub("", self._local(part.text)).replace("sh scripts/serve", self._serve())
        expected = "" if output is None else self._local(output.text)
        if part.kind == "python":
            named = _FILE.match(text)
            if named is not None:
                file = self._folder / named[1]
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text)
                return
            text = f"python -W error -c {shlex.quote(text)}"
        elif part.kind not in _SHELL:
            raise PageFailed(f"{where}: nobody knows how to run {part.kind!r}")
        if order == "background":
            self._running.append(Background(text.strip(), self._folder, self._environment))
            self._running[-1].wait_for(expected, where)
            return
        printed = self._shell(text, where)
        if output is not None and output.kind == "json":
            self._environment |= check_json(printed, expected, where)
        elif output is not None:
            check_text(printed, expected, where)

    def _local(self, text: str) -> str:
        for printed, ours in self._ports.items():
            text = text.replace(printed, ours)
        return text

    def _serve(self) -> str:
        return f"blockqueue serve --port {self._ports['8080']}"

    def _shell(self, script: str, where: str) -> str:
        """Run it and return what it printed, errors too. Raises PageFailed."""
        process = subprocess.Popen(
            ["sh", "-ec", script.replace("curl ", "curl --silent --show-error -w '\\n' ")],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # a group of its own, so that all of it can be ended
        )
        try:
            printed, _ = process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            printed, _ = process.communicate(timeout=PATIENCE_S)
            raise PageFailed(f"{where}: it does not end: {printed}") from None
        if process.returncode != 0:
            raise PageFailed(f"{where}: exit code {process.returncode}: {printed}")
        return printed


def _environment(folder: Path) -> dict[str, str]:
    """Return an environment in which the commands of this Python's environment are found."""
    commands = folder / ".commands"
    commands.mkdir(parents=True)
    for name, module in (("python", ""), *((each, f"-m {each}") for each in _MODULES)):
        command = commands / name
        command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {module} "$@"\n')
        command.chmod(0o755)
    inherited = child_environment()
    return inherited | {
        "PATH": os.pathsep.join([str(commands), inherited["PATH"]]),
        "PYTHONUNBUFFERED": "1",
    }


_MODULES = ("blockqueue", "gunicorn", "pytest", "uvicorn")
