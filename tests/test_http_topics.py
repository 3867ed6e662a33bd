"""The first HTTP contract, route by route, over real HTTP."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from blockqueue import BlockQueue, State

from .http_server import (
    PATIENCE_S,
    SUCCESS,
    Answer,
    Server,
    ack,
    counters,
    create_topic,
    publish,
    read,
    read_path,
    serving,
    until,
)

_numbers = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("topics") / "queue.db") as running:
        yield running


@pytest.fixture
def topic() -> str:
    """A name that no other test uses."""
    return f"topic-{next(_numbers)}"


def check_success(answer: Answer) -> None:
    """A success without data has no ``data`` member at all."""
    assert (answer.status, answer.json) == (200, SUCCESS)
    assert answer.headers["Content-Type"] == "application/json"


# Topics.


def test_a_topic_is_created_with_its_subscribers(server: Server, topic: str) -> None:
    """Options may be left out, in part or altogether."""
    option = {"max_attempts": 5, "visibility_duration": "5m"}
    subscribers: list[dict[str, Any]] = [
        {"name": "counter", "option": option},
        {"name": "created", "option": {}},
        {"name": "mailer"},
        {"name": "nothing", "option": None},
    ]

    check_success(server.send("POST", "/topics", {"name": topic, "subscribers": subscribers}))

    listed = server.send("GET", f"/topics/{topic}/subscribers").json["data"]
    assert [each["name"] for each in listed] == ["counter", "created", "mailer", "nothing"]


def test_a_taken_topic_name_is_a_conflict(server: Server, topic: str) -> None:
    """The topic that has the name stays as it is."""
    create_topic(server, topic, ["first"])
    body = {"name": topic, "subscribers": [{"name": "second"}]}

    server.send("POST", "/topics", body).check_failure(409)

    listed = server.send("GET", f"/topics/{topic}/subscribers").json["data"]
    assert [each["name"] for each in listed] == ["first"]


@pytest.mark.parametrize("subscribers", [[], None, "absent"])
def test_a_topic_without_subscribers_is_refused(
    server: Server, topic: str, subscribers: object
) -> None:
    """The first release answered 500."""
    body = {"name": topic, "subscribers": subscribers}
    if subscribers == "absent":
        del body["subscribers"]

    server.send("POST", "/topics", body).check_failure(400)

    server.send("GET", f"/topics/{topic}/subscribers").check_failure(404)


def test_one_subscriber_twice_is_a_conflict(server: Server, topic: str) -> None:
    """The first release answered 500. Nothing is made."""
    body = {"name": topic, "subscribers": [{"name": "twin"}, {"name": "twin"}]}

    server.send("POST", "/topics", body).check_failure(409)

    server.send("GET", f"/topics/{topic}/subscribers").check_failure(404)


def test_a_deleted_topic_is_gone_with_all_in_it(server: Server, topic: str) -> None:
    """Every route under it answers 404 from then on."""
    create_topic(server, topic)
    publish(server, topic, "hi")
    (message,) = read(server, topic)

    check_success(server.send("DELETE", f"/topics/{topic}"))

    server.send("DELETE", f"/topics/{topic}").check_failure(404)
    server.send("GET", f"/topics/{topic}/subscribers").check_failure(404)
    server.send("POST", f"/topics/{topic}/subscribers", [{"name": "a"}]).check_failure(404)
    server.send("DELETE", read_path(topic)).check_failure(404)
    server.send("GET", read_path(topic)).check_failure(404)
    server.send("GET", read_path(topic, timeout="5s")).check_failure(404)
    server.send("POST", f"/topics/{topic}/messages", {"message": "hi"}).check_failure(404)
    ack(server, topic, message["id"]).check_failure(404)


def test_the_name_of_a_deleted_topic_is_free_and_empty(server: Server, topic: str) -> None:
    """In the first release a new topic could inherit messages, and more deletes could hang."""
    for turn in range(3):
        create_topic(server, topic)
        assert counters(server, topic) == (0, 0)
        assert read(server, topic) == []
        publish(server, topic, f"{turn}", "never read")
        (message, _) = read(server, topic)
        assert message["message"] == f"{turn}"
        check_success(server.send("DELETE", f"/topics/{topic}"))


def test_the_id_of_a_deleted_topics_message_acks_nothing_in_the_next(
    server: Server, topic: str
) -> None:
    """Ids say whose they are, so an old one never hits another message."""
    create_topic(server, topic)
    publish(server, topic, "old")
    (old,) = read(server, topic)
    server.send("DELETE", f"/topics/{topic}")
    create_topic(server, topic)
    publish(server, topic, "new")
    (new,) = read(server, topic)

    ack(server, topic, old["id"]).check_failure(404)

    check_success(ack(server, topic, new["id"]))


# Subscribers.


def test_subscribers_are_added_all_or_none(server: Server, topic: str) -> None:
    """A name that is taken, by an older one or in the list itself, is a conflict (was 500)."""
    create_topic(server, topic, ["a"])
    path = f"/topics/{topic}/subscribers"

    server.send("POST", path, [{"name": "b"}, {"name": "a"}]).check_failure(409)
    server.send("POST", path, [{"name": "b"}, {"name": "b"}]).check_failure(409)
    server.send("POST", path, [{"name": "b"}, {"name": ""}]).check_failure(400)
    server.send("POST", path, []).check_failure(400)
    server.send("POST", path, {"name": "b"}).check_failure(400)

    assert [each["name"] for each in server.send("GET", path).json["data"]] == ["a"]
    check_success(server.send("POST", path, [{"name": "b"}, {"name": "c"}]))
    assert [each["name"] for each in server.send("GET", path).json["data"]] == ["a", "b", "c"]


def test_a_subscriber_gets_only_what_is_published_after_it_exists(
    server: Server, topic: str
) -> None:
    """Not what was there before, be it read or not."""
    create_topic(server, topic, ["early"])
    publish(server, topic, "before")
    server.send("POST", f"/topics/{topic}/subscribers", [{"name": "late"}])
    publish(server, topic, "after")

    assert [each["message"] for each in read(server, topic, "early")] == ["before", "after"]
    assert [each["message"] for each in read(server, topic, "late")] == ["after"]


def test_a_deleted_subscriber_is_gone_and_its_name_starts_anew(server: Server, topic: str) -> None:
    """Every route of it answers 404 (the first release: 500); the others are not touched."""
    create_topic(server, topic, ["a", "b"])
    publish(server, topic, "1", "2")
    (first, _) = read(server, topic, "a")

    check_success(server.send("DELETE", read_path(topic, "a")))

    server.send("DELETE", read_path(topic, "a")).check_failure(404)
    server.send("GET", read_path(topic, "a")).check_failure(404)
    server.send("GET", read_path(topic, "a", "1s")).check_failure(404)
    ack(server, topic, first["id"], "a").check_failure(404)
    server.send("POST", f"/topics/{topic}/subscribers", [{"name": "a"}])
    assert read(server, topic, "a") == []
    ack(server, topic, first["id"], "a").check_failure(404)
    assert len(read(server, topic, "b")) == 2


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_an_unknown_topic_or_subscriber_is_not_found(
    server: Server, topic: str, method: str
) -> None:
    """The first release answered 500 for a subscriber."""
    create_topic(server, topic)

    server.send(method, read_path("nowhere")).check_failure(404)
    server.send(method, read_path(topic, "nobody")).check_failure(404)


def test_the_last_subscriber_may_be_deleted(server: Server, topic: str) -> None:
    """Then the list is there and empty."""
    create_topic(server, topic)

    check_success(server.send("DELETE", read_path(topic)))

    answer = server.send("GET", f"/topics/{topic}/subscribers")
    assert (answer.status, answer.json) == (200, {"message": "success", "data": []})


# Publishing and reading.


def test_a_message_comes_back_as_it_was_published(server: Server, topic: str) -> None:
    """Text of any script, control characters and all."""
    create_topic(server, topic)
    texts = ["", "plain", "Ünïcödé ☃ 🎉", '"quoted" \\ \n\t\x00\x7f', "𝄞" * 1000]
    publish(server, topic, *texts)

    messages = read(server, topic)

    assert [each["message"] for each in messages] == texts
    assert all(set(each) == {"id", "message"} for each in messages)


def test_a_message_of_one_mebibyte_is_stored_whole(server: Server, topic: str) -> None:
    """The limit is counted in bytes of UTF-8, however they are written in the JSON."""
    create_topic(server, topic)
    largest = "é" * (1_048_576 // 2)

    publish(server, topic, largest)

    assert [each["message"] for each in read(server, topic)] == [largest]
    answer = server.send("POST", f"/topics/{topic}/messages", {"message": largest + "x"})
    assert "1048576" in answer.check_failure(400)


def test_at_most_ten_are_read_at_once_the_oldest_first(server: Server, topic: str) -> None:
    """The first release's eleventh was a slip."""
    create_topic(server, topic)
    texts = [str(number) for number in range(25)]
    publish(server, topic, *texts)

    reads = [[each["message"] for each in read(server, topic)] for _ in range(4)]

    assert reads == [texts[:10], texts[10:20], texts[20:], []]


