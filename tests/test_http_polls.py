"""Long polls: what wakes them, what they cost, and what happens when their client goes."""

from __future__ import annotations

import itertools
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from blockqueue import BlockQueue

from .http_server import (
    PATIENCE_S,
    Poll,
    Server,
    ack,
    check_healthy,
    counters,
    create_topic,
    publish,
    read,
    read_path,
    serving,
    until,
)

_THREADS = 3
_numbers = itertools.count()


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("polls") / "queue.db"


@pytest.fixture(scope="module")
def server(db: Path) -> Iterator[Server]:
    """A server with so few threads that a poll which held one would be noticed."""
    with serving(db, "--threads", str(_THREADS)) as running:
        yield running


@pytest.fixture
def topic(server: Server) -> Iterator[str]:
    """A topic of the test's own, which must be without leases in the end."""
    name = f"topic-{next(_numbers)}"
    create_topic(server, name)
    yield name
    check_healthy(server, f"healthy-{name}")


def park(server: Server, topic: str, timeout: str = "60s", subscriber: str = "worker") -> Poll:
    """Send a poll; return when the server has read it, and has most likely parked it."""
    poll = server.poll(read_path(topic, subscriber, timeout))
    for _ in range(3):
        server.send("GET", f"/topics/{topic}/subscribers")
    assert not poll.is_answered()
    return poll


def texts(poll: Poll) -> list[str]:
    """Wait for a poll's answer and close its connection."""
    try:
        return poll.answer().texts
    finally:
        poll.close()


def gather(polls: Sequence[Poll], count: int, then: str | None = None) -> list[str]:
    """Take what polls are answered, in any order, until it is enough; close them.

    ``then``: what those that were answered ask for next.
    """
    found: list[str] = []

    def take() -> bool:
        for poll in waiting:
            if poll.is_answered():
                found.extend(poll.answer().texts)
                if then is None:
                    answered.append(poll)
                else:
                    poll.send(then)
        waiting.difference_update(answered)
        return len(found) >= count

    waiting, answered = set(polls), list[Poll]()
    until(take, f"{count} messages have come")
    for poll in polls:
        poll.close()
    return found


# What wakes a poll.


def test_a_publish_wakes_a_parked_poll(server: Server, topic: str) -> None:
    """At once, again and again on one connection."""
    poll = park(server, topic)
    for number in range(5):
        started = time.monotonic()
        publish(server, topic, str(number))
        assert poll.answer().texts == [str(number)]
        assert time.monotonic() - started < 5
        poll.send(read_path(topic, timeout="60s"))
    poll.close()


def test_a_lease_that_runs_out_wakes_a_parked_poll(server: Server, topic: str) -> None:
    """Nobody has to do anything for that."""
    option = {"visibility_duration": "300ms", "max_attempts": 5}
    server.send("POST", f"/topics/{topic}/subscribers", [{"name": "quick", "option": option}])
    publish(server, topic, "hi")
    (message,) = read(server, topic, "quick")
    poll = server.poll(read_path(topic, "quick", "60s"))

    assert poll.answer().messages == [message]
    poll.close()


@pytest.mark.parametrize("what", ["topic", "subscriber"])
def test_a_resume_by_another_process_wakes_a_parked_poll(
    server: Server, db: Path, topic: str, what: str
) -> None:
    """Within two seconds; while it is paused, nothing is handed out."""
    names = (topic,) if what == "topic" else (topic, "worker")
    with BlockQueue(db) as other:
        other.pause(*names)
        publish(server, topic, "hi")
        poll = park(server, topic)
        assert read(server, topic, timeout="100ms") == []
        assert not poll.is_answered()
        started = time.monotonic()

        other.resume(*names)

        assert texts(poll) == ["hi"]
        assert time.monotonic() - started < 2


def test_a_publish_by_another_process_wakes_a_parked_poll(
    server: Server, db: Path, topic: str
) -> None:
    """Two programs may share one file."""
    poll = park(server, topic)
    with BlockQueue(db) as other:
        other.publish(topic, "from elsewhere")

        assert texts(poll) == ["from elsewhere"]


