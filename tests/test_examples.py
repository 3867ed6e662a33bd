"""The programs of examples/, run as their first lines say."""

from __future__ import annotations

import contextlib
import importlib.util
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from blockqueue import BlockQueue, ManualClock

from .http_server import PATIENCE_S, child_environment

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def command(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-u", "-W", "error", str(EXAMPLES / name), *arguments]


def run(folder: Path, name: str, *arguments: str) -> list[str]:
    """Run an example to its end; return the lines that it prints."""
    done = subprocess.run(
        command(name, *arguments),
        cwd=folder,
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    return done.stdout.splitlines()


@contextlib.contextmanager
def running(folder: Path, name: str, *arguments: str) -> Iterator[Iterator[str]]:
    """Run an example for the length of a block, and end it well; gives the lines it prints."""
    process = subprocess.Popen(
        command(name, *arguments),
        cwd=folder,
        env=child_environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    # So that a line that does not come is an end.
    guard = threading.Timer(PATIENCE_S, process.kill)
    guard.start()
    assert process.stdout is not None
    try:
        yield (line.rstrip("\n") for line in process.stdout)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    finally:
        guard.cancel()
        process.kill()
        process.wait(PATIENCE_S)
        process.stdout.close()


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_thumbnails(tmp_path: Path) -> None:
    """Each image once, also when it is added again; what is no image holds nobody up."""
    for name, size in (("wide", (600, 300)), ("small", (20, 10))):
        Image.new("RGB", size, "teal").save(tmp_path / f"{name}.jpg")
    (tmp_path / "words.jpg").write_text("no image")
    names = ["words.jpg", "wide.jpg", "small.jpg"]

    assert run(tmp_path, "thumbnails.py", "add", *names) == [f"added {name}" for name in names]
    assert run(tmp_path, "thumbnails.py", "add", "wide.jpg") == ["known wide.jpg"]
    with running(tmp_path, "thumbnails.py", "work") as lines:
        assert {next(lines), next(lines)} == {"made wide.png", "made small.png"}

    with Image.open(tmp_path / "thumbnails/wide.png") as thumbnail:
        assert thumbnail.size == (128, 64)
    assert {each.name for each in (tmp_path / "thumbnails").iterdir()} == {"wide.png", "small.png"}
    with BlockQueue(tmp_path / "thumbnails.db") as queue:
        (status,) = queue.subscribers("images")
    assert (status.waiting, status.leased, status.dead) == (0, 0, 0)


class Hook(BaseHTTPRequestHandler):
    """A customer's server: /away is away at first, /gone wants nothing."""

    def do_POST(self) -> None:
        server: Any = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with server.lock:
            first = self.path not in {path for path, _, _ in server.got}
            server.got.append((self.path, self.headers["Webhook-Id"], body))
        self.send_response({"/away": 503 if first else 200, "/gone": 410}.get(self.path, 200))
        self.send_header("Retry-After", "1")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def hooks() -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    server.lock, server.got = threading.Lock(), []
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join(PATIENCE_S)
    server.server_close()


def test_webhooks(tmp_path: Path, hooks: Any) -> None:
    """Everybody gets the event with the same id: who was away gets it again, who is gone does
    not."""
    base = f"http://127.0.0.1:{hooks.server_port}"
    addresses = [f"{base}/{path}" for path in ("well", "away", "gone")]
    with running(tmp_path, "webhooks.py", "work", *addresses) as lines:
        assert next(lines) == " ".join(["subscribed", *addresses])
        (said,) = run(tmp_path, "webhooks.py", "publish", '{"order": 42}')
        number = said.removeprefix("published ")
        assert next(lines) == f"sent {number} to {base}/well"
        assert next(lines) == f"sent {number} to {base}/away"

    assert sorted(hooks.got) == [
        (path, number, b'{"order": 42}') for path in ("/away", "/away", "/gone", "/well")
    ]
    with BlockQueue(tmp_path / "webhooks.db") as queue:
        statuses = queue.subscribers("events")
    assert [(each.waiting, each.leased, each.dead) for each in statuses] == [(0, 0, 0)] * 3


def test_nightly_now(tmp_path: Path) -> None:
    """A report that is asked for is written, by the worker that runs."""
    with running(tmp_path, "nightly.py") as lines:
        run(tmp_path, "nightly.py", "--now")
        name = next(lines).removeprefix("wrote ")

    assert (tmp_path / name).read_text().startswith("The report on sales of 20")


def test_nightly_at_three(tmp_path: Path) -> None:
    """It comes at three by the clocks of Berlin, not a minute before, and set up only once."""
    example = load("nightly")
    evening = datetime(2026, 1, 15, 22, 0, tzinfo=UTC)
    clock = ManualClock(round(evening.timestamp() * 1000))
    with BlockQueue(tmp_path / "nightly.db", clock=clock) as queue:
        example.set_up(queue)
        example.set_up(queue)
        clock.advance(round(timedelta(hours=3, minutes=59).total_seconds() * 1000))
        assert queue.claim("reports", "writer") == []
        clock.advance(60_000)
        (delivery,) = queue.claim("reports", "writer", wait="30s")
    assert delivery.message == "sales"
