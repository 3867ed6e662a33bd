#!/usr/bin/env python3
"""Kill the server under load, again and again, and prove that nothing was lost.

    scripts/crash.py --cycles 200
    scripts/crash.py --cycles 20 --seed 7 --json report.json
    scripts/crash.py --cycles 3 --control

Each cycle starts `blockqueue serve`, lets clients publish, read and acknowledge over HTTP,
and kills it with SIGKILL after 50 to 1500 ms. At the end the queue is drained and what the
clients saw is checked: see tests/crash_checker.py. Exits 1 on any violation. With --control
the server is broken on purpose, and it exits 1 if that was *not* noticed.

Run it with a Python that has blockqueue, as `.venv/bin/python scripts/crash.py`.
"""

from __future__ import annotations

import secrets
import shutil
import sys
import tempfile
from pathlib import Path

import click
import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.crash_campaign import Plan, Report, run
from tests.crash_checker import Kind


def table(report: Report) -> list[tuple[str, str]]:
    """Return the report as names and figures."""
    verdict = report.verdict
    assert verdict is not None
    return [
        ("cycles", f"{report.kills}"),
        ("published", f"{verdict.published}"),
        ("publish unknown", f"{verdict.unknown}, of which {verdict.recovered} came out"),
        ("delivered", f"{verdict.received}"),
        ("acknowledged", f"{verdict.acked}"),
        ("redelivered, explained", f"{verdict.redelivered}"),
        ("lost", f"{report.count(Kind.LOST)}"),
        ("unexpected", f"{report.count(Kind.UNEXPECTED, Kind.COPIED)}"),
        ("unexplained duplicates", f"{report.count(Kind.UNEXPLAINED)}"),
        ("two live leases", f"{report.count(Kind.TWO_LEASES)}"),
        ("returned after ack", f"{report.count(Kind.RETURNED)}"),
        ("acks refused", f"{report.count(Kind.REFUSED_ACK)}"),
        ("slowest ready", f"{report.slowest_ready_s:.2f} s"),
        ("slowest drain", f"{report.slowest_drain_s:.2f} s"),
        ("time", f"{report.seconds:.0f} s"),
    ]


def conclude(report: Report) -> bool:
    """Say what it means; return whether it is as it should be."""
    for line in report.shown():
        click.echo(f"  {line}")
    if report.plan.control:
        caught = report.count(Kind.LOST) > 0
        click.echo("the control was caught" if caught else "THE CONTROL WAS NOT CAUGHT")
        return caught
    if report.is_clean:
        bound = min(1.0, 3 / max(1, report.kills))
        click.echo(f"clean: a kill goes wrong at most {bound:.2%} of the time (95 %)")
    return report.is_clean


def save(report: Report, path: str) -> None:
    """Write the report as JSON."""
    found = msgspec.to_builtins(report)
    found["clean"] = report.is_clean
    found["violations"] = {str(kind): report.count(kind) for kind in Kind}
    found["shown"] = report.shown()
    found["verdict"].pop("violations")
    Path(path).write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")


@click.command()
@click.option("--cycles", default=20, show_default=True, type=click.IntRange(1))
@click.option("--seed", type=int, help="Repeats the same kill times.  [default: random]")
@click.option("--publishers", default=8, show_default=True, type=click.IntRange(1))
@click.option("--consumers", default=8, show_default=True, type=click.IntRange(2))
@click.option("--control", is_flag=True, help="Use a server that answers before the commit.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False), help="Write a report there.")
@click.option("--folder", type=click.Path(file_okay=False), help="Keep database and journal there.")
def main(
    cycles: int,
    seed: int | None,
    publishers: int,
    consumers: int,
    control: bool,
    json_path: str | None,
    folder: str | None,
) -> None:
    """Kill the server under load, again and again, and prove that nothing was lost."""
    if seed is None:
        seed = secrets.randbelow(2**31)
    plan = Plan(cycles, seed, publishers, consumers, control)
    where = Path(folder or tempfile.mkdtemp(prefix="blockqueue-crash-"))
    where.mkdir(parents=True, exist_ok=True)
    click.echo(f"seed {seed}, in {where}")
    report = run(plan, where, say=click.echo)
    for name, figure in table(report):
        click.echo(f"{name:24}{figure}")
    if json_path is not None:
        save(report, json_path)
    good = conclude(report)
    if good and folder is None:
        shutil.rmtree(where)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