def test_a_parked_poll_ends_with_an_empty_list_at_its_timeout(server: Server, topic: str) -> None:
    """Not before, and the connection goes on."""
    started = time.monotonic()
    poll = server.poll(read_path(topic, timeout="400ms"))

    assert poll.answer().texts == []

    assert 0.35 <= time.monotonic() - started < 5
    publish(server, topic, "hi")
    poll.send(read_path(topic))
    assert texts(poll) == ["hi"]


def test_pollers_are_served_in_the_order_in_which_they_came(server: Server, topic: str) -> None:
    """One message goes to one of them, and the first is first."""
    polls = [park(server, topic) for _ in range(4)]
    for poll, text in zip(polls, "abcd", strict=True):
        publish(server, topic, text)
        assert texts(poll) == [text]


def test_pollers_of_one_subscriber_never_get_the_same_message(server: Server, topic: str) -> None:
    """However many there are and however fast it comes."""
    polls = [server.poll(read_path(topic, timeout="60s")) for _ in range(20)]
    publishers = [
        threading.Thread(target=publish, args=(server, topic, *(f"{n}-{i}" for i in range(10))))
        for n in range(5)
    ]
    for publisher in publishers:
        publisher.start()
    found = gather(polls, 50, then=read_path(topic, timeout="60s"))
    for publisher in publishers:
        publisher.join(PATIENCE_S)

    assert sorted(found) == sorted(f"{n}-{i}" for n in range(5) for i in range(10))
    assert counters(server, topic) == (0, 50)


def test_each_subscriber_of_a_topic_is_woken(server: Server, topic: str) -> None:
    """A message is for all of them."""
    names = [f"s{number}" for number in range(30)]
    server.send("POST", f"/topics/{topic}/subscribers", [{"name": name} for name in names])
    polls = [server.poll(read_path(topic, name, "60s")) for name in names]

    publish(server, topic, "for all")

    assert [texts(poll) for poll in polls] == [["for all"]] * len(names)


# What it costs.


def threads_of(server: Server) -> int:
    """Count a server's threads."""
    return len(os.listdir(f"/proc/{server.process.pid}/task"))


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="no /proc here")
def test_parked_polls_hold_no_thread_and_nobody_back(server: Server, topic: str) -> None:
    """Two hundred wait on three threads, while publishes and acknowledgements are answered."""
    create_topic(server, f"{topic}-other")
    check_healthy(server, f"{topic}-warm")
    before = threads_of(server)
    polls = [server.poll(read_path(topic, timeout="60s")) for _ in range(200)]
    connection = server.connect()

    started = time.monotonic()
    for number in range(20):
        publish(connection, f"{topic}-other", str(number))
        (message,) = read(connection, f"{topic}-other", timeout="10s")
        assert ack(connection, f"{topic}-other", message["id"]).status == 200
    assert time.monotonic() - started < 10
    assert threads_of(server) == before
    assert not any(poll.is_answered() for poll in polls)

    numbers = [str(number) for number in range(200)]
    publish(connection, topic, *numbers)
    connection.close()
    assert sorted(gather(polls, len(numbers))) == sorted(numbers)
    assert threads_of(server) == before


# A client that goes.


def leave(poll: Poll, how: str) -> None:
    """Go away in one of three ways."""
    if how == "half-close":
        poll.socket.shutdown(socket.SHUT_WR)
    elif how == "reset":
        poll.reset()
    else:
        poll.close()


