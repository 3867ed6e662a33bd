"""``python -m blockqueue`` is the command line."""

from blockqueue.api.cli import main

main(prog_name="blockqueue")
