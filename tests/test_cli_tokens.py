"""Commands on a server that wants a token."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .cli_helpers import Shell
from .http_server import serving


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Shell]:
    """A shell on a server; the file ``token`` has a token that may publish to ``orders``."""
    local = Shell(tmp_path)
    local.ok("topic", "create", "orders", "--subscriber", "worker")
    secret = local.ok("token", "create", "shop", "--scope", "publish:orders")
    (tmp_path / "token").write_text(secret)
    with serving(tmp_path / "queue.db") as server:
        yield Shell(tmp_path, url=f"http://127.0.0.1:{server.port}")


def test_the_token_comes_from_a_file_or_the_environment(guarded: Shell) -> None:
    file = guarded.folder / "token"
    assert guarded.ok("publish", "orders", "x", "--token-file", str(file))
    guarded.env["BLOCKQUEUE_TOKEN"] = file.read_text().strip()
    assert guarded.ok("publish", "orders", "x")


def test_who_has_no_token_is_told_so(guarded: Shell) -> None:
    said = guarded.fails(1, "publish", "orders", "x")
    assert "token" in said
    assert "cannot read the token" in guarded.fails(
        2, "publish", "orders", "x", "--token-file", "missing"
    )


def test_who_may_not_list_topics_is_still_told_what_is_wrong(guarded: Shell) -> None:
    """Naming the nearest topic would take a scope that the token has not."""
    guarded.env["BLOCKQUEUE_TOKEN_FILE"] = str(guarded.folder / "token")
    assert "'other'" in guarded.fails(3, "publish", "other", "x")
    guarded.fails(1, "topic", "pause", "orders")
