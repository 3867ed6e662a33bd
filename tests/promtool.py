"""Prometheus's own checker of rules, where it is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def promtool() -> str:
    """Return its path. Where it must not be missing, the environment says so."""
    found = shutil.which("promtool")
    if found is None:
        assert not os.environ.get("BLOCKQUEUE_NEEDS_PROMTOOL"), "there is no promtool"
        pytest.skip("no promtool here")
    return found


def run(promtool: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it in a folder, whose files it is to find."""
    command = [promtool, *arguments]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
