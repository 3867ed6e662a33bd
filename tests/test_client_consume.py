"""A client's loop over messages: it goes on whatever the server does, and is never in a hurry."""

from __future__ import annotations

import json
import signal
import threading
from collections import defaultdict
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from blockqueue import LeaseLost, QueueClosed, Subscriber, SubscriberNotFound
from blockqueue.client import Client, Delivery, _rounds
from blockqueue.client._rounds import Rounds

from .client_faces import Open
from .client_fixtures import client, opening, proxy, server, through, topic
from .client_proxy import JSON, Proxy
from .crash_server import free_port
from .http_server import PATIENCE_S, serving, until

__all__ = ["client", "opening", "proxy", "server", "through", "topic"]

CLAIM = "/claim?"
EMPTY = json.dumps({"data": []})


def take(client: Client, topic: str, count: int, **options: object) -> list[Delivery]:
    """Return the next messages of a consumer, acknowledged."""
    taken: list[Delivery] = []
    for delivery in client.consume(topic, "worker", **options):  # type: ignore[arg-type]
        delivery.ack()
        taken.append(delivery)
        if len(taken) == count:
            break
    return taken


def test_messages_come_as_they_are_published(client: Client, topic: str) -> None:
    client.publish_many(topic, ["a", "b", "c"])
    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(take, client, topic, 5, limit=2)
        client.publish(topic, "d")
        client.publish(topic, "e")
        assert [each.message for each in taken.result(PATIENCE_S)] == ["a", "b", "c", "d", "e"]


def test_what_was_not_looked_at_is_given_back(client: Client, topic: str) -> None:
    """At once, and without a failure, when the loop is left."""
    client.publish_many(topic, ["a", "b", "c"])
    (taken,) = take(client, topic, 1)
    assert taken.message == "a"
    assert [(each.message, each.status) for each in client.active(topic, "worker")] == [
        ("c", "pending"),
        ("b", "pending"),
    ]
    again = client.claim(topic, "worker", wait=5)
    assert {(each.message, each.failure_count) for each in again} == {("b", 0), ("c", 0)}


def test_a_loop_ends_when_it_is_told_to(client: Client, topic: str) -> None:
    client.publish_many(topic, ["a", "b"])
    stop = threading.Event()
    seen: list[str] = []
    for delivery in client.consume(topic, "worker", stop=stop):
        delivery.ack()
        seen.append(delivery.message)
        stop.set()
    assert seen == ["a"]
    assert list(client.consume(topic, "worker", stop=stop)) == []


def test_a_loop_ends_at_a_pause_if_it_should(client: Client, topic: str) -> None:
    client.pause(topic, "worker")
    assert list(client.consume(topic, "worker", stop_when_paused=True)) == []


def test_a_loop_waits_for_the_end_of_a_pause(
    client: Client, through: Client, proxy: Proxy, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_rounds, "_PAUSED_S", 0.01)
    client.pause(topic)
    client.publish(topic, "hi")
    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(take, through, topic, 1)
        proxy.wait_for(CLAIM, 3)
        client.resume(topic)
        assert [each.message for each in taken.result(PATIENCE_S)] == ["hi"]


def test_a_loop_ends_with_its_subscriber(client: Client, topic: str) -> None:
    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(take, client, topic, 1)
        client.delete_subscriber(topic, "worker")
        with pytest.raises(SubscriberNotFound):
            taken.result(PATIENCE_S)


def test_a_loop_goes_on_after_a_lost_answer(
    client: Client, through: Client, proxy: Proxy, topic: str
) -> None:
    """What the answer held comes again, when its lease has run out."""
    client.add_subscribers(topic, [Subscriber("quick", visibility="50ms", retry_initial=0)])
    client.publish(topic, "hi")
    proxy.lose_answers(CLAIM)
    for delivery in through.consume(topic, "quick"):
        assert (delivery.message, delivery.failure_count) == ("hi", 1)
        break


