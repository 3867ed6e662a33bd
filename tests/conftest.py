"""Let a bare checkout, whatever its directory is called, import as blockqueue."""

import importlib.util
import os
import sys
from pathlib import Path

from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

if importlib.util.find_spec("blockqueue") is None:
    spec = importlib.util.spec_from_file_location(
        "blockqueue",
        ROOT / "api/facade/__init__.py",
        submodule_search_locations=[str(ROOT), str(ROOT / "api")],
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules["blockqueue"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

# No deadlines: how long an example takes is the machine's affair, and a slow disk is no bug.
# CI looks at more examples, the same ones each time, so that a red run can be run again.
settings.register_profile("dev", max_examples=50, deadline=None)
settings.register_profile("ci", max_examples=200, deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

if __package__:  # and not a test's child process, which imports this for the alias alone
    from .embedded_fixtures import clock, opened, queue
    from .ui_fixtures import chromium, needs_browser  # here, so that all modules share them

    __all__ = ["chromium", "clock", "needs_browser", "opened", "queue"]
