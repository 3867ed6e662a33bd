"""Options from a file: what is stronger than what, and what a typing error is answered with."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from blockqueue import BlockQueue
from blockqueue.api import cli
from blockqueue.api._cli_config import SHARED, options_of

from .cli_helpers import Shell, orders, shell

__all__ = ["orders", "shell"]


def configured(shell: Shell, text: str) -> Path:
    """Write the file that the shell's commands read."""
    path = shell.folder / "settings.toml"
    path.write_text(text)
    shell.env["BLOCKQUEUE_CONFIG"] = str(path)
    return path


def test_the_file_sets_what_is_not_typed_nor_in_the_environment(orders: Shell) -> None:
    configured(orders, '[publish]\npriority = 3\ndelay = "0s"\nheader = ["a=b", "c=d"]\n')

    def published(*words: str) -> tuple[int, dict[str, str]]:
        orders.ok("publish", "orders", "x", *words)
        (found,) = orders.lines("consume", "orders", "worker")
        return found["priority"], found["headers"]

    assert published() == (3, {"a": "b", "c": "d"})
    orders.env["BLOCKQUEUE_PUBLISH_PRIORITY"] = "4"
    assert published()[0] == 4
    assert published("--priority", "5", "--header", "e=f") == (5, {"e": "f"})


def test_what_stands_at_the_top_is_for_all_commands(tmp_path: Path) -> None:
    """Those that have the option, and groups' commands too."""
    shell = Shell(tmp_path)
    shell.env = {}
    configured(
        shell,
        f'db = "{shell.db}"\njson = true\n\n[topic.create]\nmax-attempts = 7\n',
    )
    assert '"topic": "orders"' in shell.ok("topic", "create", "orders", "--subscriber", "worker")
    assert '"subscriber": "worker"' in shell.ok("status")
    with BlockQueue(shell.db) as queue, queue.system.reading() as snapshot:
        assert snapshot.row("SELECT max_attempts FROM subscriber") == (7,)


def test_the_file_of_the_folder_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "blockqueue.toml").write_text('db = "other.db"\n')
    CliRunner().invoke(cli.main, ["topic", "create", "orders", "--subscriber", "worker"])
    assert (tmp_path / "other.db").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[serve]\nprot = 1\n", "there is no option 'prot' in [serve]; the nearest is 'port'"),
        ("[srve]\nport = 1\n", "there is no option 'srve'; the nearest is 'serve'"),
        ("dbb = 'x'\n", "there is no option 'dbb'; the nearest is 'db'"),
        ("port = 1\n", "there is no option 'port'; the nearest is"),
        ("[topic.crate]\nx = 1\n", "'crate' in [topic]; the nearest is 'create'"),
        ("[topic.create]\nmax_attempts = 1\n", "the nearest is 'max-attempts'"),
        ("[publish]\nquiet = 3\n", "'quiet' in [publish] is true or false"),
        ("[publish]\npriority = true\n", "'priority' in [publish] is no flag"),
        ("[serve\n", "cannot read the configuration"),
    ],
)
def test_a_typing_error_is_named_with_what_is_nearest(orders: Shell, text: str, said: str) -> None:
    """By every command, before it does anything: half a configuration is none."""
    configured(orders, text)
    for words in (["publish", "orders", "x"], ["config", "check"]):
        assert said in orders.fails(2, *words)
    with BlockQueue(orders.db) as queue:
        assert queue.subscribers("orders")[0].waiting == 0


def test_check_looks_at_values_too(shell: Shell) -> None:
    """All that are wrong, not the first alone."""
    path = configured(shell, '[serve]\nport = "x"\nthreads = 0\n\n[publish]\ndelay = "soon"\n')
    said = shell.fails(2, "config", "check")
    assert said.count(str(path)) == 3
    for text in ("in [serve]", "'--port'", "'--threads'", "in [publish]", "1h30m"):
        assert text in said
    path.write_text("[serve]\nport = 9000\nworkers = 2\n\n[topic.create]\nmax-attempts = 5\n")
    assert "3 options in tables" in shell.ok("config", "check")
    path.unlink()
    assert "cannot read the configuration" in shell.fails(2, "config", "check")


def test_show_says_what_sets_each_option(orders: Shell) -> None:
    path = configured(orders, "[serve]\nport = 9000\n[topic.create]\nvisibility = '1h'\n")
    shown = {each["option"]: each for each in orders.lines("config", "show", "serve")}
    assert (shown["port"]["value"], shown["port"]["set_by"]) == ("9000", str(path))
    assert shown["db"]["set_by"] == "the environment"
    assert (shown["threads"]["value"], shown["threads"]["set_by"]) == (16, "default")
    shown = {each["option"]: each for each in orders.lines("config", "show", "topic", "create")}
    assert shown["visibility"]["value"] == "1h"
    assert "the nearest is 'serve'" in orders.fails(3, "config", "show", "srve")


def test_every_option_has_a_variable_that_is_named_as_it_is_typed(orders: Shell) -> None:
    """Of all commands; a few are for all of them, and no name means two things."""
    found: dict[str, set[str]] = {}
    for name in cli.main.commands:
        command = cli.main.load(name)
        for each in [command, *getattr(command, "commands", {}).values()]:
            for key, option in options_of(each).items():
                assert isinstance(option.envvar, str)
                assert option.envvar.startswith("BLOCKQUEUE_")
                assert option.envvar.endswith(key.upper().replace("-", "_"))
                found.setdefault(option.envvar, set()).add(key)
    assert all(len(keys) == 1 for keys in found.values())

    orders.env |= {"BLOCKQUEUE_PUBLISH_HEADER": "a=b c=d", "BLOCKQUEUE_CONSUME_EXEC": "exit 1"}
    orders.ok("publish", "orders", "x")
    assert orders.lines("peek", "orders", "worker")[0]["headers"] == {"a": "b", "c": "d"}
    orders.fails(1, "consume", "orders", "worker")
    orders.env["BLOCKQUEUE_JSON"] = "1"
    assert '"topic": "orders"' in orders.ok("status")


def test_what_is_for_all_commands_means_the_same_in_all() -> None:
    """Each shared name is an option of several commands, with one destination."""
    found: dict[str, set[str | None]] = {name: set() for name in SHARED}
    for name in cli.main.commands:
        command = cli.main.load(name)
        for each in [command, *getattr(command, "commands", {}).values()]:
            for key, option in options_of(each).items():
                if key in found:
                    found[key].add(option.name)
    assert {name: len(names) for name, names in found.items()} == dict.fromkeys(SHARED, 1)
