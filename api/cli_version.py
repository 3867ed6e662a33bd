"""``blockqueue version``."""

from __future__ import annotations

import platform

import click

import blockqueue

from ._cli_rows import say
from ._cli_source import JSON


@click.command()
@JSON
def version(as_json: bool) -> None:
    """Print this program's version and those of what it stands on, as for a bug report."""
    import apsw

    from blockqueue.storage import SCHEMA_VERSION

    parts = {
        "blockqueue": blockqueue.__version__,
        "schema": SCHEMA_VERSION,
        "sqlite": apsw.sqlite_lib_version(),
        "python": platform.python_version(),
        "system": platform.platform(),
    }
    say(parts, as_json, "\n".join(f"{name:10} {value}" for name, value in parts.items()))
