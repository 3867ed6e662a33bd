"""A small client of the ``/v1`` contract: one method a request, one object an answer."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import re
import selectors
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from .http_server import PATIENCE_S, Server

Json = dict[str, Any]

# The server counts in whole milliseconds, so what it says may be off by one from what it meant.
ROUNDING_S = 0.002
# A topic that is in every server as soon as time has to pass there.
_IDLE = "/v1/topics/idle"
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,8}[1-9])?Z", re.ASCII)
_numbers = itertools.count()


class Reply(NamedTuple):
    """An answer, read to its end, and the path it was asked for."""

    path: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def ok(self, status: int = 200) -> Any:
        """Assert that this is a success; return its data."""
        assert self.status == status, self
        assert self.headers["Content-Type"] == "application/json", self
        assert set(self.json) == {"data"}, self
        return self.json["data"]

    def check_empty(self, status: int = 204) -> None:
        """Assert that this answer has no body."""
        assert (self.status, self.body) == (status, b""), self

    def check_problem(self, status: int, code: str) -> str:
        """Assert that this is the failure of that code; return its detail."""
        assert self.status == status, self
        assert self.headers["Content-Type"] == "application/problem+json", self
        problem = self.json
        detail: str = problem["detail"]
        expected = {
            "type": f"https://blockqueue.dev/problems/{code}",
            "title": HTTPStatus(status).phrase,
            "status": status,
            "detail": detail,
            "code": code,
        }
        if code in {"topic_not_found", "unauthorized"}:
            expected["instance"] = self.path
        assert problem == expected, self
        assert detail, self
        assert "Traceback" not in detail, self
        return detail

    def check_invalid(self) -> str:
        return self.check_problem(400, "validation_error")

    def check_unknown(self) -> str:
        return self.check_problem(404, "resource_not_found")

    def check_conflict(self) -> str:
        return self.check_problem(409, "conflict")


def check_202(receipt: Json, *, duplicate: bool = False) -> None:
    """Assert that a receipt was admitted; a server that has already stored it may say so."""
    expected: Json = {"admitted": None, "persisted": duplicate}
    assert receipt["duplicate"] is expected[receipt["state"]], receipt


def ms(timestamp: str) -> int:
    """Return a timestamp of an answer in milliseconds since the epoch, after its checks."""
    assert _TIMESTAMP.fullmatch(timestamp), timestamp
    return round(datetime.fromisoformat(timestamp).timestamp() * 1000)


def timestamp(at_ms: float) -> str:
    """Write a time as a request may have it."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat()


def path_with(path: str, query: Mapping[str, Any]) -> str:
    """Return a path with its query, without what is None in it."""
    given = {name: value for name, value in query.items() if value is not None}
    return f"{path}?{urlencode(given)}" if given else path


class Client:
    """A keep-alive connection to a server."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S * 2)

    def send(self, method: str, path: str, body: Any = None, **query: Any) -> Reply:
        """Send a request, anything but bytes as JSON, and read the answer."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        self._http.request(method, path_with(path, query), body)
        response = self._http.getresponse()
        return Reply(path, response.status, dict(response.headers), response.read())

    def close(self) -> None:
        self._http.close()

    def pages(self, path: str, array: str, limit: int) -> Iterator[list[Json]]:
        """Walk a list to its end, a page at a time."""
        cursor = None
        while True:
            page = self.send("GET", path, limit=limit, cursor=cursor).ok()
            yield page[array]
            assert len(page[array]) <= limit
            if "next_cursor" not in page:
                assert set(page) == {array}
                return
            assert set(page) == {array, "next_cursor"}
            assert page[array], "a page before the last is not empty"
            cursor = page["next_cursor"]
            assert isinstance(cursor, str)
            assert cursor

    def all_of(self, path: str, array: str) -> list[Json]:
        """Read a list as one page."""
        (page,) = self.pages(path, array, 1000)
        return page

    def let_pass(self, duration: str) -> None:
        """Let the server's time pass: wait for a message that never comes."""
        body = {"name": "idle", "subscribers": [{"name": "nobody"}]}
        assert self.send("POST", "/v1/topics", body).status in {201, 409}
        claim = self.send("POST", f"{_IDLE}/subscribers/nobody/claim", timeout=duration)
        assert claim.ok() == []

    def fresh_topic(self) -> Topic:
        """Return a topic of a name that no other test uses; it is not made yet."""
        return Topic(self, f"orders-{next(_numbers)}")


