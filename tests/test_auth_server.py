"""Tokens and real servers: where they listen, and how soon a revoked token is worthless."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .auth_helpers import Caller, call, make, revoke
from .http_server import PATIENCE_S, Server, refused, serving, until

# What is promised. The rest of a second is for a busy machine.
REVOKED_S = 1.0
CONSUMER = "/v1/topics/cart/subscribers/worker"
CLAIM = f"{CONSUMER}/claim?timeout=30s"
CART = {"name": "cart", "subscribers": [{"name": "worker"}]}


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "queue.db"


# Where a server listens.


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
def test_a_server_does_not_listen_where_anybody_could_do_anything(db: Path, host: str) -> None:
    """One line that says what to do; and it did not listen for a moment."""
    line = refused(db, "--host", host)
    for remedy in ("blockqueue token create", "--auth required", "--insecure-no-auth"):
        assert remedy in line


def test_several_workers_do_not_either(db: Path) -> None:
    assert "blockqueue token create" in refused(db, "--host", "0.0.0.0", "--workers", "2")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.2"])
def test_on_the_loopback_address_nobody_needs_a_token_at_first(db: Path, host: str) -> None:
    with serving(db, "--host", host) as server:
        assert server.line


def test_with_a_token_it_listens_anywhere(db: Path) -> None:
    """The last one's revocation does not open it again."""
    make(db, "only")
    revoke(db, "only")
    with serving(db, "--host", "0.0.0.0") as server:
        assert call(server, None, "GET", "/v1/topics").status == 401
        assert call(server, None, "GET", "/livez").status == 200


def test_a_server_can_insist_on_tokens_before_there_are_any(db: Path) -> None:
    with serving(db, "--host", "0.0.0.0", "--auth", "required") as server:
        assert call(server, None, "GET", "/v1/topics").status == 401
        secret = make(db, "first").secret
        assert call(server, secret, "GET", "/v1/topics").status == 200


def test_a_server_can_be_told_to_let_everybody_in(db: Path) -> None:
    """In so many words, and not together with the opposite."""
    make(db, "only")
    with serving(db, "--host", "0.0.0.0", "--insecure-no-auth") as server:
        assert call(server, None, "GET", "/v1/topics").status == 200
    server = Server(db, "--insecure-no-auth", "--auth", "required")
    assert server.wait() == 2
    server.close()
    assert "exclude each other" in server.errors


def test_the_first_token_closes_a_running_server(db: Path) -> None:
    """Within a second, without a restart."""
    with serving(db) as server:
        assert call(server, None, "GET", "/v1/topics").status == 200
        secret = make(db, "first").secret
        until(
            lambda: call(server, None, "GET", "/v1/topics").status == 401, "it is closed", REVOKED_S
        )
        assert call(server, secret, "GET", "/v1/topics").status == 200


# The administrator's token.


def test_an_administrators_token_comes_from_a_file(db: Path, tmp_path: Path) -> None:
    """From the environment's file; another secret in it takes its place at the next start."""
    file = tmp_path / "secret"
    old, new = "o" * 40, "n" * 40
    environment = {"BLOCKQUEUE_DB": str(db), "BLOCKQUEUE_ADMIN_TOKEN_FILE": str(file)}
    environment |= {"BLOCKQUEUE_PORT": "0"}
    for secret in (old, old, new):
        file.write_text(secret + "\n")
        with serving(None, environment=environment) as server:
            statuses = [call(server, each, "GET", "/v1/topics").status for each in (old, new)]
            assert statuses == ([200, 401] if secret == old else [401, 200])


@pytest.mark.parametrize("text", ["", "too short", "ü" * 40, None])
def test_a_bad_token_file_is_refused(db: Path, tmp_path: Path, text: str | None) -> None:
    """Its name is in the one line, and nothing of what is in it."""
    file = tmp_path / "secret"
    if text is not None:
        file.write_text(text)
    line = refused(db, "--admin-token-file", str(file))
    assert str(file) in line
    assert not text or text not in line


# Revocation.


class Publisher:
    """Publishes on its own thread as fast as it can, until it is refused."""

    def __init__(self, server: Server, secret: str) -> None:
        self._caller = Caller(server, secret)
        self._stop = threading.Event()
        self.last_success_s = 0.0
        self.successes = 0
        self.refused = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            status = self._caller.send("POST", "/topics/cart/messages", {"message": "hi"}).status
            if status == 200:
                self.last_success_s = time.monotonic()
                self.successes += 1
            elif status == 401:
                self.refused.set()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(PATIENCE_S)
        self._caller.close()


@contextmanager
def publishing(servers: list[Server], secret: str) -> Iterator[list[Publisher]]:
    publishers = [Publisher(server, secret) for server in servers for _ in range(4)]
    try:
        for each in publishers:
            until(lambda each=each: each.successes > 10, "it publishes")  # type: ignore[misc]
        yield publishers
    finally:
        for each in publishers:
            each.close()


def late_after_revocation(db: Path, servers: list[Server]) -> float:
    """Revoke a token that is in use; return how long any process still took it."""
    secret = make(db, "publisher", "publish:cart").secret
    with publishing(servers, secret) as publishers:
        revoke(db, "publisher")
        revoked_s = time.monotonic()
        for each in publishers:
            each.refused.wait(max(0.0, revoked_s + 1.5 * REVOKED_S - time.monotonic()))
        return max(each.last_success_s for each in publishers) - revoked_s


def test_a_revoked_token_is_worthless_in_every_process_within_a_second(db: Path) -> None:
    """Under load in two processes, of which neither has revoked it."""
    admin = make(db, "admin").secret
    with serving(db) as first, serving(db) as second:
        assert call(first, admin, "POST", "/topics", CART).status == 200
        assert late_after_revocation(db, [first, second]) < REVOKED_S


BELIEVES_FOR_EVER = """
from blockqueue.api import _keys
_keys._BELIEVED_S = 1e9
from blockqueue.api.cli import main
main()
"""


def test_a_process_that_never_looks_again_is_caught(db: Path) -> None:
    """The control of the test before this."""
    admin = make(db, "admin").secret
    with serving(db) as first, serving(db, launcher=BELIEVES_FOR_EVER) as second:
        assert call(first, admin, "POST", "/topics", CART).status == 200
        assert late_after_revocation(db, [first, second]) > REVOKED_S


@pytest.mark.parametrize("path", [CLAIM, "/topics/cart/subscribers/worker?timeout=30s"])
def test_a_poll_gets_nothing_once_its_token_is_revoked(db: Path, path: str) -> None:
    """It has waited since before. The message is there for others, as if not handed out."""
    admin = make(db, "admin").secret
    secret = make(db, "consumer", "consume:cart").secret
    with serving(db) as server:
        call(server, admin, "POST", "/topics", CART)
        poll = Caller(server, secret)
        poll.begin("POST" if path == CLAIM else "GET", path)
        for _ in range(3):  # then it has been read, and most likely waits
            call(server, admin, "GET", "/v1/topics")
        revoke(db, "consumer")
        until(lambda: call(server, secret, "GET", "/readyz").status == 401, "it is revoked", 2.0)
        call(server, admin, "POST", "/topics/cart/messages", {"message": "hi"})

        answer = poll.end()
        assert answer.status == 401
        assert answer.headers["Www-Authenticate"] == "Bearer"
        assert b"the token has expired or was revoked" in answer.body  # it had been admitted
        (delivery,) = call(server, admin, "POST", CLAIM).json["data"]
        assert (delivery["message"], delivery["delivery_count"]) == ("hi", 1)
        poll.close()