def test_every_subscriber_gets_each_message_by_an_id_of_its_own(server: Server, topic: str) -> None:
    """One's acknowledgement leaves the other's alone, and no id works for the other."""
    create_topic(server, topic, ["a", "b"])
    publish(server, topic, "hi")
    (for_a,), (for_b,) = read(server, topic, "a"), read(server, topic, "b")
    assert for_a["message"] == for_b["message"] == "hi"
    assert for_a["id"] != for_b["id"]

    ack(server, topic, for_a["id"], "b").check_failure(404)
    check_success(ack(server, topic, for_a["id"], "a"))

    assert counters(server, topic, "a") == (0, 0)
    assert counters(server, topic, "b") == (0, 1)
    check_success(ack(server, topic, for_b["id"], "b"))


def test_counters_tell_what_waits_and_what_is_handed_out(server: Server, topic: str) -> None:
    """What was acknowledged is in neither."""
    create_topic(server, topic)
    assert counters(server, topic) == (0, 0)
    publish(server, topic, *map(str, range(12)))
    assert counters(server, topic) == (12, 0)
    messages = read(server, topic)
    assert counters(server, topic) == (2, 10)

    for message in messages[3:5]:
        check_success(ack(server, topic, message["id"]))

    assert counters(server, topic) == (2, 8)