@pytest.mark.parametrize("how", ["close", "half-close", "reset"])
def test_a_client_that_has_gone_gets_nothing(server: Server, topic: str, how: str) -> None:
    """The message goes to the next reader at once, and the attempt is not counted."""
    option = {"max_attempts": 1, "visibility_duration": "10ms"}
    server.send("POST", f"/topics/{topic}/subscribers", [{"name": "once", "option": option}])
    gone = [park(server, topic, subscriber=name) for name in ("worker", "once") for _ in range(3)]
    for poll in gone:
        leave(poll, how)

    publish(server, topic, "hi")

    assert [each["message"] for each in read(server, topic, timeout="10s")] == ["hi"]
    assert counters(server, topic) == (0, 1)
    handed_out = 0
    while counters(server, topic, "once") != (0, 0):
        handed_out += len(read(server, topic, "once", timeout="100ms"))
    assert handed_out == 2
    for poll in gone:
        poll.close()


@pytest.mark.parametrize("how", ["close", "half-close", "reset"])
def test_a_client_that_has_gone_leaves_nothing_leased(server: Server, topic: str, how: str) -> None:
    """Nobody else has to read for that."""
    leaving = [park(server, topic) for _ in range(5)]
    for poll in leaving:
        leave(poll, how)

    publish(server, topic, "hi")

    until(lambda: counters(server, topic) == (1, 0), "the message is given back")
    assert len(read(server, topic)) == 1
    for poll in leaving:
        poll.close()


@pytest.mark.skipif(not hasattr(socket, "TCP_CORK"), reason="no TCP_CORK here")
@pytest.mark.parametrize("how", ["close", "half-close"])
def test_a_client_that_has_gone_before_its_answer_is_written_gets_nothing(
    server: Server, topic: str, how: str
) -> None:
    """Though the message was there and nobody had to wait."""
    request = f"GET {read_path(topic, timeout='10s')} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for number in range(15):
        publish(server, topic, str(number))
        client = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S)
        # So that the request and the end of the stream leave as one packet.
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        client.sendall(request.encode())
        client.shutdown(socket.SHUT_WR)
        if how == "close":
            client.close()
        (message,) = read(server, topic, timeout="10s")
        assert message["message"] == str(number)
        assert ack(server, topic, message["id"]).status == 200
        client.close()

    assert counters(server, topic) == (0, 0)


def test_a_client_that_goes_as_its_answer_is_sent_loses_no_message(
    server: Server, topic: str
) -> None:
    """Either the answer was on its way, then its lease runs out, or it is given back."""
    option = {"max_attempts": 50, "visibility_duration": "300ms"}
    server.send("POST", f"/topics/{topic}/subscribers", [{"name": "brief", "option": option}])
    for number in range(30):
        poll = server.poll(read_path(topic, "brief", "60s"))
        publisher = threading.Thread(target=publish, args=(server, topic, str(number)))
        publisher.start()
        if number % 3 == 0:
            until(poll.is_answered, "the answer has come")
        leave(poll, ("close", "reset")[number % 2])
        publisher.join(PATIENCE_S)
        (message,) = read(server, topic, "brief", timeout="30s")
        assert message["message"] == str(number)
        assert ack(server, topic, message["id"], "brief").status == 200

    assert counters(server, topic, "brief") == (0, 0)


def test_a_client_that_stops_reading_in_the_middle_of_its_answer_gives_it_back(
    server: Server, topic: str
) -> None:
    """A large answer that was sent in part cannot have been understood."""
    publish(server, topic, *(str(number) * 1_000_000 for number in range(10)))
    poll = server.poll(read_path(topic, timeout="10s"))
    assert poll.socket.recv(1000)

    poll.reset()

    until(lambda: counters(server, topic) == (10, 0), "the messages are given back")
    assert [each["message"][0] for each in read(server, topic)] == list("0123456789")


# Deleting under a poll.


@pytest.mark.parametrize("what", ["topic", "subscriber"])
def test_a_poll_whose_topic_or_subscriber_is_deleted_is_not_found(
    server: Server, topic: str, what: str
) -> None:
    """Within half a second (the first release: 500)."""
    polls = [park(server, topic) for _ in range(3)]
    path = f"/topics/{topic}" if what == "topic" else read_path(topic)

    assert server.send("DELETE", path).status == 200

    started = time.monotonic()
    for poll in polls:
        poll.answer().check_failure(404)
        poll.close()
    assert time.monotonic() - started < 0.5


