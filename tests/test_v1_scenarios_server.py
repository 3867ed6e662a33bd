"""What a drop-in must pass as a server: its end, its health, its description, its old clients."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from . import http_server
from .http_server import PATIENCE_S, Server, serving, until
from .v1_client import Client, Reply, Topic, v1_client

_SUBSCRIBER = "/topics/{}/subscribers/{}"
_MESSAGES = "/topics/{}/messages"
_SCHEDULES = "/topics/{}/schedules"
# Every route of the contract, without the names of its parameters.
_ROUTES = {
    "/topics": "GET POST",
    "/topics/{}": "DELETE",
    "/topics/{}/pause": "POST",
    "/topics/{}/resume": "POST",
    "/topics/{}/subscribers": "GET POST",
    _SUBSCRIBER: "DELETE",
    f"{_SUBSCRIBER}/pause": "POST",
    f"{_SUBSCRIBER}/resume": "POST",
    _MESSAGES: "POST",
    f"{_MESSAGES}/batch": "POST",
    f"{_MESSAGES}/{{}}": "GET",
    f"{_MESSAGES}/{{}}/cancel": "POST",
    f"{_SUBSCRIBER}/claim": "POST",
    f"{_SUBSCRIBER}/messages": "GET",
    f"{_SUBSCRIBER}/messages/{{}}/ack": "POST",
    f"{_SUBSCRIBER}/messages/{{}}/nack": "POST",
    f"{_SUBSCRIBER}/messages/{{}}/lease": "POST",
    f"{_SUBSCRIBER}/messages/{{}}/snooze": "POST",
    f"{_SUBSCRIBER}/messages/{{}}/cancel": "POST",
    f"{_SUBSCRIBER}/messages/{{}}/errors": "GET",
    f"{_SUBSCRIBER}/messages/batch/ack": "POST",
    f"{_SUBSCRIBER}/messages/batch/nack": "POST",
    f"{_SUBSCRIBER}/dlq": "GET",
    f"{_SUBSCRIBER}/dlq/replay": "POST",
    _SCHEDULES: "GET POST",
    f"{_SCHEDULES}/{{}}": "GET DELETE PUT",
    f"{_SCHEDULES}/{{}}/pause": "POST",
    f"{_SCHEDULES}/{{}}/resume": "POST",
    f"{_SCHEDULES}/{{}}/run-now": "POST",
    f"{_SCHEDULES}/{{}}/runs": "GET",
}
_LISTS = (
    "/topics",
    "/topics/{}/subscribers",
    _SCHEDULES,
    f"{_SCHEDULES}/{{}}/runs",
    f"{_SUBSCRIBER}/messages",
    f"{_SUBSCRIBER}/messages/{{}}/errors",
    f"{_SUBSCRIBER}/dlq",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("v1") / "queue.db") as running:
        yield running


class Publishers:
    """Four that publish 25 messages each, until they have or until the server ends."""

    def __init__(self, server: Server, topic: str) -> None:
        self.stored: list[str] = []
        self._server, self._topic = server, topic
        self._threads = [
            threading.Thread(target=self._publish, args=(number,)) for number in range(4)
        ]
        for thread in self._threads:
            thread.start()

    def _publish(self, number: int) -> None:
        with v1_client(self._server) as client:
            orders = Topic(client, self._topic)
            wait_for = "commit" if number % 2 else None
            for turn in range(25):
                try:
                    reply = orders.try_publish(f"{number}-{turn}", wait_for=wait_for)
                except (OSError, http.client.HTTPException):
                    return  # it has ended
                self._note(reply)

    def _note(self, reply: Reply) -> None:
        if reply.status == 503:
            reply.check_problem(503, "service_unavailable")
        else:
            self.stored.append(reply.ok(reply.status)["message_id"])
            assert reply.status in {200, 202}

    def join(self) -> None:
        for thread in self._threads:
            thread.join(PATIENCE_S)


def test_e26_what_was_answered_before_a_sigterm_is_there_after_it(tmp_path: Path) -> None:
    """Every 200 and 202, and a receipt that is held."""
    db = tmp_path / "queue.db"
    with serving(db) as server, v1_client(server) as client:
        orders = client.fresh_topic()
        orders.create()
        orders.publish("held")
        held = orders.claim_one()
        publishers = Publishers(server, orders.name)
        until(lambda: len(publishers.stored) >= 30, "some are published")

        server.signal(signal.SIGTERM)

        publishers.join()
        assert server.wait() == 0, server.errors

    with serving(db) as server, v1_client(server) as client:
        orders = Topic(client, orders.name)
        for message_id in publishers.stored:
            orders.status(message_id)
        claimed = [each["id"] for each in orders.claim(limit=1000)]
        assert set(publishers.stored) <= set(claimed)
        assert len(claimed) == len(set(claimed))
        assert orders.ack(held).ok() == {"status": "processed"}


def test_e28_a_server_says_that_it_lives_and_is_ready(server: Server) -> None:
    """With empty answers."""
    for path in ("/livez", "/readyz"):
        answer = server.send("GET", path)
        assert (answer.status, answer.body) == (200, b"")


def described(server: Server) -> dict[str, Any]:
    answer = server.send("GET", "/openapi.json")
    assert answer.status == 200
    kind = answer.headers["Content-Type"].replace(" ", "")
    assert kind == "application/vnd.oai.openapi+json;version=3.1"
    found: dict[str, Any] = answer.json
    assert found["openapi"] == "3.1.0"
    assert [each["url"] for each in found["servers"]] == ["/v1"]
    return found


def bare(path: str) -> str:
    """Return a path without the names of its parameters and its last slash."""
    return re.sub(r"\{[^}]*\}", "{}", path).rstrip("/")


_METHODS = {"get", "put", "post", "delete", "patch", "head", "options", "trace"}


def test_e28_the_description_has_exactly_the_routes(server: Server) -> None:
    """Their methods too."""
    found: dict[str, set[str]] = {}
    for path, operations in described(server)["paths"].items():
        methods = {name.upper() for name in operations if name in _METHODS}
        found.setdefault(bare(path), set()).update(methods)

    assert found == {path: set(methods.split()) for path, methods in _ROUTES.items()}


def test_e28_the_description_has_the_parameters_of_lists(server: Server) -> None:
    """A limit and a cursor on each."""
    description = described(server)

    def names(holder: dict[str, Any]) -> set[str]:
        found: set[str] = set()
        for each in holder.get("parameters", []):
            parameter = each
            if "$ref" in each:
                parameter = description["components"]["parameters"][each["$ref"].split("/")[-1]]
            found.add(parameter["name"])
        return found

    pages = {
        bare(path): names(item) | names(item["get"])
        for path, item in description["paths"].items()
        if bare(path) in _LISTS
    }

    assert set(pages) == set(_LISTS)
    assert [path for path, found in pages.items() if not {"limit", "cursor"} <= found] == []


def test_e28_what_is_described_is_served(server: Server) -> None:
    """None of its routes is unknown, whatever else is wrong with the request."""
    for path, methods in _ROUTES.items():
        concrete = "/v1" + path.replace("{}", "nowhere")
        for method in methods.split():
            reply = server.send(method, concrete)
            assert reply.status != 405, (method, path)
            assert reply.headers["Content-Type"] != "text/plain", (method, path)
        wrong = server.send("PATCH", concrete)
        assert (wrong.status, wrong.body) == (405, b""), path
        allowed = {each.strip() for each in wrong.headers["Allow"].split(",")}
        assert set(methods.split()) <= allowed, path


def curl(server: Server, method: str, path: str, body: str | None = None) -> Any:
    """Send a request of the first release by curl; without one by other means."""
    program = shutil.which("curl")
    if program is None:
        return server.send(method, path, None if body is None else body.encode()).json
    url = f"http://127.0.0.1:{server.port}{path}"
    data = [] if body is None else ["--data", body]
    command = [program, "--silent", "--show-error", "--request", method, *data, url]
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE_S, check=True)
    return json.loads(done.stdout)


def test_e29_the_first_releases_calls_work_in_order(server: Server) -> None:
    """By curl, which sends forms by default and no timeout."""
    success = {"message": "success"}
    option = '"option":{"max_attempts":5,"visibility_duration":"5m"}'
    topic = f'{{"name":"cart","subscribers":[{{"name":"counter",{option}}}]}}'
    assert curl(server, "POST", "/topics", topic) == success
    assert curl(server, "POST", "/topics/cart/subscribers", '[{"name":"late"}]') == success
    assert curl(server, "POST", "/topics/cart/messages", '{"message":"hi"}') == success
    listed = curl(server, "GET", "/topics/cart/subscribers")
    assert listed["data"] == [
        {"name": name, "unpublished_message": 1, "unacked_message": 0}
        for name in ("counter", "late")
    ]
    reader = "/topics/cart/subscribers/counter"
    (message,) = curl(server, "GET", f"{reader}?timeout=5s")["data"]
    assert message["message"] == "hi"

    started = time.monotonic()
    assert curl(server, "GET", reader) == {**success, "data": []}
    assert time.monotonic() - started < 5

    assert curl(server, "DELETE", f"{reader}/messages/{message['id']}") == success
    again = curl(server, "DELETE", f"{reader}/messages/{message['id']}")
    assert again["message"] == "not found"
    assert curl(server, "DELETE", reader) == success
    assert curl(server, "DELETE", "/topics/cart") == success
    assert curl(server, "DELETE", "/topics/cart")["message"] == "not found"


def test_e30_one_attempt_of_the_first_contract_is_one_redelivery(server: Server) -> None:
    """Then no more; the second can be acked during its lease."""
    option = {"max_attempts": 1, "visibility_duration": "1s"}
    http_server.create_topic(server, "once", ["acks", "never"], **option)
    http_server.publish(server, "once", "hi")
    (first,) = http_server.read(server, "once", "acks", timeout="10s")
    (missed,) = http_server.read(server, "once", "never", timeout="10s")

    (second,) = http_server.read(server, "once", "acks", timeout="30s")

    assert second == first
    assert http_server.ack(server, "once", second["id"], "acks").status == 200
    assert http_server.counters(server, "once", "acks") == (0, 0)
    assert http_server.read(server, "once", "never", timeout="30s") == [missed]
    until(lambda: http_server.counters(server, "once", "never") == (0, 0), "it is dead")
    assert http_server.read(server, "once", "never", timeout="1s") == []


def test_both_contracts_serve_one_queue(server: Server) -> None:
    """What one publishes the other hands out."""
    client = Client(server.port)
    orders = client.fresh_topic()
    orders.create()

    http_server.publish(server, orders.name, "first")
    assert orders.claim_one()["message"] == "first"
    orders.publish("v1")
    read = http_server.read(server, orders.name, timeout="10s")

    assert [each["message"] for each in read] == ["v1"]
    client.close()
