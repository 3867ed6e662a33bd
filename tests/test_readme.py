"""Whatever the README prints is run, and answers as printed."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from blockqueue import BlockQueue

from .docs_runner import check_json, parts_of

README = (Path(__file__).resolve().parent.parent / "README.md").read_text()
BLOCKS = [(part.kind, part.text) for part in parts_of(README) if not part.order]


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "blockqueue", "serve", "--port", "0"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split(" on ")[1].strip()
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert process.returncode == 0


def test_the_curls_answer_as_printed(address: str) -> None:
    """Each block of curls is run in a shell and compared with the block of JSON after it."""
    variables: dict[str, str] = {}
    ran = 0
    for (kind, text), (next_kind, printed) in itertools.pairwise(BLOCKS):
        if kind != "sh" or next_kind != "json":
            continue
        script = text.replace("http://localhost:8080", address)
        done = subprocess.run(
            ["sh", "-ec", script.replace("curl ", "curl --silent --show-error -w '\\n' ")],
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        variables |= check_json(done.stdout, printed, "README.md")
        ran += 1
    assert ran == 6 + 10


def python_with(text: str) -> str:
    """Return the one block of Python that holds ``text``."""
    program: str
    (program,) = [block for kind, block in BLOCKS if kind == "python" and text in block]
    return program


def test_the_python_runs(tmp_path: Path) -> None:
    """The Python of the README hands out what it published, and leaves what it nacked."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", python_with("publish_many")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert [line.split()[1] for line in done.stdout.splitlines()] == ["a", "b"]
    assert done.stderr == ""


def test_the_client_runs(address: str) -> None:
    """The client of the README gets the message that it has published."""
    program = python_with("blockqueue.client").replace("http://localhost:8080", address)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout.split()[1:] == ["welcome"]
    assert done.stderr == ""


def run_worker(directory: Path, part: str, says: str) -> None:
    """Run the program that has ``part`` in it until it has said that, then end it in order."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-W", "error", "-c", python_with(part)],
        cwd=directory,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == says
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_the_worker_runs_until_sigterm(tmp_path: Path) -> None:
    """It does what was published, and ends well."""
    with BlockQueue(tmp_path / "queue.db") as queue:
        queue.create_topic("cart", ["counter"])
        queue.publish("cart", '{"items": 3}')
    run_worker(tmp_path, "16).run()", "counted 3\n")
    with BlockQueue(tmp_path / "queue.db") as queue:
        (status,) = queue.subscribers("cart")
    assert (status.waiting, status.leased) == (0, 0)


def test_the_transaction_of_a_worker_runs(tmp_path: Path) -> None:
    """The row, the mail and the ack are there together."""
    with BlockQueue(tmp_path / "queue.db") as queue:
        queue.create_topic("cart", ["created"])
        queue.create_topic("mail", ["sender"])
        queue.publish("cart", "a book")
    run_worker(tmp_path, "job.complete", "ordered a book\n")
    with BlockQueue(tmp_path / "queue.db") as queue:
        assert [each.message for each in queue.claim("mail", "sender")] == ["ordered: a book"]
        with queue.transaction() as tx:
            assert tx.execute("SELECT cart FROM orders") == [("a book",)]


def test_the_commands_for_operators_run(tmp_path: Path) -> None:
    """The retries commands find the message that the README's program nacked."""
    run = partial(
        subprocess.run, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True
    )
    run([sys.executable, "-c", python_with("publish_many").replace("queue.db", "blockqueue.db")])
    commands = [
        line
        for kind, text in BLOCKS
        if kind == ""
        for line in text.splitlines()
        if line.startswith("blockqueue retries")
    ]
    assert len(commands) == 2
    for command in commands:
        words = command.replace(" counter ", " created ").split()[1:]
        run([sys.executable, "-m", "blockqueue", *words])


def test_the_token_commands_run(tmp_path: Path) -> None:
    """In their order: what is revoked was made before."""
    commands = [
        line.split()[1:]
        for kind, text in BLOCKS
        if kind == ""
        for line in text.splitlines()
        if line.startswith("blockqueue token")
    ]
    assert [words[1] for words in commands] == ["create", "create", "list", "revoke"]
    for words in commands:
        subprocess.run(
            [sys.executable, "-m", "blockqueue", *words],
            cwd=tmp_path,
            capture_output=True,
            timeout=30,
            check=True,
        )


def test_the_session_at_the_terminal_runs(tmp_path: Path) -> None:
    """In a shell, in order: what is published is printed, and handed to the command."""
    parts = [text for kind, text in BLOCKS if kind == "" and " jobs " in text]
    session = "".join(parts)
    done = subprocess.run(
        ["sh", "-ec", session.replace("blockqueue ", f"{sys.executable} -m blockqueue ")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.startswith("made topic 'jobs' with worker\n")
    assert "\nresize cat.png\n" in done.stdout
    assert len(re.findall(r"^[123] is message [0-9a-f-]{36}$", done.stdout, re.MULTILINE)) == 3
    assert len(parts) == 2
    assert len(re.findall(r"^jobs +worker +no +0 +0 +0 +-$", done.stdout, re.MULTILINE)) == 2
    assert "\nresize cat.png\n1\n2\n3\n" in done.stdout
    assert "made schedule 'nightly': next at 20" in done.stdout
    assert done.stdout.endswith("replayed 0\n")


def test_the_configuration_is_right(tmp_path: Path) -> None:
    """Its check finds nothing to say against the file as it is printed."""
    ((_, text),) = [block for block in BLOCKS if block[0] == "toml"]
    (tmp_path / "blockqueue.toml").write_text(text)
    run = partial(
        subprocess.run, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True
    )
    program = [sys.executable, "-m", "blockqueue"]
    assert "3 options" in run([*program, "config", "check"]).stdout
    shown = run([*program, "config", "show", "serve"]).stdout
    assert re.search(r"^port +9000 +blockqueue.toml +BLOCKQUEUE_PORT$", shown, re.MULTILINE)


def test_every_option_of_the_server_is_in_the_table() -> None:
    """The table names each option, its environment variable and default, and no other."""
    from blockqueue.api.cli_serve import serve

    named = re.findall(r"^\| `(--[\w-]+)` \| `(\w+)` \| `(.+)` \|$", README, re.MULTILINE)
    found = [(each.opts[0], each.envvar, str(each.default)) for each in serve.params]
    assert named == found
