#!/usr/bin/env python3
"""Look at a subscriber's retries and dead letters, and replay or drop them.

    scripts/replay_retries.py cart counter --db queue.db
    scripts/replay_retries.py cart counter --state dead --error timeout --newer-than 2h
    scripts/replay_retries.py cart counter --state dead --replay --rate 50
    scripts/replay_retries.py cart counter --id 00000000-… --drop --dry-run

Safe while a server runs on the same file. It is `blockqueue retries` for a checkout: run it
with a Python that has blockqueue, as `.venv/bin/python scripts/replay_retries.py`.
"""

from blockqueue.api.cli_retries import retries

if __name__ == "__main__":
    retries(prog_name="replay_retries.py", auto_envvar_prefix="BLOCKQUEUE")
