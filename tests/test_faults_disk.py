"""Disks that fail: what was answered is there, and each broken build is noticed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from .faults.case import Budget, Fault, telling
from .faults.registry import DISK
from .faults.traced_files import Files, Op

SEED = 4
# A fault that meets a broken disk may have to wait for a server's end.
TIMEOUT_S = 240


def name_of(fault: Fault) -> str:
    return fault.id


def skip_if_missing(fault: Fault) -> None:
    missing = fault.missing()
    if missing is not None:
        pytest.skip(f"{fault.id} was not run: {missing}")


def nothing(text: str) -> None:
    pass


@pytest.mark.slow
@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize("fault", DISK, ids=name_of)
def test_it_holds(fault: Fault, tmp_path: Path) -> None:
    skip_if_missing(fault)

    result = fault.run(Budget(max(1, fault.ci // 2)), tmp_path, SEED, nothing)

    assert result.problems == []


@pytest.mark.slow
@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize("fault", DISK, ids=name_of)
def test_its_control_is_noticed(fault: Fault, tmp_path: Path) -> None:
    skip_if_missing(fault)

    problems = fault.control(tmp_path, SEED, nothing).problems
    assert telling(fault.tells, problems), problems


# The files that are rebuilt from a trace.


def files_after(*ops: Op) -> Files:
    files = Files(Path("/d"))
    for op in ops:
        files.apply(op)
    return files


def test_what_was_not_synced_may_be_missing() -> None:
    files = files_after(Op("create", "/d/a"), Op("pwrite64", "/d/a", b"xy", 1))
    assert files.everything() == {"a": b"\0xy"}
    assert files.synced_only() == {}

    files.apply(Op("fdatasync", "/d/a"))
    files.apply(Op("ftruncate", "/d/a", place=2))
    assert files.everything() == {"a": b"\0x"}
    assert files.synced_only() == {"a": b"\0xy"}


def test_a_removed_file_may_come_back_until_its_directory_is_synced() -> None:
    ops = [Op("create", "/d/a"), Op("fsync", "/d/a"), Op("unlink", "/d/a")]
    files = files_after(*ops)
    assert files.everything() == {}
    assert files.synced_only() == {"a": b""}

    files.apply(Op("fsync", "/d"))
    assert files.synced_only() == {}


def test_sectors_are_written_whole_or_not_at_all() -> None:
    data = b"a" * 512 + b"b" * 512
    files = files_after(Op("create", "/d/a"), Op("pwrite64", "/d/a", data))

    states = {files.some(random.Random(seed))["a"] for seed in range(50)}

    assert states == {b"", data[:512], bytes(512) + data[512:], data}
