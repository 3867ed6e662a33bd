"""How the random walks are run: to agree with the model, or to catch a storage that is broken."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from .storage_machine import StorageMachine

Break = Callable[[pytest.MonkeyPatch], None]

# BLOCKQUEUE_MODEL_EXAMPLES=5000 walks for as long as somebody cares to wait.
ENDLESS = "BLOCKQUEUE_MODEL_EXAMPLES" in os.environ
EXAMPLES = int(os.environ.get("BLOCKQUEUE_MODEL_EXAMPLES", 2 * settings().max_examples))

WALKS = settings(
    max_examples=EXAMPLES,
    stateful_step_count=40,
    # A walk is slow and draws much; that is what it is for.
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

# The same walks each time, no shrinking, nothing remembered: only whether it fails counts.
CONTROL = settings(
    WALKS,
    max_examples=1_000,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    report_multiple_bugs=False,
)


def check_that_walks_catch(breaks: Break, patch: pytest.MonkeyPatch) -> None:
    """A test that cannot fail proves nothing: the fault must make it fail."""
    breaks(patch)

    with pytest.raises(AssertionError):
        run_state_machine_as_test(StorageMachine, settings=CONTROL)
