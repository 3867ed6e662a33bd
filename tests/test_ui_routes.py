"""What the dashboard is made of and what it reads, without a browser."""

from __future__ import annotations

import base64
import gzip
import re
from typing import Any

import falcon.testing
import pytest

from blockqueue import BlockQueue, ManualClock, ScheduleSpec, Subscriber, storage
from blockqueue.api.app import create_app
from blockqueue.storage._hints import Hints

HOST = {"Host": "localhost:8080"}
TOPIC = "/ui/api/topics/cart"


@pytest.fixture
def client(queue: BlockQueue) -> falcon.testing.TestClient:
    queue.add_subscribers("cart", ["audit"])
    return falcon.testing.TestClient(create_app(queue), headers=HOST)


def get(client: falcon.testing.TestClient, path: str, **headers: str) -> falcon.testing.Result:
    found = client.simulate_get(path, headers=headers)
    assert found.status_code == 200, found.text
    return found


def test_a_page_names_only_files_that_are_there(client: falcon.testing.TestClient) -> None:
    """Each script, style and picture, and what scripts import, each with its type."""
    waiting, seen = ["/ui"], {}
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        found = seen[path] = get(client, path)
        named = re.findall(r'(?:src|href)="(/ui/[^"]+)"', found.text)
        named += [f"/ui/{name}" for name in re.findall(r'from "\./([^"]+)"', found.text)]
        waiting += named
    assert len(seen) > 15
    types = {path.rpartition(".")[2]: each.headers["content-type"] for path, each in seen.items()}
    assert types["js"] == "text/javascript; charset=utf-8"
    assert types["css"] == "text/css; charset=utf-8"
    assert types["svg"] == "image/svg+xml"
    assert seen["/ui"].headers["content-type"] == "text/html; charset=utf-8"
    assert get(client, "/").text == seen["/ui"].text


def test_a_page_may_load_and_run_nothing_else(client: falcon.testing.TestClient) -> None:
    """Neither what is inline nor what is from elsewhere."""
    page = get(client, "/ui")
    rules = page.headers["content-security-policy"].split("; ")
    assert "default-src 'none'" in rules
    assert "require-trusted-types-for 'script'" in rules
    assert {"frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"} <= set(rules)
    assert "unsafe" not in page.headers["content-security-policy"]
    assert re.findall("https?:", page.text) == []
    assert "set-cookie" not in page.headers
    assert re.findall(r"<script(?![^>]*src=)|style=|\son\w+=", page.text) == []


@pytest.mark.parametrize("name", ["nothing.js", "__init__.py", "..%2Fviews.py", "%00"])
def test_no_other_file_is_given(client: falcon.testing.TestClient, name: str) -> None:
    assert client.simulate_get(f"/ui/{name}").status_code == 404


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [
        ("gzip", True),
        ("br, gzip;q=0.5", True),
        ("GZIP ; q=1.0", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("br", False),
        ("", False),
    ],
)
def test_what_is_sent_is_compressed_for_who_takes_it(
    client: falcon.testing.TestClient, accepted: str, packed: bool
) -> None:
    """And for nobody else; caches are told."""
    plain = get(client, "/ui/style.css")
    found = get(client, "/ui/style.css", **{"Accept-Encoding": accepted})
    assert found.headers.get("content-encoding") == ("gzip" if packed else None)
    assert (gzip.decompress(found.content) if packed else found.content) == plain.content
    assert found.headers["etag"] == plain.headers["etag"]
    assert found.headers["vary"] == "Accept-Encoding"


@pytest.mark.parametrize("path", ["/ui/app.js", "/ui/api/topics", f"{TOPIC}/subscribers/worker"])
def test_what_has_not_changed_is_not_sent_again(
    client: falcon.testing.TestClient, queue: BlockQueue, clock: ManualClock, path: str
) -> None:
    """But at once when something was done."""
    etag = get(client, path).headers["etag"]
    clock.advance(1_000)
    again = client.simulate_get(path, headers={"If-None-Match": etag})
    assert (again.status_code, again.content) == (304, b"")
    queue.publish("cart", "hi")
    changed = client.simulate_get(path, headers={"If-None-Match": etag})
    assert changed.status_code == (304 if path.endswith(".js") else 200)