def test_a_loop_is_not_in_a_hurry_when_answers_are_empty_at_once(
    through: Client, proxy: Proxy, topic: str, client: Client
) -> None:
    """As those of a server that is stopping are."""
    proxy.answer(CLAIM, 200, EMPTY, JSON, times=4)
    client.publish(topic, "hi")
    assert [each.message for each in take(through, topic, 1)] == ["hi"]
    times = proxy.times(CLAIM)
    assert len(times) == 5
    # Half of 0.1, 0.2, 0.4 and 0.8 s at least.
    assert times[-1] - times[0] >= 0.75


def test_control_a_wait_that_was_used_is_followed_by_the_next() -> None:
    rounds = Rounds("10s", False)
    assert rounds.claimed(0, 10.0) == 0
    assert rounds.claimed(3, 0.0) == 0
    pauses = [rounds.claimed(0, 0.0) for _ in range(20)]
    assert 0.05 <= pauses[0] <= 0.1
    assert 2.5 <= pauses[-1] <= 5
    assert Rounds(0, False).claimed(0, 0.0) > 0


def test_closing_the_client_ends_its_loops(proxy: Proxy, topic: str) -> None:
    proxy.answer(CLAIM, 200, EMPTY, JSON, times=99)
    consuming = Client(proxy.url)
    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(take, consuming, topic, 1)
        proxy.wait_for(CLAIM, 3)
        consuming.close()
        with pytest.raises(QueueClosed):
            taken.result(PATIENCE_S)


class Working:
    """A publisher and a consumer, each in a thread with a client of its own."""

    def __init__(self, url: str, opening: Open, count: int) -> None:
        self._url, self._opening, self._count = url, opening, count
        #: The ids that each text came with.
        self.consumed: dict[str, set[str]] = defaultdict(set)
        self.published: dict[str, str] = {}

    def publish(self) -> None:
        with self._opening(self._url, timeout=PATIENCE_S) as client:
            for number in range(self._count):
                text = f"m{number}"
                self.published[text] = client.publish("cart", text).id

    def consume(self) -> None:
        with self._opening(self._url, timeout=PATIENCE_S) as client:
            for delivery in client.consume("cart", "worker", limit=3, lease="1s", wait="2s"):
                self.consumed[delivery.message].add(delivery.id)
                try:
                    delivery.ack()
                except LeaseLost:
                    continue
                if len(self.consumed) == self._count:
                    return


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_that_is_restarted_is_ridden_out(
    tmp_path: Path, opening: Open, how: signal.Signals
) -> None:
    """Killed three times under a publisher and a consumer: each message is there, once."""
    count, port = 120, free_port()
    working = Working(f"http://127.0.0.1:{port}", opening, count)
    with ThreadPoolExecutor(2) as pool:
        tasks: list[Future[None]] = []
        for life in range(4):
            with serving(tmp_path / "queue.db", "--port", str(port)) as server:
                if life == 0:
                    _create(port)
                    tasks = [pool.submit(working.publish), pool.submit(working.consume)]
                if life < 3:
                    goal = (life + 1) * count // 4
                    until(partial(_reached, working, tasks, goal), "it goes on")
                    server.signal(how)
                    server.wait()
                else:
                    for task in tasks:
                        task.result(PATIENCE_S)
    assert set(working.consumed) == set(working.published)
    assert len(working.published) == count
    # One id each, and that which its publisher was told: none was published twice.
    assert {text: {id} for text, id in working.published.items()} == working.consumed


def _create(port: int) -> None:
    with Client(f"http://127.0.0.1:{port}") as client:
        client.create_topic("cart", [Subscriber("worker", max_attempts=50, retry_initial="10ms")])


def _reached(working: Working, tasks: list[Future[None]], goal: int) -> bool:
    for task in tasks:
        if task.done():
            task.result()
    return len(working.consumed) >= goal