# Acknowledging.


def test_an_acknowledgement_is_by_id_from_anybody_and_once(server: Server, topic: str) -> None:
    """The second is a 404 (the first release: 500), and so is an id that says nothing."""
    create_topic(server, topic)
    publish(server, topic, "hi", "not handed out")
    reader, other = server.connect(), server.connect()
    message = read(reader, topic)[0]
    reader.close()

    check_success(ack(other, topic, message["id"]))

    ack(other, topic, message["id"]).check_failure(404)
    ack(other, topic, "no-such-id").check_failure(404)
    ack(other, topic, "00000000-0000-8000-8000-000000000000").check_failure(404)
    ack(other, topic, message["id"], "nobody").check_failure(404)
    ack(other, "nowhere", message["id"]).check_failure(404)
    other.close()


def test_a_message_that_waits_for_its_redelivery_cannot_be_acknowledged(
    server: Server, topic: str
) -> None:
    """Only a lease that lasts can be ended; the message is not lost."""
    create_topic(server, topic, visibility_duration="10ms")
    publish(server, topic, "hi")
    (message,) = read(server, topic)
    until(lambda: counters(server, topic) == (1, 0), "the lease has run out")

    ack(server, topic, message["id"]).check_failure(404)

    assert [each["id"] for each in read(server, topic, timeout="10s")] == [message["id"]]


def test_an_acknowledgement_right_after_the_read_counts(server: Server, topic: str) -> None:
    """In the first release the lease was noted after the hand-out, so a quick one missed it."""
    create_topic(server, topic)
    connection = server.connect()
    for number in range(30):
        publish(connection, topic, str(number))
        (message,) = read(connection, topic, timeout="10s")
        check_success(ack(connection, topic, message["id"]))

    assert counters(connection, topic) == (0, 0)
    connection.close()


# Redelivery.


def deliveries(server: Server, topic: str) -> list[str]:
    """Read without ever acknowledging until nothing comes any more."""
    found: list[str] = []
    while counters(server, topic) != (0, 0):
        found += [each["id"] for each in read(server, topic, timeout="200ms")]
    return found


