"""The campaign of broken requests works, and would notice what it looks for."""

from __future__ import annotations

import importlib
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .http_server import child_environment

SCRIPT = Path(__file__).resolve().parent.parent / "scripts/fuzz_http.py"

# The tests also run where only the packages are.
pytestmark = pytest.mark.skipif(not SCRIPT.is_file(), reason="no scripts here")


@pytest.fixture
def campaign(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(SCRIPT.parent)
    return importlib.import_module("fuzz_http")


@pytest.mark.slow
def test_two_thousand_broken_requests_do_no_harm() -> None:
    """Each time the same ones; scripts/fuzz_http.py sends more."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--requests", "2000", "--seed", "1"],
        env=child_environment(),
        capture_output=True,
        timeout=110,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr[-2_000:]
    report = json.loads(done.stdout)
    assert report["wrong"] == []
    assert report["answers"]["400"] > 100


def test_a_seed_gives_the_same_requests_again(campaign: Any) -> None:
    """A red run can be run again."""
    one, other = ([campaign.mutant(random.Random(7)) for _ in range(3)] for _ in range(2))

    assert one == other


def test_a_5xx_would_be_noticed(campaign: Any) -> None:
    """Also behind other answers; text that only looks like one is none."""
    assert campaign.statuses(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 500 Oh\r\n\r\n") == [100, 500]
    assert campaign.statuses(b'{"error":"HTTP/1.1 wants a Host"}') == []


def test_a_leak_would_be_noticed(campaign: Any) -> None:
    """Of descriptors, files, threads and memory."""
    before = {"descriptors": 7, "files": 9, "threads": 22, "memory_mb": 50.0}
    assert campaign.compare(before, before) == []

    for what, much in {"descriptors": 8, "files": 99, "threads": 23, "memory_mb": 70.0}.items():
        (told,) = campaign.compare(before, {**before, what: much})
        assert str(much) in told
