#!/usr/bin/env python3
"""Break the queue in every way we know, and prove that it keeps its promises.

    scripts/faults.py                                  every fault, a small budget
    scripts/faults.py --only T1 --cycles 200 --seed 7
    scripts/faults.py --full --control --json report.json
    scripts/faults.py --markdown report.json

Each fault of the matrix in docs/reliability.md is a module in tests/faults. Exits 1 when
something that must hold did not, or when a control (the same fault against a build that is
broken on purpose) was not noticed. What this machine cannot run is reported as not run.

Run it with a Python that has blockqueue, as `.venv/bin/python scripts/faults.py`.
"""

from __future__ import annotations

import datetime
import secrets
import shlex
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

import click
import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.faults.case import Budget, Fault, Result, telling
from tests.faults.registry import ALL
from tests.faults.report import Outcome, Report, lines, markdown


def say(text: str) -> None:
    """Tell how far a fault is."""
    click.echo(f"     {text}", err=True)


def attempt(fault: Fault, budget: Budget, folder: Path, seed: int) -> Result:
    """Run a fault."""
    folder.mkdir(parents=True)
    try:
        return fault.run(budget, folder, seed, say)
    except Exception:
        return Result(problems=[f"it broke off: {traceback.format_exc()}"])


def attempt_control(fault: Fault, folder: Path, seed: int) -> Result:
    """Run a fault's control. What else went wrong is no proof that it was noticed."""
    folder.mkdir(parents=True)
    try:
        result = fault.control(folder, seed, say)
    except Exception:
        say(f"the control broke off: {traceback.format_exc()}")
        return Result()
    noticed = telling(fault.tells, result.problems)
    for problem in [] if noticed else result.problems:
        say(f"the control met something else: {problem}")
    result.problems = noticed
    return result


def examine(fault: Fault, budget: Budget, folder: Path, seed: int, *, control: bool) -> Outcome:
    """Run one fault, and its control if that is asked for."""
    outcome = Outcome(fault.id, fault.title, missing=fault.missing())
    if outcome.missing is not None:
        return outcome
    started = time.monotonic()
    outcome.result = attempt(fault, budget, folder / "run", seed)
    if control:
        outcome.control = attempt_control(fault, folder / "control", seed)
    outcome.seconds = time.monotonic() - started
    return outcome


def show_markdown(context: click.Context, parameter: click.Parameter, path: str | None) -> None:
    """Print the table of a report, and nothing else."""
    if path is not None:
        report = msgspec.json.decode(Path(path).read_bytes(), type=Report)
        click.echo(markdown(report), nl=False)
        context.exit()


@click.command()
@click.option(
    "--only",
    multiple=True,
    type=click.Choice([each.id for each in ALL], case_sensitive=False),
    help="Only this fault; may be repeated.  [default: all]",
)
@click.option("--full", is_flag=True, help="As many cycles as for the published figures.")
@click.option("--cycles", type=click.IntRange(1), help="So many cycles of each, instead.")
@click.option("--seed", type=int, help="Repeats the same run.  [default: random]")
@click.option("--control", is_flag=True, help="Also run each against a build that is broken.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False), help="Write a report there.")
@click.option("--folder", type=click.Path(file_okay=False), help="Keep databases and logs there.")
@click.option(
    "--markdown",
    type=click.Path(exists=True, dir_okay=False),
    callback=show_markdown,
    is_eager=True,
    expose_value=False,
    help="Only print the table of a report that was written with --json.",
)
def main(
    only: tuple[str, ...],
    full: bool,
    cycles: int | None,
    seed: int | None,
    control: bool,
    json_path: str | None,
    folder: str | None,
) -> None:
    """Break the queue in every way we know, and prove that it keeps its promises."""
    if seed is None:
        seed = secrets.randbelow(2**31)
    where = Path(folder or tempfile.mkdtemp(prefix="blockqueue-faults-"))
    click.echo(f"seed {seed}, in {where}")
    command = f"scripts/faults.py {shlex.join(sys.argv[1:])}"
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    report = Report(seed, date, command)
    for fault in ALL:
        if only and fault.id not in only:
            continue
        budget = Budget(cycles or (fault.night if full else fault.ci), full)
        outcome = examine(fault, budget, where / fault.id, seed, control=control)
        report.outcomes.append(outcome)
        click.echo("\n".join(lines(outcome)))
        if json_path is not None:  # after each: a long run that is broken off leaves a report
            found = msgspec.json.format(msgspec.json.encode(report))
            Path(json_path).write_bytes(found + b"\n")
    if report.is_good and folder is None:
        shutil.rmtree(where)
    sys.exit(0 if report.is_good else 1)


if __name__ == "__main__":
    main()
