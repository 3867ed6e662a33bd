"""A report each night at three, by the clocks of Berlin, once however many processes run.

    python examples/nightly.py         # in as many terminals as you like
    python examples/nightly.py --now   # a report now, besides

A night on which nothing ran is made up for when something runs again. A report is tried five times.
If it is not finished by the next night, that night's is left out.
"""

from __future__ import annotations

import argparse
import contextlib
from datetime import datetime

from blockqueue import AlreadyExists, BlockQueue, Job, ScheduleSpec, Subscriber, Worker

_NIGHTLY = ScheduleSpec("nightly", "0 3 * * *", "sales", timezone="Europe/Berlin")


def set_up(queue: BlockQueue) -> None:
    """Make the topic, its subscriber and the schedule, if they are not there."""
    with contextlib.suppress(AlreadyExists):
        queue.create_topic("reports", [Subscriber("writer", max_attempts=5)])
    with contextlib.suppress(AlreadyExists):
        queue.schedules("reports").create(_NIGHTLY)


def run_now(queue: BlockQueue) -> None:
    """Ask for a report now. The next night's comes all the same."""
    schedules = queue.schedules("reports")
    (nightly,) = schedules.page().items
    schedules.run_now(nightly.uid, force=True)


def write(kind: str, job: Job) -> None:
    """Write the report, in place of one that an earlier try has left unfinished."""
    day = job.created_at.date()
    with open(f"{kind}-{day}.txt", "w", encoding="utf-8") as file:
        file.write(f"The report on {kind} of {day}, written at {datetime.now():%H:%M}.\n")
    print("wrote", file.name, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a report each night.")
    parser.add_argument("--db", default="nightly.db")
    parser.add_argument("--now", action="store_true", help="ask for a report now, and end")
    arguments = parser.parse_args()

    with BlockQueue(arguments.db) as queue:
        set_up(queue)
        if arguments.now:
            run_now(queue)
        else:
            Worker(queue, "reports", "writer", write).run()


if __name__ == "__main__":
    main()
