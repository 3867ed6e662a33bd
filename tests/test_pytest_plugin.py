"""The pytest plugin, in a pytest run of its own as its users have it."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from .http_server import child_environment

# A bare checkout has no entry points: there the plugin is named.
_INSTALLED = importlib.metadata.entry_points(group="pytest11", name="blockqueue")
_NAMED = [] if _INSTALLED else ["-p", "blockqueue.testing"]


def run(folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    """Run ``program`` as a test file, with warnings as errors."""
    (folder / "test_it.py").write_text(textwrap.dedent(program))
    command = [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, *_NAMED, "--basetemp", str(folder / "temporary"), "test_it.py"],
        cwd=folder,
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_each_test_has_a_queue_and_a_clock_of_its_own(tmp_path: Path) -> None:
    """Time passes when the test says so; what one test wrote the next one does not see."""
    done = run(
        tmp_path,
        """
        import pytest
        from blockqueue import Subscriber

        @pytest.mark.parametrize("number", [1, 2])
        def test_a_retry(blockqueue_queue, blockqueue_clock, number):
            assert blockqueue_queue.topics() == []
            blockqueue_queue.create_topic("orders", [Subscriber("mail", retry_jitter=0)])
            blockqueue_queue.publish("orders", "42")
            (delivery,) = blockqueue_queue.claim("orders", "mail")
            delivery.nack(error="the mail server is away")
            blockqueue_clock.advance(999)
            assert blockqueue_queue.claim("orders", "mail") == []
            blockqueue_clock.advance(1)
            (again,) = blockqueue_queue.claim("orders", "mail")
            assert again.failure_count == 1
        """,
    )

    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


def test_a_lease_runs_out_by_the_clock(tmp_path: Path) -> None:
    """Who waits gets the message as soon as the clock has passed its lease and its delay."""
    done = run(
        tmp_path,
        """
        from blockqueue import Subscriber

        def test_it(blockqueue_queue, blockqueue_clock):
            blockqueue_queue.create_topic("orders", [Subscriber("mail", retry_initial=0)])
            blockqueue_queue.publish("orders", "42")
            blockqueue_queue.claim("orders", "mail", lease="1h")
            blockqueue_clock.advance(3_600_000)
            (again,) = blockqueue_queue.claim("orders", "mail", wait=1)
            assert again.delivery_count == 2
        """,
    )

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("fails", [False, True])
def test_the_queue_is_closed_after_the_test(tmp_path: Path, fails: bool) -> None:
    """However the test ended, nothing of it runs on."""
    done = run(
        tmp_path,
        f"""
        import pytest
        from blockqueue import QueueClosed

        kept = []

        def test_first(blockqueue_queue):
            kept.append(blockqueue_queue)
            assert not {fails}

        def test_second():
            with pytest.raises(QueueClosed):
                kept[0].topics()
        """,
    )

    assert ("1 failed, 1 passed" if fails else "2 passed") in done.stdout
