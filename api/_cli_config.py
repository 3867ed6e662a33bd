"""Options from a TOML file: which are there, and whether they are right.

    db = "/var/lib/blockqueue/queue.db"   # for every command that has the option

    [serve]
    port = 9000

    [topic.create]
    max-attempts = 5

Options are named as on the command line, without the dashes at the front.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any, NamedTuple

import click

from ._cli_group import USAGE, Failed, Program, long_name

DEFAULT = "blockqueue.toml"
#: What may stand at the top, for all commands.
SHARED = ("audit-log", "db", "json", "log-format", "log-level", "token-file", "url")


class Setting(NamedTuple):
    """A value of the file: where it stands, and the option that it is for."""

    path: tuple[str, ...]
    option: click.Option
    value: Any


class Config:
    """A file's options. Raises Failed for what no command has."""

    def __init__(self, program: Program, path: str) -> None:
        self.path = path
        self._program = program
        self._table = _read(path)
        self._shared: dict[str, Any] = {}
        for key, value in self._table.items():
            if isinstance(value, dict):
                if key not in program.commands:
                    raise self._unknown(key, (), [*program.commands, *SHARED])
            elif key in SHARED:
                self._shared[key] = value
            else:
                raise self._unknown(key, (), [*SHARED, *program.commands])

    def settings(self) -> Iterator[Setting]:
        """Yield what stands in the tables."""
        for name, table in self._table.items():
            if name not in self._shared:
                yield from self._settings(self._program.load(name), (name,), table)

    def defaults(self, name: str) -> dict[str, Any]:
        """Return the defaults of one command, as click takes them."""
        command = self._program.load(name)
        found = self._shared_of(command)
        if isinstance(command, click.Group):
            for sub, each in command.commands.items():
                found[sub] = self._shared_of(each)
        for path, option, value in self.settings():
            if path[0] == name:
                place = found if len(path) == 1 else found[path[1]]
                place[option.name] = value
        return found

    def _settings(
        self, command: click.Command, path: tuple[str, ...], table: dict[str, Any]
    ) -> Iterator[Setting]:
        options = options_of(command)
        commands = command.commands if isinstance(command, click.Group) else {}
        for key, value in table.items():
            if isinstance(value, dict):
                if key not in commands:
                    raise self._unknown(key, path, [*commands, *options])
                yield from self._settings(commands[key], (*path, key), value)
            elif key in options:
                yield Setting(path, options[key], self._value(options[key], path, key, value))
            else:
                raise self._unknown(key, path, [*options, *commands])

    def _shared_of(self, command: click.Command) -> dict[str, Any]:
        options = options_of(command)
        return {
            str(options[key].name): self._value(options[key], (), key, value)
            for key, value in self._shared.items()
            if key in options
        }

    def _value(self, option: click.Option, path: tuple[str, ...], key: str, value: Any) -> Any:
        """Return a value as if it had been typed; a flag's is true or false."""
        if option.is_flag != isinstance(value, bool):
            wanted = "true or false" if option.is_flag else "no flag: give its value"
            raise Failed(f"{self.path}: {key!r}{_where(path)} is {wanted}", USAGE)
        if option.is_flag:
            return value
        if option.multiple:
            return [str(each) for each in (value if isinstance(value, list) else [value])]
        return str(value)

    def _unknown(self, key: str, path: tuple[str, ...], names: list[str]) -> Failed:
        nearest = get_close_matches(key, names, n=1, cutoff=0.0)
        hint = f"; the nearest is {nearest[0]!r}" if nearest else ""
        return Failed(f"{self.path}: there is no option {key!r}{_where(path)}{hint}", USAGE)


def options_of(command: click.Command) -> dict[str, click.Option]:
    """Return a command's options by their long names."""
    return {
        long_name(param): param
        for param in command.params
        if isinstance(param, click.Option) and not param.hidden
    }


def find(given: str | None) -> str | None:
    """Return the file that is meant: the one given, or that of the folder if it is there."""
    return given or (DEFAULT if os.path.isfile(DEFAULT) else None)


def _where(path: tuple[str, ...]) -> str:
    return f" in [{'.'.join(path)}]" if path else ""


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        text = error.strerror if isinstance(error, OSError) else str(error)
        raise Failed(f"cannot read the configuration {path}: {text}", USAGE) from error