def test_nothing_is_looked_up_while_nothing_is_written(
    client: falcon.testing.TestClient, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page is told the time all the same, for the ages that it shows."""
    etag = get(client, "/ui/api/topics").headers["etag"]
    clock.advance(1_000)
    with monkeypatch.context() as patched:
        patched.setattr(BlockQueue, "topic_summaries", None)  # a look would fail
        again = client.simulate_get("/ui/api/topics", headers={"If-None-Match": etag})
    assert again.status_code == 304
    assert int(again.headers["X-BlockQueue-Now"]) == clock.now_ms()


def test_what_time_does_is_seen(
    client: falcon.testing.TestClient, queue: BlockQueue, clock: ManualClock
) -> None:
    """Whatever a view shows is written by somebody, also the end of a lease."""
    queue.publish("cart", "hi")
    queue.claim("cart", "worker", limit=1, lease=1)
    leased = get(client, f"{TOPIC}/subscribers/worker")
    clock.advance(1_001)
    storage.expire(queue.system.store)  # or the sweeper was faster
    found = get(
        client, f"{TOPIC}/subscribers/worker", **{"If-None-Match": leased.headers["etag"]}
    ).json
    assert (leased.json["items"][0]["state"], found["items"][0]["state"]) == ("leased", "waiting")


def test_a_commit_that_was_not_counted_is_seen_later(
    client: falcon.testing.TestClient,
    queue: BlockQueue,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A process that is killed right after its commit does not tell the others of it."""
    known = {"If-None-Match": get(client, "/ui/api/topics").headers["etag"]}
    monkeypatch.setattr(Hints, "count_commit", lambda _: None)
    queue.publish("cart", "hi")
    assert client.simulate_get("/ui/api/topics", headers=known).status_code == 304
    clock.advance(10_000)
    assert get(client, "/ui/api/topics", **known).json["total"]["published"] == 1


def test_topics_are_counted(client: falcon.testing.TestClient, queue: BlockQueue) -> None:
    """All of them, and some are listed: by name, or by what there is the most of."""
    queue.create_topic("orders", ["worker"])
    queue.pause("cart", "audit")
    queue.publish_many("cart", ["one", "two"])
    queue.publish("orders", "three", delay=60)
    queue.claim("cart", "worker", limit=1)[0].nack(error="no")
    found = get(client, "/ui/api/topics?order=pending&limit=1").json
    assert found["found"] == 2
    assert found["total"] == {
        "pending": 5, "waiting": 2, "leased": 0, "dead": 0, "done": 0, "published": 3,
    }  # fmt: skip
    (cart,) = found["items"]
    assert (cart["name"], cart["pending"], cart["subscribers"]) == ("cart", 4, 2)
    assert (cart["paused"], cart["paused_subscribers"]) == (False, 1)
    second = get(client, "/ui/api/topics?order=pending&limit=1&offset=1").json
    assert [each["name"] for each in second["items"]] == ["orders"]
    assert second["total"] == found["total"]
    searched = get(client, "/ui/api/topics?search=ORD").json
    assert [each["name"] for each in searched["items"]] == ["orders"]


@pytest.mark.parametrize("asked", ["order=size", "offset=-1", "offset=x"])
@pytest.mark.parametrize("path", ["/ui/api/topics", TOPIC])
def test_what_cannot_be_asked_is_said(
    client: falcon.testing.TestClient, path: str, asked: str
) -> None:
    found = client.simulate_get(f"{path}?{asked}")
    assert found.status_code == 400
    assert asked.partition("=")[0] in found.text


def test_a_topic_tells_its_subscribers(
    client: falcon.testing.TestClient, queue: BlockQueue
) -> None:
    """With their options."""
    queue.pause("cart", "audit")
    queue.publish("cart", "hi")
    found = get(client, TOPIC).json
    assert found["topic"]["name"] == "cart"
    assert [(each["name"], each["paused"]) for each in found["items"]] == [
        ("audit", True),
        ("worker", False),
    ]
    assert found["items"][0]["max_attempts"] == 3
    assert found["total"]["published"] == 1


def test_a_subscriber_tells_its_messages(
    client: falcon.testing.TestClient, queue: BlockQueue
) -> None:
    """Page by page, the newest first."""
    queue.publish_many("cart", [f"message {number}" for number in range(5)])
    path = f"{TOPIC}/subscribers/audit"
    newest = get(client, f"{path}?limit=3").json
    assert [each["preview"] for each in newest["items"]] == [f"message {n}" for n in (4, 3, 2)]
    rest = get(client, f"{path}?limit=3&cursor={newest['next_cursor']}").json
    assert [each["preview"] for each in rest["items"]] == ["message 1", "message 0"]
    assert rest["next_cursor"] is None
    assert newest["subscriber"]["published"] == 5
    assert client.simulate_get(f"{path}?list=all").status_code == 400


def test_a_dead_letter_tells_why(client: falcon.testing.TestClient, queue: BlockQueue) -> None:
    """And what it was, shortened."""
    queue.add_subscribers("cart", [Subscriber("strict", max_attempts=1)])
    queue.publish("cart", "x" * 1_000)
    queue.claim("cart", "strict", limit=1)[0].nack(error="broken <b>")
    (letter,) = get(client, f"{TOPIC}/subscribers/strict?list=dead").json["items"]
    assert (letter["reason"], letter["state"]) == ("broken <b>", "dead")
    assert letter["preview"] == "x" * 200


def test_schedules_tell_their_next_run_and_the_last_ones(
    client: falcon.testing.TestClient, queue: BlockQueue
) -> None:
    """The runs only of those that are open, and of none that is gone."""
    made = queue.schedules("cart").create(ScheduleSpec("nightly", "30 2 * * *", "go " * 100))
    other = queue.schedules("cart").create(ScheduleSpec("weekly", "0 0 * * 0", b"\xff"))
    run = queue.schedules("cart").run_now(made.uid)
    found = get(client, f"{TOPIC}/schedules?limit=1&open={made.uid},{other.uid},none").json
    (nightly,) = found["items"]
    assert (nightly["name"], nightly["next_run_ms"]) == ("nightly", made.next_run_ms)
    assert len(nightly["preview"]) == 200
    assert [(each["message_id"], each["status"]) for each in nightly["runs"]] == [
        (run.message_id, "running")
    ]
    rest = get(client, f"{TOPIC}/schedules?cursor={found['next_cursor']}").json
    assert [each["name"] for each in rest["items"]] == ["weekly"]
    assert "runs" not in rest["items"][0]
    assert (rest["next_cursor"], rest["topic_paused"]) == (None, False)


@pytest.mark.parametrize("payload", ["text \u2028 </script>", b"\xff\x00", "", b""])
def test_a_message_is_told_to_the_byte(
    client: falcon.testing.TestClient, queue: BlockQueue, payload: Any
) -> None:
    """Whether it is text or not."""
    headers = {"from": "a" * 16_000}
    receipt = queue.publish(
        "cart", payload, headers=headers, correlation_id="c", idempotency_key="key"
    )
    found = get(client, f"{TOPIC}/messages/{receipt.id}").json
    told = found.get("text")
    if told is None:
        told = base64.b64decode(found["base64"])
    assert told == payload
    assert found["headers"] == headers
    assert (found["correlation_id"], found["idempotency_key"]) == ("c", "key")
    assert {each["subscriber"] for each in found["deliveries"]} == {"worker", "audit"}


@pytest.mark.parametrize(
    "path",
    [
        "/ui/api/topics/none",
        f"{TOPIC}/subscribers/none",
        f"{TOPIC}/messages/none",
        "/ui/api/topics/none/schedules",
        "/ui/api/topics/none/subscribers/worker",
    ],
)
def test_what_is_not_there_is_not_found(client: falcon.testing.TestClient, path: str) -> None:
    assert client.simulate_get(path).status_code == 404
