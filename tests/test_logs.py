"""What the server and a worker log: as text or JSON, with the ids of what it is about."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from blockqueue import BlockQueue, Worker
from blockqueue.api._log_context import SubjectFilter, busy_with
from blockqueue.api._logs import JsonLines, TextLines
from blockqueue.api._request_info import RequestInfo

from .auth_helpers import make
from .embedded_helpers import eventually
from .http_server import PATIENCE_S, Server, child_environment, counters, serving, until

CART = {"name": "cart", "subscribers": [{"name": "worker"}]}
WORKER = "/v1/topics/cart/subscribers/worker"
SECRET = "s3cret-in-a-query"
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"
PUBLISH = {"X-Request-Id": "publish", "traceparent": PARENT}


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "queue.db"


def records(text: str) -> list[dict[str, Any]]:
    """Return a log in JSON, all of which must be that."""
    found: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
    for each in found:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", each["time"])
        assert {"level", "logger", "message", "pid"} <= each.keys()
    return found


def answered(server: Server, count: int) -> list[dict[str, Any]]:
    """Wait for that many records of answers; return them. They follow the answers."""

    def found() -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in server.errors.splitlines()]
        return [each for each in lines if each["logger"] == "blockqueue.access"]

    until(lambda: len(found()) >= count, f"{count} answers are logged")
    return found()


def test_a_server_logs_json_a_line_each_with_the_ids_of_its_requests(db: Path) -> None:
    """Of a parked poll, too, which is answered by another thread than the one that took it."""
    with serving(db, "--log-format", "json", "--access-log") as server:
        connection = server.connect()
        connection.send("POST", "/topics", CART, {"X-Request-Id": "make"})
        claim = threading.Thread(
            target=server.send,
            args=("POST", f"{WORKER}/claim?timeout=30s&token={SECRET}", None),
            kwargs={"headers": {"X-Request-Id": "claim"}},
        )
        claim.start()
        published = connection.send("POST", "/v1/topics/cart/messages", {"message": "hi"}, PUBLISH)
        claim.join(PATIENCE_S)
        connection.send("GET", f"/nowhere/{SECRET}", headers={"X-Request-Id": "lost"})
        message_id = published.json["data"]["message_id"]
        connection.send("GET", f"/v1/topics/cart/messages/{message_id}")
        connection.close()
        said = {each["request_id"]: each for each in answered(server, 5)}
        assert server.stop() == 0, server.errors

    found = records(server.errors)
    assert SECRET not in server.errors
    publish = said["publish"]
    assert publish["message_id"] == message_id
    assert (publish["method"], publish["route"], publish["status"], publish["topic"]) == (
        "POST",
        "/v1/topics/{topic}/messages",
        202,
        "cart",
    )
    assert publish["bytes"] == len(published.body)
    assert 0 < publish["ms"] < 1000 * PATIENCE_S
    assert publish["client"] == "127.0.0.1"
    assert publish["trace_id"] == TRACE_ID
    assert "trace_id" not in said["claim"]
    assert (said["claim"]["status"], said["claim"]["subscriber"]) == (200, "worker")
    assert said["claim"]["ms"] > 0
    assert (said["lost"]["status"], said["lost"]["route"]) == (404, None)
    (looked,) = [each for each in said.values() if str(each["route"]).endswith("{id}")]
    assert looked["message_id"] == message_id
    assert re.fullmatch("[0-9a-f]{32}", looked["request_id"])
    (act,) = [each for each in found if each["logger"] == "blockqueue.audit"]
    assert (act["message"], act["level"], act["request_id"]) == ("POST /topics", "INFO", "make")
    assert act["audit"] == {"from": "127.0.0.1", "topic": "cart", "status": 200}


def test_what_is_no_request_at_all_is_in_the_access_log(db: Path) -> None:
    with serving(db, "--log-format", "json", "--access-log") as server:
        server.say(b"BREW /coffee\r\n\r\n")
        server.say(b"GET /v1/topics HTTP/1.1\r\nX-Request-Id: none\r\n\r\n")
        first, second = answered(server, 2)
    assert (first["status"], first["route"]) == (400, None)
    assert (second["status"], second["method"], second["request_id"]) == (400, "GET", "none")


def test_the_access_log_is_off_unless_it_is_asked_for(db: Path) -> None:
    with serving(db, environment={"BLOCKQUEUE_LOG_FORMAT": "json", "BLOCKQUEUE_PORT": "0"}) as one:
        assert one.send("GET", "/v1/topics").status == 200
        assert one.stop() == 0, one.errors
    assert records(one.errors) == []


def test_workers_of_a_server_log_as_it_was_told(db: Path) -> None:
    with serving(db, "--log-format", "json", "--access-log", "--workers", "2") as server:
        assert server.send("GET", "/v1/topics").status == 200
        (found,) = answered(server, 1)
        assert server.stop() == 0, server.errors
    assert found["pid"] != server.process.pid
    assert records(server.errors)


def test_a_failure_of_a_request_is_logged_with_its_id(db: Path) -> None:
    """A bug, with its traceback inside the one line."""
    broken = (
        "import sys\n"
        "from blockqueue.api.queue import BlockQueue\n"
        "def fail(self, *rest): raise RuntimeError('a bug')\n"
        "BlockQueue.delete_topic = fail\n"
        "from blockqueue.api.cli import main\n"
        "main()\n"
    )
    server = Server(db, "--log-format", "json", launcher=broken)
    try:
        server.send("POST", "/topics", CART)
        for path in ("/topics/cart", "/v1/topics/cart"):
            answer = server.send("DELETE", path, headers={"X-Request-Id": path})
            assert answer.status == 500
        assert server.stop() == 0, server.errors
    finally:
        server.close()
    failed = [each for each in records(server.errors) if each["logger"] == "blockqueue.http"]
    assert [each["request_id"] for each in failed] == ["/topics/cart", "/v1/topics/cart"]
    for each in failed:
        assert (each["level"], each["topic"]) == ("ERROR", "cart")
        assert each["exception"].startswith("Traceback")
        assert each["exception"].endswith("RuntimeError: a bug")


def test_text_is_a_line_a_record_with_the_ids_at_its_end(db: Path) -> None:
    with serving(db, "--access-log") as server:
        server.send("DELETE", "/v1/topics/a%0Ab%22", headers={"X-Request-Id": "re 1"})
        until(lambda: "answered" in server.errors, "the answer is logged")
        assert server.stop() == 0, server.errors
    (line,) = [line for line in server.errors.splitlines() if "answered" in line]
    assert line.endswith(r'client=127.0.0.1 request_id="re 1" topic="a\nb\""')
    assert " INFO blockqueue.access answered method=DELETE route=/v1/topics/{topic} " in line
    assert " status=404 ms=" in line


def test_less_is_logged_if_that_is_wanted(db: Path, tmp_path: Path) -> None:
    """By the file, as any option."""
    config = tmp_path / "blockqueue.toml"
    config.write_text('log-level = "warning"\n[serve]\naccess-log = true\n')
    make(db, "ops")
    with serving(db, directory=tmp_path) as server:
        assert server.send("GET", "/v1/topics").status == 401
        assert server.stop() == 0, server.errors
    (line,) = server.errors.splitlines()
    assert " WARNING blockqueue.audit GET /v1/topics audit=" in line
    assert '"status": 401' in line


def test_refusals_do_not_fill_the_log(db: Path) -> None:
    make(db, "ops")
    with serving(db, "--log-format", "json") as server:
        connection = server.connect()
        for _ in range(300):
            assert connection.send("GET", "/v1/topics").status == 401
        connection.close()
        assert server.stop() == 0, server.errors
    assert 1 <= len(records(server.errors)) < 60


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_start_that_fails_is_a_record_too(tmp_path: Path, workers: str) -> None:
    command = [sys.executable, "-m", "blockqueue", "serve", "--db", str(tmp_path / "no/queue.db")]
    done = subprocess.run(
        [*command, "--port", "0", "--log-format", "json", "--workers", workers],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    (found,) = records(done.stderr)
    assert (done.returncode, found["level"]) == (1, "CRITICAL")
    assert str(tmp_path / "no") in found["message"]


# A worker.

_HANDLERS = """\
import logging, warnings

