"""The command line begins quickly, and explains mistakes in one line with a stable exit code."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from blockqueue.api import cli

from .cli_helpers import PATIENCE_S, Shell, ended, orders, shell
from .http_server import child_environment, serving

__all__ = ["orders", "shell"]

_LOADED = """
import sys
{}
print(*sorted(sys.modules))
"""


_HOLD = """
import fcntl, sys
file = open(sys.argv[1])
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def loaded_by(program: str) -> set[str]:
    """Return the modules that a fresh Python has loaded after a program."""
    done = subprocess.run(
        [sys.executable, "-c", _LOADED.format(program)],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return set(done.stdout.splitlines()[-1].split())


def test_importing_the_package_loads_neither_http_nor_the_command_line() -> None:
    """Who embeds a queue does not pay for a server, a client, a worker or a terminal."""
    loaded = loaded_by("from blockqueue import BlockQueue, Subscriber, ScheduleSpec")
    assert "apsw" in loaded  # what must be there is, so this looks at the right thing
    assert not loaded & {"falcon", "waitress", "httpx2", "click", "tqdm", "blockqueue.worker"}
    assert not {name for name in loaded if name.startswith("blockqueue.api.cli")}


def test_importing_the_bare_package_loads_next_to_nothing() -> None:
    loaded = loaded_by("import blockqueue; blockqueue.__version__")
    ours = {name for name in loaded if name.startswith("blockqueue")}
    assert ours == {"blockqueue"}
    assert "apsw" not in loaded


_ROUND_TRIP = """
from blockqueue import LeaseLost, Message, ScheduleSpec, Subscriber
from blockqueue.client import Client

with Client("http://127.0.0.1:{port}") as client:
    client.create_topic("orders", [Subscriber("worker")])
    client.publish_many("orders", ["hi", Message("ho", priority=1)])
    client.schedules("orders").create(ScheduleSpec("nightly", "0 3 * * *", "tidy up"))
    for delivery in client.claim("orders", "worker", limit=2):
        delivery.ack()
    try:
        delivery.nack()
    except LeaseLost:
        pass
"""


def test_a_client_loads_no_database_and_no_actors(tmp_path: Path) -> None:
    """Whatever it does: a program that only speaks to a server needs none of them."""
    with serving(tmp_path / "queue.db") as server:
        loaded = loaded_by(_ROUND_TRIP.format(port=server.port))
    assert "blockqueue.client" in loaded
    assert not loaded & {"apsw", "peewee", "playhouse", "zstandard", "cronsim", "pykka"}


def test_every_public_name_can_be_loaded() -> None:
    """Each is found where it is said to be, and listed for those who look around."""
    import blockqueue

    for name in blockqueue.__all__:
        assert getattr(blockqueue, name) is not None
        assert name in dir(blockqueue)
    with pytest.raises(AttributeError, match="no attribute 'BlockQeue'"):
        _ = blockqueue.BlockQeue  # pyright: ignore


def test_help_loads_no_command_and_no_queue() -> None:
    """It is asked for often, and answers at once."""
    program = (
        "from blockqueue.api.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit: pass"
    )
    loaded = loaded_by(program)
    ours = {name for name in loaded if name.startswith("blockqueue")}
    assert ours == {
        "blockqueue",
        "blockqueue.api",
        "blockqueue.api._cli_group",
        "blockqueue.api.cli",
    }
    assert not loaded & {"apsw", "peewee", "pykka", "falcon", "waitress", "httpx2", "tqdm"}


@pytest.mark.parametrize("name", list(cli.main.commands))
def test_every_command_explains_itself(shell: Shell, name: str) -> None:
    """Its line in the list of commands does not promise what the command is not."""
    shown = shell.ok(name, "--help")
    assert shown.startswith("Usage: ")
    assert len(shown.splitlines()) > 5
    assert cli.main.commands[name].get_short_help_str(100) in shell.ok("--help")


def test_a_mistake_is_answered_with_the_nearest_name(orders: Shell) -> None:
    assert "Did you mean 'publish'?" in orders.fails(2, "publsh")
    assert "Did you mean '--priority'?" in orders.fails(2, "publish", "--prio", "1", "orders", "x")
    assert orders.fails(3, "publish", "order", "x") == (
        "Error: there is no topic 'order'; the nearest is 'orders'\n"
    )
    assert orders.fails(3, "consume", "orders", "wroker") == (
        "Error: there is no subscriber 'wroker'; the nearest is 'worker'\n"
    )


def test_a_missing_file_says_what_to_do_and_is_not_made(shell: Shell) -> None:
    said = shell.fails(2, "topic", "list")
    assert f"there is no database {shell.db}; `blockqueue topic create" in said
    assert not shell.db.exists()
    shell.db.touch()
    assert f"{shell.db} is empty" in shell.fails(2, "publish", "orders", "x")


FILE_ONLY = {
    "retries": ["orders", "worker"],
    "token create": ["shop", "--scope", "observe:*"],
    "token list": [],
    "token revoke": ["shop"],
    "doctor": [],
    "backup": ["copy.db"],
    "restore": ["copy.db"],
    "bench": [],
    "tail": ["orders"],
    "dlq drop": ["orders", "worker", "--all"],
}


@pytest.mark.parametrize("name", FILE_ONLY)
def test_a_command_that_needs_the_file_says_so_of_a_server(shell: Shell, name: str) -> None:
    """Whoever types --url means a server; what the environment or a file says is for others."""
    words = [*name.split(), *FILE_ONLY[name]]
    del shell.env["BLOCKQUEUE_DB"]
    said = shell.fails(2, *words, "--url", "http://127.0.0.1:1")
    assert f"{name} works on the file only: give --db, not --url" in said.splitlines()[-1]
    assert "--url" not in shell.ok(*name.split(), "--help") or name in {"tail", "dlq drop"}


def test_a_configured_server_does_not_keep_a_command_from_the_file(orders: Shell) -> None:
    (orders.folder / "settings.toml").write_text('url = "http://127.0.0.1:1"\n')
    orders.env["BLOCKQUEUE_CONFIG"] = str(orders.folder / "settings.toml")
    orders.env["BLOCKQUEUE_URL"] = "http://127.0.0.1:1"
    assert orders.ok("token", "list").startswith("  ID")
    assert "url" not in orders.ok("config", "show", "doctor")


def test_a_missing_server_says_what_to_do(tmp_path: Path) -> None:
    away = Shell(tmp_path, url="http://127.0.0.1:1")
    said = away.fails(5, "topic", "list")
    assert "no connection to http://127.0.0.1:1" in said
    assert "`blockqueue serve` starts one" in said


_WAITING = (
    ["publish", "orders", "x"],
    ["retries", "--json", "orders", "worker"],
    ["token", "list"],
)


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="the system does not tell")
def test_who_waits_for_a_lock_is_told_who_holds_it(orders: Shell) -> None:
    """And goes on as soon as it is free; a short command says nothing."""
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, f"{orders.db}-lock"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with ended(holder):
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with ExitStack() as stack:
            waiting = [
                stack.enter_context(ended(orders.start(*words, stderr=subprocess.PIPE)))
                for words in _WAITING
            ]
            for process in waiting:
                assert process.stderr is not None
                said = process.stderr.readline()
                assert f"process {holder.pid} (" in said
                assert f"the write lock of {orders.db}" in said
                assert f"kill -9 {holder.pid}" in said
            holder.kill()
            for process in waiting:
                _, rest = process.communicate(timeout=PATIENCE_S)
                assert (process.returncode, "Traceback" in rest) == (0, False)


def test_the_stronger_of_file_and_server_is_meant(orders: Shell) -> None:
    """What is typed is stronger than the environment; typing both is a mistake."""
    db = str(orders.db)
    orders.env = {"BLOCKQUEUE_URL": "http://127.0.0.1:1"}
    assert "orders" in orders.ok("topic", "list", "--db", db)
    said = orders.fails(2, "topic", "list", "--db", db, "--url", "http://127.0.0.1:1")
    assert "choose one of --db and --url" in said


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (2, ["topic", "create", "a/b", "--subscriber", "s"]),
        (2, ["topic", "create", "t", "--subscriber", "s", "--visibility", "3 days"]),
        (4, ["topic", "create", "orders", "--subscriber", "s"]),
        (3, ["topic", "show", "nothing"]),
        (4, ["subscriber", "add", "orders", "worker"]),
    ],
)
def test_exit_codes_say_what_kind_of_mistake_it_was(
    orders: Shell, code: int, words: list[str]
) -> None:
    orders.fails(code, *words)
