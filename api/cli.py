"""The command line: ``blockqueue`` and ``python -m blockqueue``."""

from __future__ import annotations

import logging
import sys

import click

import blockqueue

from .cli_backup import backup, restore
from .cli_doctor import doctor
from .cli_retries import retries
from .cli_serve import serve
from .cli_token import token
from .cli_work import work


@click.group(
    context_settings={"auto_envvar_prefix": "BLOCKQUEUE", "help_option_names": ["-h", "--help"]}
)
@click.version_option(blockqueue.__version__, prog_name="blockqueue")
def main() -> None:
    """A durable publish/subscribe message queue in one SQLite file."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    logging.getLogger("pykka").setLevel(logging.WARNING)


main.add_command(serve)
main.add_command(retries)
main.add_command(work)
main.add_command(token)
main.add_command(doctor)
main.add_command(backup)
main.add_command(restore)
