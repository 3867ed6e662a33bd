"""``/metrics`` of a real server: the same from every worker, and right after one was killed."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from http.client import HTTPException
from pathlib import Path

import apsw
import pytest
from prometheus_client.parser import text_string_to_metric_families

from .embedded_helpers import background
from .http_server import PATIENCE_S, Connection, Server, create_topic, serving, until
from .worker_helpers import workers

_TOPICS = 3
_CLIENTS = 6
_CLAIMED = "/v1/topics/{}/subscribers/worker"
#: A kill takes with it what one commit has counted; each client has one request under way.
_LOST_MAX = _CLIENTS

Samples = dict[tuple[str, ...], float]


def scrape(server: Server, path: str = "/metrics") -> Samples:
    """Return what a worker tells: numbers by their names and the values of their labels."""
    answer = server.send("GET", path)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return {
        (sample.name.removeprefix("blockqueue_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }


class Clients:
    """Clients that publish, claim and settle, each on a connection, until they are stopped."""

    def __init__(self, server: Server) -> None:
        self.answered: Counter[str] = Counter()
        self._server = server
        self._lock = threading.Lock()  # guards answered
        self._stopped = threading.Event()
        self._running = [background(partial(self._work, n)) for n in range(_CLIENTS)]

    def _work(self, number: int) -> None:
        topic = f"topic-{number % _TOPICS}"
        while not self._stopped.is_set():
            # A worker was killed with our connection: on with another one.
            with (
                contextlib.suppress(HTTPException, OSError),
                contextlib.closing(self._server.connect()) as connection,
            ):
                while not self._stopped.is_set():
                    self._round(connection, topic)

    def _round(self, connection: Connection, topic: str) -> None:
        self._send(connection, "published", f"/v1/topics/{topic}/messages", {"message": "x"})
        path = _CLAIMED.format(topic)
        for claimed in self._send(connection, "claims", f"{path}/claim?timeout=1ms&limit=1"):
            receipt = {"receipt_token": claimed["receipt_token"]}
            verb = "nack" if self.answered["claims"] % 5 == 0 else "ack"
            self._send(connection, verb, f"{path}/messages/{claimed['id']}/{verb}", receipt)

    def _send(
        self, connection: Connection, what: str, path: str, body: object = None
    ) -> list[dict[str, str]]:
        answer = connection.send("POST", path, body)
        assert answer.status in (200, 202), answer
        data = answer.json["data"]
        with self._lock:
            self.answered[what] += 1
            if what == "claims":
                self.answered["claimed"] += len(data)
        return data if what == "claims" else []

    def have(self, what: str, count: int) -> bool:
        """Say whether so many requests were answered. Raises what a client has met."""
        for each in self._running:
            if each.done():
                each.result()
        return self.answered[what] > count

    def stop(self) -> None:
        """Let them end, after the answer to what they have sent."""
        self._stopped.set()
        for each in self._running:
            each.result(PATIENCE_S)


def held(db: Path) -> dict[str, int]:
    """Count what the database holds, row by row, as no code of ours does."""
    connection = apsw.Connection(str(db), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        messages = connection.execute("SELECT coalesce(sum(count), 0) FROM block").get
        states = dict(connection.execute("SELECT state, sum(count) FROM delivery GROUP BY state"))
    finally:
        connection.close()
    leased, waiting, dead, processed = (states.get(state, 0) for state in range(4))
    return {
        "messages": messages,
        "leased": leased,
        "dead": dead,
        "processed": processed,
        "waiting": waiting,
        "pending": messages - leased - dead - processed,
    }


def total(samples: Samples, name: str) -> float:
    return sum(value for key, value in samples.items() if key[0] == name)


def check_gauges(samples: Samples, expected: dict[str, int]) -> None:
    """Assert that what is told of the subscribers is what the database holds."""
    told = {
        "pending": total(samples, "subscriber_pending_messages"),
        "waiting": total(samples, "subscriber_retry_messages"),
        "leased": total(samples, "subscriber_in_flight_messages"),
        "dead": total(samples, "subscriber_dead_letters"),
        "messages": total(samples, "topic_published_messages_total"),
        "processed": expected["processed"],
    }
    assert told == expected


def check_counts(
    samples: Samples, expected: dict[str, int], answered: Counter[str], lost: int
) -> None:
    """Assert that what was counted is what is in the database, but for what a kill has lost."""
    published = samples["persistence_total", "persisted"]
    acked = samples["delivery_operation_total", "ack", "success"]
    assert expected["messages"] - lost <= published <= expected["messages"]
    assert expected["processed"] - lost <= acked <= expected["processed"]
    assert answered["published"] - lost <= published
    assert answered["ack"] - lost <= acked
    assert answered["claimed"] - lost <= samples["delivery_operation_total", "claim", "success"]


def is_sorted(server: Server) -> bool:
    """Whether every worker has put what it had noted on the way into its row."""
    samples = scrape(server)
    published = samples["persistence_total", "persisted"]
    return samples["flush_size_sum",] == samples["persistence_total", "admitted"] == published


def has_restarted(server: Server, times: int) -> bool:
    return scrape(server)["restarts_total", "process"] == times


def start_topics(server: Server) -> None:
    for number in range(_TOPICS):
        create_topic(server, f"topic-{number}")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Three workers, and topics with one subscriber each."""
    with serving(tmp_path / "queue.db", "--workers", "3") as server:
        start_topics(server)
        yield server
        assert server.stop() == 0