@pytest.mark.parametrize(
    ("option", "times"),
    [({}, 2), ({"max_attempts": 0}, 2), ({"max_attempts": -7}, 2), ({"max_attempts": 3}, 4)],
)
def test_max_attempts_counts_redeliveries(
    server: Server, topic: str, option: dict[str, Any], times: int
) -> None:
    """Never acknowledged, it is handed out that many times and once more, under one id."""
    create_topic(server, topic, visibility_duration="20ms", **option)
    publish(server, topic, "hi")

    ids = deliveries(server, topic)

    assert len(ids) == times
    assert len(set(ids)) == 1


def test_what_was_never_acknowledged_becomes_a_dead_letter(tmp_path: Path) -> None:
    """In the first release it vanished."""
    path = tmp_path / "queue.db"
    with serving(path) as server:
        create_topic(server, "cart", max_attempts=1, visibility_duration="20ms")
        publish(server, "cart", "hi")
        assert len(deliveries(server, "cart")) == 2

        with BlockQueue(path) as queue:
            (entry,) = queue.bucket("cart", "worker").entries()

    assert entry.state is State.DEAD


def test_the_last_delivery_can_be_acknowledged_for_as_long_as_its_lease_lasts(
    server: Server, topic: str
) -> None:
    """In the first release it left the unacked list at once."""
    create_topic(server, topic, max_attempts=1, visibility_duration="1s")
    publish(server, topic, "hi")
    (first,) = read(server, topic)
    assert read(server, topic) == []

    (last,) = read(server, topic, timeout="10s")

    assert last == first
    assert counters(server, topic) == (0, 1)
    check_success(ack(server, topic, last["id"]))
    assert counters(server, topic) == (0, 0)


def test_an_expired_lease_is_redelivered_at_once(server: Server, topic: str) -> None:
    """No retry delay here: a reader has it as soon as the lease is over, not before."""
    create_topic(server, topic, visibility_duration="400ms")
    publish(server, topic, "hi")
    started = time.monotonic()
    delivered = read(server, topic)

    assert read(server, topic, timeout="10s") == delivered

    assert 0.35 <= time.monotonic() - started < 5


def test_an_expired_lease_goes_to_the_end_of_the_queue(server: Server, topic: str) -> None:
    """Behind what was published meanwhile."""
    create_topic(server, topic, visibility_duration="2s")
    publish(server, topic, "first")
    assert len(read(server, topic)) == 1
    publish(server, topic, "second", "third")

    until(lambda: counters(server, topic) == (3, 0), "the lease has run out")

    assert [each["message"] for each in read(server, topic)] == ["second", "third", "first"]


def test_each_lease_ends_by_its_own_deadline(server: Server, topic: str) -> None:
    """In the first release retries waited behind the oldest one."""
    create_topic(server, topic, ["slow"], visibility_duration="1h")
    option = {"visibility_duration": "50ms", "max_attempts": 100}
    server.send("POST", f"/topics/{topic}/subscribers", [{"name": "fast", "option": option}])
    publish(server, topic, "hi")
    read(server, topic, "slow")
    (message,) = read(server, topic, "fast")

    for _ in range(3):
        assert read(server, topic, "fast", timeout="10s") == [message]

    assert counters(server, topic, "slow") == (0, 1)


@pytest.mark.parametrize("duration", ["1ms", "12h", "1h30m", ".5s", "", None])
def test_a_visibility_of_one_millisecond_to_twelve_hours_is_taken(
    server: Server, topic: str, duration: str | None
) -> None:
    """Empty or missing is five minutes."""
    create_topic(server, topic, visibility_duration=duration)


@pytest.mark.parametrize("duration", ["0", "0s", "-1s", "13h", "1d", "soon", "5", "100us"])
def test_any_other_visibility_is_refused(server: Server, topic: str, duration: str) -> None:
    """The first release took five minutes, or one, and said nothing."""
    option = {"visibility_duration": duration}
    body = {"name": topic, "subscribers": [{"name": "a", "option": option}]}

    server.send("POST", "/topics", body).check_failure(400)

    server.send("DELETE", f"/topics/{topic}").check_failure(404)


# The timeout.


@pytest.mark.parametrize("query", ["", "?other=5s", "?timeout=0", "?timeout=-5s", "?timeouts=1h"])
def test_without_a_timeout_a_read_does_not_wait(server: Server, topic: str, query: str) -> None:
    """And it is one JSON document (the first release: a 400, and then a second one)."""
    create_topic(server, topic)
    started = time.monotonic()

    empty = server.send("GET", read_path(topic) + query)

    assert (empty.status, empty.json) == (200, {"message": "success", "data": []})
    assert time.monotonic() - started < 5
    publish(server, topic, "hi")
    assert server.send("GET", read_path(topic) + query).texts == ["hi"]


@pytest.mark.parametrize("timeout", ["x", "", "5", "1d", "5S", "%ff", "1s%00", "1e9s", "1_0s"])
def test_a_bad_timeout_is_refused_and_hands_nothing_out(
    server: Server, topic: str, timeout: str
) -> None:
    """The first release went on and read."""
    create_topic(server, topic)
    publish(server, topic, "hi")

    server.send("GET", read_path(topic, timeout=timeout)).check_failure(400)

    assert counters(server, topic) == (1, 0)


@pytest.mark.parametrize("timeout", ["1h", "87600h", "2540400h", "9223372036854775807ns"])
def test_a_timeout_has_no_maximum(server: Server, topic: str, timeout: str) -> None:
    """The message comes long before."""
    create_topic(server, topic)
    poll = server.poll(read_path(topic, timeout=timeout))
    publish(server, topic, "hi")

    assert poll.answer().texts == ["hi"]
    poll.close()


def test_a_read_waits_for_as_long_as_it_was_told(server: Server, topic: str) -> None:
    """Then it answers with an empty list."""
    create_topic(server, topic)
    started = time.monotonic()

    assert read(server, topic, timeout="300ms") == []

    assert 0.25 <= time.monotonic() - started < 5


# Conventions.


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("GET", "/topics"), ("PUT", "/topics"), ("DELETE", "/topics")),
        *(("GET", "/topics/a"), ("POST", "/topics/a"), ("PATCH", "/topics/a")),
        *(("GET", "/topics/a/messages"), ("DELETE", "/topics/a/messages")),
        *(("PUT", "/topics/a/subscribers"), ("DELETE", "/topics/a/subscribers")),
        *(("POST", "/topics/a/subscribers/b"), ("PUT", "/topics/a/subscribers/b")),
        *(("GET", "/topics/a/subscribers/b/messages/c"), ("HEAD", "/topics/a/subscribers")),
    ],
)
def test_a_wrong_method_is_405_with_an_empty_body(server: Server, method: str, path: str) -> None:
    """Also where the topic does not exist: topics cannot be listed, nor shown."""
    answer = server.send(method, path)

    assert (answer.status, answer.body) == (405, b"")
    assert answer.headers["Allow"]


@pytest.mark.parametrize("path", ["/nowhere", "/v2/topics", "/topics/a/b", "/topics/a/b/c/d/e"])
def test_an_unknown_path_is_not_found(server: Server, path: str) -> None:
    """In the envelope, like everything else that fails."""
    server.send("GET", path).check_failure(404)


def test_a_trailing_slash_makes_no_difference(server: Server, topic: str) -> None:
    """On every route."""
    body = {"name": topic, "subscribers": [{"name": "worker"}]}
    check_success(server.send("POST", "/topics/", body))
    check_success(server.send("POST", f"/topics/{topic}/messages/", {"message": "hi"}))
    assert server.send("GET", f"/topics/{topic}/subscribers/").status == 200
    (message,) = server.send("GET", f"/topics/{topic}/subscribers/worker/?timeout=1s").messages
    check_success(ack(server, topic, message["id"] + "/"))
    check_success(server.send("POST", f"/topics/{topic}/subscribers/", [{"name": "b"}]))
    check_success(server.send("DELETE", f"/topics/{topic}/subscribers/b/"))
    check_success(server.send("DELETE", f"/topics/{topic}/"))