def handle(message: str) -> None:
    logging.getLogger("shop").info("begins", extra={"order": 22})
    warnings.warn("old")
    if message == "bad":
        raise ValueError("no such order")

async def handle_later(message: str) -> None:
    handle(message)
"""


@pytest.mark.parametrize("handler", ["handle", "handle_later"])
def test_what_a_handler_logs_says_which_message_it_is_about(
    db: Path, tmp_path: Path, handler: str
) -> None:
    (tmp_path / "shop.py").write_text(_HANDLERS)
    with BlockQueue(db) as queue:
        queue.create_topic("cart", ["worker"])
        headers = {"traceparent": PARENT}
        ids = [queue.publish("cart", text, headers=headers).id for text in ("good", "bad")]
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "blockqueue", "work", f"shop:{handler}", "cart", "worker"),
                *("--db", str(db), "--log-format", "json"),
            ],
            env=child_environment(),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            until(lambda: failures(queue, ids[1]) == 1, "both are handled")
        finally:
            process.terminate()
            _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, errors
    found = records(errors)
    place = {"topic": "cart", "subscriber": "worker", "trace_id": TRACE_ID}
    begun = [each for each in found if each["logger"] == "shop"]
    assert [each["message_id"] for each in begun] == ids
    assert all(place.items() <= each.items() and each["order"] == 22 for each in begun)
    (failed,) = [each for each in found if each["logger"] == "blockqueue.worker"]
    assert failed["message_id"] == ids[1]
    assert "ValueError: no such order" in failed["exception"]
    assert [each for each in found if each["logger"] == "py.warnings"]


def failures(queue: BlockQueue, message_id: str) -> int:
    (delivery,) = queue.message("cart", message_id).deliveries
    return delivery.failure_count


def test_what_a_worker_itself_logs_says_whose_jobs_it_does(
    queue: BlockQueue, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.handler.addFilter(SubjectFilter())
    caplog.set_level(logging.INFO, "blockqueue.worker")
    queue.pause("cart", "worker")
    with Worker(queue, "cart", "worker", lambda job: None):
        eventually(lambda: "cart/worker is paused" in caplog.messages)
    (said,) = [each for each in caplog.records if "is paused" in each.getMessage()]
    assert (vars(said)["topic"], vars(said)["subscriber"]) == ("cart", "worker")


@pytest.mark.parametrize("level", ["info", pytest.param("debug", marks=pytest.mark.slow)])
def test_a_worker_over_http_does_not_log_each_request(db: Path, tmp_path: Path, level: str) -> None:
    """Unless everything is to be seen."""
    (tmp_path / "shop.py").write_text("def handle(message: str) -> None: ...\n")
    with serving(db) as server:
        server.send("POST", "/topics", CART)
        server.send("POST", "/topics/cart/messages", {"message": "hi"})
        process = subprocess.Popen(
            [
                *(sys.executable, "-u", "-m", "blockqueue", "work", "shop:handle", "cart"),
                *("worker", "--url", f"http://127.0.0.1:{server.port}", "--log-level", level),
            ],
            env=child_environment(),
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            until(lambda: counters(server, "cart") == (0, 0), "the job is done")
        finally:
            process.terminate()
            _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, errors
    assert ("HTTP Request" in errors) is (level == "debug")


# The formatters.


def record(name: str = "shop", message: str = "hi", **extra: object) -> logging.LogRecord:
    made = logging.LogRecord(name, logging.INFO, "file", 1, message, (), None)
    vars(made).update(extra)
    return made


def test_nothing_in_a_record_looks_like_another_line() -> None:
    nasty = 'a\n2026-01-01 ERROR forged\r\x1b[31m\x85\u2028"'
    for formatter in (TextLines(), JsonLines()):
        line = formatter.format(record(message=nasty, topic=nasty))
        assert len(line.splitlines()) == 1
        assert line.isascii()
    assert json.loads(JsonLines().format(record(message=nasty)))["message"] == nasty


def test_json_takes_whatever_a_record_has() -> None:
    odd: dict[str, Any] = {
        "surrogate": "\ud800",
        "number": float("nan"),
        "thing": object(),
        "path": Path("/a"),
    }
    said = json.loads(JsonLines().format(record(**odd)))
    assert said["path"] == "/a"
    assert said["surrogate"] == "\ud800"


def test_actors_work_for_many_and_their_records_are_about_none() -> None:
    request = RequestInfo("GET", "one")
    busy_with(request)
    try:
        for name, expected in (("blockqueue", None), ("pykka", None), ("shop", "one")):
            made = record(name)
            assert SubjectFilter().filter(made)
            assert getattr(made, "request_id", None) == expected
        kept = record(request_id="own")
        SubjectFilter().filter(kept)
        assert vars(kept)["request_id"] == "own"
    finally:
        busy_with(None)


def test_in_json_what_ends_by_a_bug_is_a_record(tmp_path: Path) -> None:
    """Of the process, of a thread, and of what nobody can be told."""
    text = """
import threading
from blockqueue.api._logs import configure

class Thing:
    def __del__(self):
        raise KeyError("unheard")

def fail():
    raise ValueError("in a thread")

configure("json", "info")
Thing()
thread = threading.Thread(target=fail)
thread.start()
thread.join()
raise LookupError("at last")
"""
    done = subprocess.run(
        [sys.executable, "-c", text],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 1
    ends = [each["exception"].splitlines()[-1] for each in records(done.stderr)]
    assert ends == ["KeyError: 'unheard'", "ValueError: in a thread", "LookupError: at last"]
