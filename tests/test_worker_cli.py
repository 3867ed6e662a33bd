"""``blockqueue work``: a worker from the shell, over a file and over HTTP."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from blockqueue import BlockQueue

from .http_server import child_environment, serving

JOBS = """
import dataclasses

@dataclasses.dataclass
class Order:
    item: str

def handle(order: Order) -> None:
    print("did", order.item, flush=True)

class Shop:
    @staticmethod
    def sell(text: str) -> None:
        print("sold", text, flush=True)

nothing = 3
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "jobs.py").write_text(JOBS)
    return tmp_path


@contextmanager
def working(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run the command; in the end SIGTERM ends it well."""
    process = subprocess.Popen(
        [sys.executable, "-m", "blockqueue", "work", *arguments],
        cwd=folder,
        env=child_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline().startswith("blockqueue works on cart/counter with ")
        yield process
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 0, errors
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate(timeout=30)


def create(path: Path) -> None:
    with BlockQueue(path) as queue:
        queue.create_topic("cart", ["counter"])
        queue.publish("cart", '{"item": "a book"}')


def test_a_function_does_the_jobs_of_a_file(folder: Path) -> None:
    """Found in the current folder; SIGTERM ends it well, and the job is done."""
    create(folder / "blockqueue.db")
    with working(folder, "jobs:handle", "cart", "counter", "--concurrency", "4") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "did a book\n"
    with BlockQueue(folder / "blockqueue.db") as queue:
        (status,) = queue.subscribers("cart")
    assert (status.waiting, status.leased) == (0, 0)


def test_a_function_does_the_jobs_of_a_server(folder: Path) -> None:
    """The same, with --url; a function may be inside something."""
    create(folder / "queue.db")
    with serving(folder / "queue.db") as server:
        url = f"http://127.0.0.1:{server.port}"
        with working(folder, "jobs:Shop.sell", "cart", "counter", "--url", url) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == 'sold {"item": "a book"}\n'


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("jobs", "cart", "counter"), "not of the form module:function"),
        ((".jobs:count", "cart", "counter"), "not of the form module:function"),
        (("job:handle", "cart", "counter"), "there is no module 'job'"),
        (("jobs:handel", "cart", "counter"), "module 'jobs' has no 'handel'"),
        (("jobs:nothing", "cart", "counter"), "jobs:nothing is not a function"),
        (("jobs:handle", "cat", "counter"), "there is no topic 'cat'; the nearest is 'cart'"),
        (("jobs:handle", "cart", "conter"), "there is no subscriber 'conter'; the nearest"),
        (("jobs:handle", "cart", "counter", "--db", "no.db"), "there is no database no.db"),
        (("jobs:handle", "cart", "counter", "--lease", "long"), "'long' is not a duration"),
    ],
)
def test_a_mistake_is_named_and_no_traceback_is_shown(
    folder: Path, arguments: tuple[str, ...], message: str
) -> None:
    """The exit code says that it did not work."""
    create(folder / "blockqueue.db")
    done = subprocess.run(
        [sys.executable, "-m", "blockqueue", "work", *arguments],
        cwd=folder,
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr
