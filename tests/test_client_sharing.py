"""One client for many threads, for a forked child, and with a token."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from blockqueue import (
    AlreadyExists,
    CommitUnknown,
    Forbidden,
    RateLimited,
    Unauthorized,
    ValidationError,
)
from blockqueue.client import Client

from .auth_helpers import make
from .client_faces import Open
from .client_fixtures import client, opening, proxy, server, topic
from .client_proxy import PROBLEM, Proxy
from .http_server import PATIENCE_S, Server, child_environment, serving

__all__ = ["client", "opening", "proxy", "server", "topic"]

_FORKING = """
import os, sys
from blockqueue.client import Client
{broken}
client = Client(sys.argv[1], timeout=5)
client.publish("cart", "before")  # there is a connection now
child = os.fork()
name = "parent" if child else "child"
for number in range(50):
    text = f"{{name}}-{{number}}"
    receipt = client.publish("cart", text)
    assert client.message("cart", receipt.id).message == text, "another's answer"
if child:
    _, status = os.waitpid(child, 0)
    sys.exit(os.waitstatus_to_exitcode(status))
os._exit(0)
"""
_CLOSING = """
import os, sys, threading
from blockqueue.client import Client
{broken}
client, found = Client(sys.argv[1], timeout=5), []
poll = threading.Thread(target=lambda: found.extend(client.claim("cart", "worker", wait=30)))
poll.start()
while not client._sockets:
    poll.join(0.01)
if not os.fork():
    client.close()
    os._exit(0)
os.wait()
with Client(sys.argv[1]) as other:
    other.publish("cart", "hi")
poll.join(30)
assert [each.message for each in found] == ["hi"]
"""
# What a client does that does not know of forks.
_UNAWARE = "os.getpid = lambda: 1"


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path / "queue.db") as running:
        yield running


def fork(server: Server, broken: str = "", text: str = _FORKING) -> int:
    """Let a process and its forked child use one client; return how that ended."""
    url = f"http://127.0.0.1:{server.port}"
    with Client(url) as client, contextlib.suppress(AlreadyExists):
        client.create_topic("cart", ["worker"])
    script = text.format(broken=broken)
    return subprocess.run(
        [sys.executable, "-c", script, url],
        env=child_environment(),
        stderr=subprocess.DEVNULL,
        timeout=PATIENCE_S * 2,
    ).returncode


def test_a_forked_child_has_connections_of_its_own(other: Server) -> None:
    assert fork(other) == 0
    with Client(f"http://127.0.0.1:{other.port}") as client:
        texts = [each.message for each in client.active("cart", "worker")]
    assert len(texts) == len(set(texts)) == 101


def test_control_a_child_on_its_parents_connection_is_noticed(other: Server) -> None:
    """One of the two takes the other's answer: sooner or later, as they meet by chance."""
    assert any(fork(other, _UNAWARE) != 0 for _ in range(5))


@pytest.mark.parametrize("broken", ["", _UNAWARE])
def test_a_forked_child_that_closes_its_client_does_not_end_its_parents_polls(
    other: Server, broken: str
) -> None:
    """The connections are the parent's. One that does not know of forks, as a control, does."""
    assert (fork(other, broken, _CLOSING) == 0) is (broken == "")


def test_threads_share_a_client(server: Server) -> None:
    """Also while some of them wait for messages."""
    url = f"http://127.0.0.1:{server.port}"
    with Client(url) as client, ThreadPoolExecutor(24) as pool:
        client.create_topic("shared", ["worker", "idle"])
        polls = [pool.submit(client.claim, "shared", "worker", limit=1, wait=20) for _ in range(16)]
        texts = [f"m{number}" for number in range(16)]
        list(pool.map(lambda text: client.publish("shared", text), texts))
        claimed = [poll.result(PATIENCE_S) for poll in polls]
        assert sorted(each.message for (each,) in claimed) == sorted(texts)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, dict[str, str]]]:
    """A server that wants tokens, with a topic, and the secrets of its tokens by name."""
    db = tmp_path_factory.mktemp("guarded") / "queue.db"
    with serving(db) as running, Client(f"http://127.0.0.1:{running.port}") as client:
        client.create_topic("cart", ["worker"])
    secrets = {
        "all": make(db, "all", "publish:*", "consume:*", "manage:*", "observe:*").secret,
        "publisher": make(db, "publisher", "publish:cart").secret,
    }
    with serving(db) as running:
        yield running, secrets


def test_a_token_opens_what_its_scopes_allow(
    guarded: tuple[Server, dict[str, str]], opening: Open
) -> None:
    server, secrets = guarded
    url = f"http://127.0.0.1:{server.port}"
    with opening(url) as nobody, pytest.raises(Unauthorized, match="token"):
        nobody.publish("cart", "hi")
    with opening(url, token="bq_no_such") as stranger, pytest.raises(Unauthorized):
        stranger.publish("cart", "hi")
    with opening(url, token=secrets["publisher"]) as publisher:
        publisher.publish("cart", "hi")
        with pytest.raises(Forbidden, match="consume"):
            publisher.claim("cart", "worker")
    with opening(url, token=secrets["all"]) as anybody:
        for delivery in anybody.consume("cart", "worker", stop_when_paused=True):
            delivery.ack()
            anybody.pause("cart")


def test_a_token_is_not_shown(opening: Open) -> None:
    with opening("http://localhost", token="secret") as client:
        assert "secret" not in repr(client)
    with pytest.raises(ValidationError) as caught, opening("http://localhost", token="se cret"):
        pass
    assert "se cret" not in str(caught.value)


def test_a_token_that_asks_too_often_is_told_to_wait(opening: Open, proxy: Proxy) -> None:
    body = '{"code": "rate_limited", "detail": "too often"}'
    proxy.answer("/v1/topics", 429, body, PROBLEM | {"Retry-After": "60"})
    with opening(proxy.url, timeout=5) as client, pytest.raises(RateLimited) as caught:
        client.topics()
    assert caught.value.retry_after == 60


def test_the_server_is_not_loaded_with_the_client() -> None:
    """A program that only talks to a server pays for none."""
    script = (
        "import sys, blockqueue.client\n"
        "print([each for each in ('falcon', 'waitress', 'click', 'tqdm') if each in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    assert done.stdout == "[]\n"


def test_the_ids_of_an_unknown_commit_are_told(opening: Open, proxy: Proxy) -> None:
    body = '{"code": "service_unavailable", "detail": "the disk", "message_ids": ["a", "b"]}'
    headers = PROBLEM | {"X-BlockQueue-Error": "CommitUnknown", "Retry-After": "9"}
    proxy.answer("/v1/topics", 503, body, headers)
    with opening(proxy.url, timeout=1) as client, pytest.raises(CommitUnknown) as caught:
        client.topics()
    assert caught.value.ids == ("a", "b")