def test_numbers_are_right_with_a_worker_just_killed(server: Server) -> None:
    """All that was answered was counted: nothing is lost with a worker that was at rest.

    Which worker answers does not matter, before and after.
    """
    assert server.db is not None
    clients = Clients(server)
    until(lambda: clients.have("ack", 100), "some work is done")
    clients.stop()
    expected = held(server.db)
    before = scrape(server)
    check_gauges(before, expected)
    check_counts(before, expected, clients.answered, lost=0)
    until(partial(is_sorted, server), "what was noted is counted")
    killed = workers(server)[1]
    killed.send_signal(signal.SIGKILL)
    after = scrape(server)
    check_gauges(after, expected)
    check_counts(after, expected, clients.answered, lost=0)
    until(lambda: scrape(server)["restarts_total", "process"] == 1, "it is replaced")
    until(lambda: scrape(server)["processes",] == 3, "there are three again")
    told = [counters(scrape(server, path)) for path in ("/metrics", "/prometheus/metrics") * 6]
    assert all(each == told[0] for each in told)
    check_counts(scrape(server), expected, clients.answered, lost=0)
    assert is_sorted(server)


def counters(samples: Samples) -> Samples:
    """Leave out what changes while nobody does anything."""
    names = ("persistence", "delivery_operation", "flush_size", "restarts", "subscriber", "topic")
    return {
        key: value
        for key, value in samples.items()
        if key[0].startswith(names) and "age" not in key[0]
    }


@pytest.mark.slow
def test_a_worker_killed_at_work_takes_no_more_than_a_commit(server: Server) -> None:
    """Sums never fall, and what the database holds is told exactly."""
    assert server.db is not None
    clients = Clients(server)
    told: list[float] = []
    kills = 3
    for kill in range(1, kills + 1):
        until(partial(clients.have, "published", 60 * kill), "some work is done")
        workers(server)[kill % 3].send_signal(signal.SIGKILL)
        told.append(scrape(server)["persistence_total", "persisted"])
        until(partial(has_restarted, server, kill), "it is back")
    clients.stop()
    told.append(scrape(server)["persistence_total", "persisted"])
    assert told == sorted(told)
    expected = held(server.db)
    seen = scrape(server)
    check_gauges(seen, expected)
    check_counts(seen, expected, clients.answered, lost=kills * _LOST_MAX)


def test_polls_that_wait_are_told_by_every_worker(server: Server) -> None:
    """Wherever they wait; and so is it when they have gone."""
    polls = [server.poll(f"/topics/topic-{n % 3}/subscribers/worker?timeout=60s") for n in range(8)]
    until(lambda: all(scrape(server)["parked_polls",] == 8 for _ in range(5)), "all are parked")
    for poll in polls:
        poll.close()
    until(lambda: all(scrape(server)["parked_polls",] == 0 for _ in range(5)), "they have gone")