@pytest.mark.parametrize("what", ["topic", "subscriber"])
def test_a_poll_learns_that_another_process_has_deleted_what_it_waits_for(
    server: Server, db: Path, topic: str, what: str
) -> None:
    """A little later than when it is this one."""
    poll = park(server, topic)
    with BlockQueue(db) as other:
        if what == "topic":
            other.delete_topic(topic)
        else:
            other.delete_subscriber(topic, "worker")

        poll.answer().check_failure(404)
    poll.close()


# One connection.


def test_a_request_behind_a_parked_poll_is_answered_after_it(server: Server, topic: str) -> None:
    """In order, as HTTP has it, and on the same connection."""
    poll = park(server, topic)
    poll.send(f"/topics/{topic}/subscribers")
    poll.send(f"/topics/{topic}", method="DELETE")
    assert counters(server, topic) == (0, 0)
    assert not poll.is_answered()

    publish(server, topic, "hi")

    assert poll.answer().texts == ["hi"]
    (status,) = poll.answer().json["data"]
    assert status == {"name": "worker", "unpublished_message": 0, "unacked_message": 1}
    assert poll.answer().status == 200
    poll.close()
    server.send("GET", f"/topics/{topic}/subscribers").check_failure(404)


def test_a_client_that_goes_with_a_request_behind_its_poll_leaves_nothing_leased(
    server: Server, topic: str
) -> None:
    """What it has sent already does not hide that it has gone."""
    poll = park(server, topic)
    poll.send(f"/topics/{topic}/subscribers")
    counters(server, topic)
    poll.close()

    publish(server, topic, "hi")

    until(lambda: counters(server, topic) == (1, 0), "the message is given back")


def test_half_a_request_behind_a_parked_poll_is_no_harm(server: Server, topic: str) -> None:
    """The poll is answered, and the rest may come later."""
    poll = park(server, topic)
    poll.socket.sendall(b"GET /livez HT")
    publish(server, topic, "hi")
    assert poll.answer().texts == ["hi"]

    poll.socket.sendall(b"TP/1.1\r\nHost: localhost\r\n\r\n")

    assert poll.answer().status == 200
    poll.close()


def test_a_polls_connection_closes_after_the_answer_if_it_was_asked_to(
    server: Server, topic: str
) -> None:
    """HTTP/1.0, and ``Connection: close``."""
    for line in ("HTTP/1.0\r\n", "HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"):
        poll = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S)
        poll.sendall(f"GET {read_path(topic, timeout='60s')} {line}\r\n".encode())
        publish(server, topic, "hi")
        received = b""
        while chunk := poll.recv(65536):
            received += chunk
        poll.close()
        assert b'"message":"hi"' in received


def test_many_that_come_and_go_leave_nothing_behind(server: Server, topic: str) -> None:
    """Connections close as they are parked and as they are answered, and others follow."""
    path = read_path(topic, timeout="60s")

    def come_and_go() -> None:
        for number in range(300):
            poll = server.poll(path)
            if number % 7 == 0:
                publish(server, topic, str(number))
            leave(poll, "half-close" if number % 2 else ("close", "reset")[number % 3 == 0])
            poll.close()

    crowd = [threading.Thread(target=come_and_go) for _ in range(6)]
    for each in crowd:
        each.start()
    for each in crowd:
        each.join(PATIENCE_S)

    until(lambda: not _descriptors_of(server) > _KEPT_DESCRIPTORS, "the connections are closed")
    waiting, leased = counters(server, topic)
    # Leased is only what was on its way when its reader went.
    assert waiting + leased == len(crowd) * len(range(0, 300, 7))
    assert server.process.poll() is None


# A server's own files, and a few connections of the test.
_KEPT_DESCRIPTORS = 60


def _descriptors_of(server: Server) -> int:
    """Count a server's open files; none where the system does not tell."""
    try:
        return len(os.listdir(f"/proc/{server.process.pid}/fd"))
    except FileNotFoundError:
        return 0
