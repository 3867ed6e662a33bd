"""The reference says what the code says."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .http_server import child_environment

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "docs/reference"


def check(folder: Path) -> subprocess.CompletedProcess[str]:
    script = str(ROOT / "scripts/make_reference.py")
    return subprocess.run(
        [sys.executable, script, "--check", "--folder", str(folder)],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_it_is_current() -> None:
    """If not: `python scripts/make_reference.py`, and commit what it has written."""
    done = check(PAGES)

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", ["http.md", "python.md"])
def test_a_page_that_is_old_is_noticed(page: str, tmp_path: Path) -> None:
    """The control: one line is not as the code has it."""
    shutil.copytree(PAGES, tmp_path / "pages")
    old = tmp_path / "pages" / page
    old.write_text(old.read_text().replace("Publish one message", "Publish a message", 1) + "\n")

    done = check(tmp_path / "pages")

    assert done.returncode == 1
    assert f"not current: {page}" in done.stderr
