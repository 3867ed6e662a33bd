"""``blockqueue config``."""

from __future__ import annotations

from typing import Any

import click
from click.core import ParameterSource

from ._cli_config import DEFAULT, Config, find, options_of
from ._cli_group import USAGE, Failed, Program
from ._cli_rows import say, table
from ._cli_source import JSON, not_found


@click.group()
def config() -> None:
    """Check and show what options are set to, and where."""


@config.command()
@JSON
@click.pass_context
def check(ctx: click.Context, as_json: bool) -> None:
    """Check the configuration file: names, and values."""
    program, path = _root(ctx)
    if path is None:
        raise Failed(f"there is no {DEFAULT} here, and --config names none", USAGE)
    found = Config(program, path)
    count, wrong = 0, list[str]()
    for name in program.commands:
        found.defaults(name)  # what stands at the top, too
    for where, option, value in found.settings():
        count += 1
        command = program.load(where[0])
        try:
            option.process_value(click.Context(command, info_name=where[0]), value)
        except click.BadParameter as error:
            wrong.append(f"{path}: in [{'.'.join(where)}]: {error.format_message()}")
    if wrong:
        raise Failed("\n".join(wrong), USAGE)
    say({"file": path, "options": count}, as_json, f"{path} is right: {count} options in tables")


@config.command()
@click.argument("command", nargs=-1, required=True)
@JSON
@click.pass_context
def show(ctx: click.Context, command: tuple[str, ...], as_json: bool) -> None:
    """Show what the options of COMMAND are set to, and what sets them.

    COMMAND is like `serve`, or `topic create`.
    """
    program, path = _root(ctx)
    name, *rest = command
    if name not in program.commands:
        raise not_found("command", name, list(program.commands))
    top = click.Context(program, info_name="blockqueue", **program.context_settings)
    if path is not None:
        top.default_map = {name: Config(program, path).defaults(name)}
    shown = program.load(name)
    context = click.Context(shown, info_name=name, parent=top)
    for word in rest:
        commands = shown.commands if isinstance(shown, click.Group) else {}
        if word not in commands:
            raise not_found("command", word, list(commands))
        shown = commands[word]
        context = click.Context(shown, info_name=word, parent=context)
    records = [_record(context, key, option, path) for key, option in options_of(shown).items()]
    table(records, ("option", "value", "set_by", "variable"), as_json, "it has no option")


def _record(ctx: click.Context, key: str, option: click.Option, path: str | None) -> dict[str, Any]:
    value, source = option.consume_value(ctx, {})
    if source == ParameterSource.DEFAULT:
        value = option.default if isinstance(option.default, str | int | float) else None
    by = {
        ParameterSource.ENVIRONMENT: "the environment",
        ParameterSource.DEFAULT_MAP: path,
    }
    return {
        "option": key,
        "value": value,
        "set_by": by.get(source, "default"),
        "variable": option.envvar,
    }


def _root(ctx: click.Context) -> tuple[Program, str | None]:
    root = ctx.find_root()
    assert isinstance(root.command, Program)
    return root.command, find(root.params.get("config"))