class Pending:
    """A POST on a connection of its own, whose answer is fetched later."""

    def __init__(self, port: int, path: str, body: Any = None) -> None:
        self._path = path
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S * 2)
        self._http.request("POST", path, None if body is None else json.dumps(body).encode())

    def is_answered(self) -> bool:
        with selectors.DefaultSelector() as selector:
            selector.register(self._http.sock, selectors.EVENT_READ)
            return bool(selector.select(0))

    def answer(self) -> Reply:
        """Wait for the answer and let go of the connection."""
        response = self._http.getresponse()
        reply = Reply(self._path, response.status, dict(response.headers), response.read())
        self._http.close()
        return reply

    def give_up(self) -> None:
        """Hang up without having read the answer."""
        self._http.close()


class Topic:
    """One topic, and what can be asked of it."""

    def __init__(self, client: Client, name: str) -> None:
        self.client = client
        self.name = name
        self.path = f"/v1/topics/{quote(name, safe='')}"

    def send(self, method: str, path: str, body: Any = None, **query: Any) -> Reply:
        """Send a request below the topic's path."""
        return self.client.send(method, self.path + path, body, **query)

    def of(self, subscriber: str = "worker") -> str:
        """Return a subscriber's path below the topic's."""
        return f"/subscribers/{quote(subscriber, safe='')}"

    # Topics and subscribers.

    def try_create(self, *subscribers: str, **option: Any) -> Reply:
        listed = [{"name": name, "option": option} for name in subscribers or ["worker"]]
        return self.client.send("POST", "/v1/topics", {"name": self.name, "subscribers": listed})

    def create(self, *subscribers: str, **option: Any) -> Json:
        """Make it with subscribers that all have the same option; one worker by default."""
        made: Json = self.try_create(*subscribers, **option).ok(201)
        return made

    def delete(self) -> Reply:
        return self.send("DELETE", "")

    def try_add(self, *subscribers: Any) -> Reply:
        """Add subscribers, given by name or whole."""
        listed = [{"name": each} if isinstance(each, str) else each for each in subscribers]
        return self.send("POST", "/subscribers", listed)

    def add(self, subscriber: str, **option: Any) -> None:
        self.try_add({"name": subscriber, "option": option}).ok(201)

    def remove(self, subscriber: str = "worker") -> Reply:
        return self.send("DELETE", self.of(subscriber))

    def counters(self, subscriber: str = "worker") -> tuple[int, int]:
        """Return how many deliveries are pending, and how many are delivered."""
        listed = self.client.all_of(f"{self.path}/subscribers", "subscribers")
        (found,) = [each for each in listed if each["name"] == subscriber]
        return found["unpublished_message"], found["unacked_message"]

    # Messages.

    def try_publish(
        self, message: str = "hi", *, wait_for: str | None = "commit", **members: Any
    ) -> Reply:
        body = {"message": message, **members}
        return self.send("POST", "/messages", body, wait_for=wait_for)

    def publish(self, message: str = "hi", **members: Any) -> str:
        """Store a new message; return its id."""
        receipt = self.try_publish(message, **members).ok()
        assert (receipt["state"], receipt["duplicate"]) == ("persisted", False)
        identity: str = receipt["message_id"]
        return identity

    def try_batch(self, messages: Iterable[Json], wait_for: str | None = "commit") -> Reply:
        return self.send("POST", "/messages/batch", list(messages), wait_for=wait_for)

    def publish_many(self, count: int, **members: Any) -> list[str]:
        """Store many new messages at once; return their ids."""
        batch = [{"message": str(number), **members} for number in range(count)]
        return [each["message_id"] for each in self.try_batch(batch).ok()]

    def status(self, message_id: str) -> Json:
        found: Json = self.send("GET", f"/messages/{message_id}").ok()
        assert found["id"] == message_id
        return found

    def delivery(self, message_id: str, subscriber: str = "worker") -> Json:
        """Return what a message's status says about one subscriber."""
        listed: list[Json] = self.status(message_id)["deliveries"]
        (found,) = [each for each in listed if each["subscriber"] == subscriber]
        return found

    def cancel_message(self, message_id: str, body: Any = None) -> Reply:
        return self.send("POST", f"/messages/{message_id}/cancel", body)

    # Claims and what ends them.

    def try_claim(self, subscriber: str = "worker", **query: Any) -> Reply:
        return self.send("POST", f"{self.of(subscriber)}/claim", **{"timeout": "10s", **query})

    def claim(self, subscriber: str = "worker", **query: Any) -> list[Json]:
        claimed: list[Json] = self.try_claim(subscriber, **query).ok()
        return claimed

    def claim_one(self, subscriber: str = "worker", **query: Any) -> Json:
        """Wait for the only message there is."""
        (delivery,) = self.claim(subscriber, **query)
        return delivery

    def has_nothing_for(self, subscriber: str = "worker") -> bool:
        """Say whether nothing can be claimed now."""
        return self.claim(subscriber, timeout="1ms") == []

    def start(self, path: str, body: Any = None, **query: Any) -> Pending:
        """Send a POST below the topic's path and do not wait for its answer."""
        return Pending(self.client.port, path_with(self.path + path, query), body)

    def park(self, subscriber: str = "worker", timeout: str = "30s") -> Pending:
        """Send a claim; return when the server has read it, and has most likely parked it."""
        parked = self.start(f"{self.of(subscriber)}/claim", timeout=timeout)
        for _ in range(3):
            self.send("GET", "/subscribers").ok()
        assert not parked.is_answered()
        return parked

    def on(
        self, message_id: str, verb: str, body: Any = None, subscriber: str = "worker", **query: Any
    ) -> Reply:
        """Send a request about one delivery, whatever its body."""
        method = "GET" if verb == "errors" else "POST"
        path = f"{self.of(subscriber)}/messages/{message_id}/{verb}"
        return self.send(method, path, body, **query)

    def settle(
        self, verb: str, delivery: Json, subscriber: str = "worker", **members: Any
    ) -> Reply:
        """Send a request under the receipt of a claim."""
        body = {"receipt_token": delivery["receipt_token"], **members}
        return self.on(delivery["id"], verb, body, subscriber)

    def ack(self, delivery: Json, subscriber: str = "worker") -> Reply:
        return self.settle("ack", delivery, subscriber)

    def nack(self, delivery: Json, subscriber: str = "worker", **members: Any) -> Reply:
        return self.settle("nack", delivery, subscriber, **members)

    def lease(self, delivery: Json, **members: Any) -> Reply:
        return self.settle("lease", delivery, **members)

    def snooze(self, delivery: Json, delay: str) -> Reply:
        return self.settle("snooze", delivery, delay=delay)

    def cancel(self, message_id: str, reason: str | None = None) -> Reply:
        body = None if reason is None else {"reason": reason}
        return self.on(message_id, "cancel", body)

    def batch(self, verb: str, items: Sequence[Json], subscriber: str = "worker") -> Reply:
        """Send a batch ack or nack."""
        return self.send("POST", f"{self.of(subscriber)}/messages/batch/{verb}", items)

    def errors(self, message_id: str, subscriber: str = "worker") -> list[Json]:
        path = f"{self.path}{self.of(subscriber)}/messages/{message_id}/errors"
        return self.client.all_of(path, "errors")

    def active(self, subscriber: str = "worker") -> list[Json]:
        return self.client.all_of(f"{self.path}{self.of(subscriber)}/messages", "messages")

    def dead(self, subscriber: str = "worker") -> list[Json]:
        return self.client.all_of(f"{self.path}{self.of(subscriber)}/dlq", "messages")

    def replay(self, *message_ids: str, subscriber: str = "worker") -> Reply:
        return self.send("POST", f"{self.of(subscriber)}/dlq/replay", {"message_ids": message_ids})

    # Schedules.

    def try_schedule(self, name: str = "nightly", cron: str = "0 0 1 1 *", **members: Any) -> Reply:
        body = {"name": name, "cron": cron, "message": "tick", **members}
        return self.send("POST", "/schedules", body)

    def schedule(self, name: str = "nightly", cron: str = "0 0 1 1 *", **members: Any) -> Json:
        """Make a schedule; by default it is not due before the next year."""
        made: Json = self.try_schedule(name, cron, **members).ok(201)
        return made

    def run_now(self, schedule: Json, force: str | None = None) -> Reply:
        return self.send("POST", f"/schedules/{schedule['id']}/run-now", force=force)

    def runs(self, schedule: Json) -> list[Json]:
        return self.client.all_of(f"{self.path}/schedules/{schedule['id']}/runs", "runs")


@contextlib.contextmanager
def v1_client(server: Server) -> Iterator[Client]:
    """Connect to a server for the length of a block."""
    client = Client(server.port)
    try:
        yield client
    finally:
        client.close()


def item(delivery: Json, **members: Any) -> Json:
    """Return a claimed delivery as an item of a batch ack or nack."""
    return {"message_id": delivery["id"], "receipt_token": delivery["receipt_token"], **members}