@pytest.mark.parametrize(
    "body",
    [
        b'{"message":"hi","unknown":[1,{"a":null}],"number":1e400}',
        b'{"message":"hi"}{"message":"second"}',
        b'{"message":"hi"} and so on',
        b' \r\n\t{"message":"hi"}\x00\xff',
        b'{"message":"first","message":"hi"}',
    ],
)
def test_what_is_unknown_or_follows_the_first_json_value_is_ignored(
    server: Server, topic: str, body: bytes
) -> None:
    """Of a member given twice the last one counts."""
    create_topic(server, topic)

    check_success(server.send("POST", f"/topics/{topic}/messages", body))

    assert [each["message"] for each in read(server, topic)] == ["hi"]


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded"])
def test_the_content_type_does_not_matter(server: Server, topic: str, content_type: str) -> None:
    """A form's is what curl sends by default."""
    create_topic(server, topic)
    body = b'{"message":"hi"}'
    head = f"POST /topics/{topic}/messages HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    kind = f"Content-Type: {content_type}\r\n" if content_type else ""

    answer = server.say(f"{head}{kind}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert [each["message"] for each in read(server, topic)] == ["hi"]


def test_a_name_in_a_path_is_decoded_once(server: Server) -> None:
    """Blanks, other scripts and percent signs work in names."""
    for name, path in [("two words", "two%20words"), ("ключ", "%D0%BA%D0%BB%D1%8E%D1%87")]:
        create_topic(server, name, [name])
        publish(server, path, "hi")
        assert [each["message"] for each in read(server, path, path)] == ["hi"]
    create_topic(server, "100%25", ["a:b&c"])
    publish(server, "100%2525", "hi")
    assert len(read(server, "100%2525", "a%3Ab%26c")) == 1


# The first README.


class Curl:
    """The real curl, or if there is none the same requests by other means."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._curl = shutil.which("curl")

    def __call__(self, *arguments: str) -> Any:
        """Run a command line of the README against our port; return the JSON it prints."""
        port = f"localhost:{self._server.port}"
        given = [argument.replace("localhost:8080", port) for argument in arguments]
        if self._curl is None:
            return self._request(given)
        command = [self._curl, "--silent", "--show-error", "--max-time", f"{PATIENCE_S}", *given]
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE_S * 2, check=True)
        return Answer(200, {}, done.stdout).json

    def _request(self, given: list[str]) -> Any:
        options = dict(itertools.pairwise(given))
        data = options.get("--data")
        method = options.get("--request") or ("POST" if data else "GET")
        (url,) = [each for each in given if each.startswith("http://")]
        path = url.split(str(self._server.port), 1)[1]
        return self._server.send(method, path, data.encode() if data else None).json


def test_the_first_readmes_curls_work_in_order(tmp_path: Path) -> None:
    """As printed there, on a fresh database."""
    json_type = ("--header", "Content-Type: application/json")
    topics = "http://localhost:8080/topics"
    with serving(tmp_path / "queue.db") as server:
        curl = Curl(server)
        option = '"option":{"max_attempts":5,"visibility_duration":"5m"}'
        subscribers = f'[{{"name":"counter",{option}}},{{"name":"created",{option}}}]'
        topic = f'{{"name":"cart","subscribers":{subscribers}}}'
        message = '{"message": "{\\"user_id\\": 1}"}'
        added = f'[{{"name":"new_subscriber",{option}}}]'
        assert curl("--location", topics, *json_type, "--data", topic) == SUCCESS
        publish_url = f"{topics}/cart/messages"
        assert curl("--location", publish_url, *json_type, "--data", message) == SUCCESS

        found = curl("--location", f"{topics}/cart/subscribers/counter?timeout=5s")

        assert found["message"] == "success"
        (delivery,) = found["data"]
        assert delivery["message"] == '{"user_id": 1}'
        acked = f"{topics}/cart/subscribers/counter/messages/{delivery['id']}"
        assert curl("--location", "--request", "DELETE", acked) == SUCCESS
        assert curl("--location", "--request", "DELETE", acked)["message"] == "not found"
        assert curl("--location", f"{topics}/cart/subscribers") == {
            "message": "success",
            "data": [
                {"name": "counter", "unpublished_message": 0, "unacked_message": 0},
                {"name": "created", "unpublished_message": 1, "unacked_message": 0},
            ],
        }
        subscribers_url = f"{topics}/cart/subscribers"
        assert curl("--location", subscribers_url, *json_type, "--data", added) == SUCCESS
        gone = f"{topics}/cart/subscribers/counter"
        assert curl("--location", "--request", "DELETE", gone) == SUCCESS
        assert curl("--location", "--request", "DELETE", f"{topics}/cart") == SUCCESS
        assert curl("--location", f"{topics}/cart/subscribers")["message"] == "not found"
