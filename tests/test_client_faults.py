"""The client and what networks, proxies and overworked servers do to its requests."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from blockqueue import (
    AlreadyExists,
    BackPressure,
    BlockQueueError,
    CommitUnknown,
    DiskFull,
    LeaseLost,
    QueueClosed,
    ScheduleSpec,
    TopicNotFound,
    Unavailable,
    ValidationError,
)
from blockqueue.client import (
    AnswerLost,
    Client,
    ServerUnreachable,
    StrangeAnswer,
    _publishing,
    _sync,
)
from blockqueue.client._errors import is_doubtful
from blockqueue.client._requests import Answer
from blockqueue.client._tries import Tries

from .client_faces import Open
from .client_fixtures import client, opening, proxy, server, through, topic
from .client_proxy import HTML, JSON, PROBLEM, Proxy
from .crash_server import free_port
from .http_server import PATIENCE_S

__all__ = ["client", "opening", "proxy", "server", "through", "topic"]

PUBLISH = "/messages?"
CLAIM = "/claim?"


def problem(code: str, detail: str = "it is so") -> str:
    return json.dumps({"type": "x", "title": "x", "status": 0, "detail": detail, "code": code})


def messages(client: Client, topic: str) -> list[str]:
    return [each.message for each in client.active(topic, "worker")]


@pytest.mark.parametrize("fault", ["lose_answers", "lose_requests"])
def test_a_publish_whose_answer_is_cut_is_one_message(
    client: Client, through: Client, proxy: Proxy, topic: str, fault: str
) -> None:
    getattr(proxy, fault)(PUBLISH, 2)
    receipt = through.publish(topic, "hi")
    assert receipt.duplicate is False
    assert proxy.count(PUBLISH) == 3
    assert [each.message_id for each in client.active(topic, "worker")] == [receipt.id]


def test_a_batch_whose_answer_is_cut_is_written_once(
    client: Client, through: Client, proxy: Proxy, topic: str
) -> None:
    proxy.lose_answers("/batch?")
    receipts = through.publish_many(topic, ["a", "a", "b"])
    assert [each.duplicate for each in receipts] == [False] * 3
    assert sorted(messages(client, topic)) == ["a", "a", "b"]


def test_control_without_keys_a_cut_answer_makes_two_messages(
    client: Client, through: Client, proxy: Proxy, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_publishing, "_new_key", str)
    proxy.lose_answers(PUBLISH)
    through.publish(topic, "hi")
    assert messages(client, topic) == ["hi", "hi"]


def test_the_keys_of_later_publishes_are_larger(
    client: Client, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server keeps them in order, and the end is the cheapest place."""
    now_ns = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now_ns)
    receipts = client.publish_many(topic, ["m"] * 12)
    for _ in range(3):
        now_ns += 1_000_000
        receipts.append(client.publish(topic, "m"))
    keys = [_key(client, topic, receipt.id) for receipt in receipts]
    assert keys == sorted(keys)


def test_keys_of_the_same_moment_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    now_ns = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now_ns)
    new_key = _publishing._new_key
    assert len({new_key() for _ in range(1000)}) == 1000


def test_a_slow_server_gets_a_publish_twice_and_keeps_it_once(
    client: Client, opening: Open, proxy: Proxy, topic: str
) -> None:
    with opening(proxy.url, timeout=1.5) as impatient:
        held = proxy.hold(PUBLISH)
        receipt = impatient.publish(topic, "hi")
    held.set()
    proxy.wait_for(PUBLISH, 2)
    again = client.publish(topic, "hi", idempotency_key=_key(client, topic, receipt.id))
    assert (again.id, again.duplicate) == (receipt.id, True)
    assert messages(client, topic) == ["hi"]


def _key(client: Client, topic: str, message_id: str) -> str:
    key = client.message(topic, message_id).idempotency_key
    assert key is not None
    return key


def test_an_answer_that_never_ends_is_given_up_in_time(
    client: Client, opening: Open, proxy: Proxy, topic: str
) -> None:
    """A byte now and then does not keep a call from its deadline."""
    with opening(proxy.url, timeout=1.5) as impatient:
        proxy.dribble(PUBLISH)
        receipt = impatient.publish(topic, "hi")
        assert [each.message_id for each in client.active(topic, "worker")] == [receipt.id]
        proxy.dribble(PUBLISH, 99)
        with pytest.raises(AnswerLost, match="slowly"):
            impatient.publish(topic, "hi")
    assert proxy.count(PUBLISH) <= 7


def test_acks_and_deletes_are_repeated_until_they_are_answered(
    client: Client, through: Client, proxy: Proxy, topic: str
) -> None:
    through.publish_many(topic, ["a", "b"])
    claimed = through.claim(topic, "worker", limit=2, wait=5)
    proxy.lose_answers("/batch/ack")
    through.ack(topic, "worker", claimed)
    assert proxy.count("/batch/ack") == 2
    proxy.lose_answers("DELETE")
    through.delete_subscriber(topic, "worker")
    proxy.lose_answers("DELETE")
    through.delete_topic(topic)
    with pytest.raises(TopicNotFound):
        through.delete_topic(topic)


def test_control_a_delete_that_was_not_in_doubt_finds_nothing(
    through: Client, proxy: Proxy, topic: str
) -> None:
    """Only a lost answer turns "not found" into success."""
    proxy.answer("DELETE", 503, problem("service_unavailable"), PROBLEM)
    with pytest.raises(TopicNotFound):
        through.delete_topic("nowhere")
    assert proxy.count("DELETE") == 2


def test_a_conflict_after_a_lost_answer_says_that_it_may_be_ones_own(
    through: Client, proxy: Proxy, topic: str
) -> None:
    proxy.lose_answers("POST /v1/topics")
    with pytest.raises(AlreadyExists, match="perhaps by this call"):
        through.create_topic(topic + "-new", ["a"])
    through.publish(topic, "hi")
    claimed = through.claim(topic, "worker", wait=5)
    proxy.lose_answers("/batch/nack")
    with pytest.raises(LeaseLost) as caught:
        through.nack(topic, "worker", claimed, delay="1h")
    assert caught.value.lost == (claimed[0].id,)


def test_a_claim_whose_answer_is_lost_is_not_repeated(
    client: Client, through: Client, proxy: Proxy, topic: str
) -> None:
    """Claiming again would lease other messages; these come when their lease runs out."""
    client.publish_many(topic, ["a", "b"])
    proxy.lose_answers(CLAIM)
    with pytest.raises(AnswerLost):
        through.claim(topic, "worker", limit=1, wait=5)
    assert proxy.count(CLAIM) == 1
    assert sorted(each.status for each in client.active(topic, "worker")) == [
        "delivered",
        "pending",
    ]


def test_what_was_never_begun_is_claimed_after_all(
    client: Client, through: Client, proxy: Proxy, topic: str
) -> None:
    client.publish(topic, "hi")
    proxy.answer(CLAIM, 503, problem("service_unavailable"), PROBLEM, times=2)
    (delivery,) = through.claim(topic, "worker", wait=5)
    assert delivery.message == "hi"
    assert proxy.count(CLAIM) == 3


def test_a_schedule_is_not_run_twice_for_a_lost_answer(
    client: Client, through: Client, proxy: Proxy, topic: str
) -> None:
    made = client.schedules(topic).create(ScheduleSpec("n", "0 0 1 1 *", "x"))
    proxy.lose_answers("/run-now")
    with pytest.raises(AnswerLost):
        through.schedules(topic).run_now(made.uid, force=True)
    assert messages(client, topic) == ["x"]


def test_control_a_client_that_repeats_everything_leases_and_runs_twice(
    client: Client, through: Client, proxy: Proxy, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tries, "_again", lambda self, error: is_doubtful(error))
    client.publish_many(topic, ["a", "b"])
    proxy.lose_answers(CLAIM)
    through.claim(topic, "worker", limit=1, wait=5)
    assert [each.status for each in client.active(topic, "worker")] == ["delivered"] * 2
    made = client.schedules(topic).create(ScheduleSpec("n", "0 0 1 1 *", "x"))
    proxy.lose_answers("/run-now")
    through.schedules(topic).run_now(made.uid, force=True)
    assert messages(client, topic).count("x") == 2


def test_no_server_is_said_at_the_deadline(opening: Open) -> None:
    with opening(f"http://127.0.0.1:{free_port()}", timeout=0.5) as lonely:
        with pytest.raises(ServerUnreachable, match="no connection to http:"):
            lonely.topics()
        assert issubclass(ServerUnreachable, Unavailable)


def test_a_lost_answer_is_not_forgotten_when_the_server_goes(
    through: Client, proxy: Proxy, topic: str
) -> None:
    """What may have been done is never reported as not done, whatever comes after."""
    proxy.lose_answers(PUBLISH)
    full = problem("service_unavailable")
    headers = PROBLEM | {"X-BlockQueue-Error": "DiskFull", "Retry-After": "60"}
    proxy.answer(PUBLISH, 503, full, headers)
    with pytest.raises(AnswerLost, match="it may have been done") as caught:
        through.publish(topic, "hi")
    assert isinstance(caught.value, CommitUnknown)
    proxy.answer(PUBLISH, 503, full, headers)
    with pytest.raises(DiskFull):
        through.publish(topic, "hi")


def test_control_the_last_error_alone_would_deny_what_was_done(
    client: Client, through: Client, proxy: Proxy, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trusting(self: Tries, error: BlockQueueError) -> Answer:
        raise error

    monkeypatch.setattr(Tries, "verdict", trusting)
    proxy.lose_answers(PUBLISH)
    headers = PROBLEM | {"X-BlockQueue-Error": "DiskFull", "Retry-After": "60"}
    proxy.answer(PUBLISH, 503, problem("service_unavailable"), headers)
    with pytest.raises(DiskFull):
        through.publish(topic, "hi")
    assert messages(client, topic) == ["hi"]


def test_a_client_waits_as_long_as_it_is_told(through: Client, proxy: Proxy, topic: str) -> None:
    headers = PROBLEM | {"Retry-After": "1"}
    proxy.answer(PUBLISH, 429, problem("buffer_pressure"), headers)
    through.publish(topic, "hi")
    first, second = proxy.times(PUBLISH)
    assert second - first >= 1


def test_a_client_does_not_wait_beyond_its_deadline(
    through: Client, proxy: Proxy, topic: str
) -> None:
    headers = PROBLEM | {"Retry-After": "60"}
    proxy.answer(PUBLISH, 429, problem("buffer_pressure", "too much"), headers)
    with pytest.raises(BackPressure, match="too much"):
        through.publish(topic, "hi")
    assert proxy.count(PUBLISH) == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("CommitUnknown", CommitUnknown),
        ("DiskFull", DiskFull),
        ("QueueClosed", QueueClosed),
        ("", Unavailable),
        ("SomethingNewer", Unavailable),
    ],
)
def test_errors_of_one_code_are_told_apart_by_name(
    opening: Open, proxy: Proxy, name: str, expected: type[BlockQueueError]
) -> None:
    headers = PROBLEM | {"X-BlockQueue-Error": name, "Retry-After": "9"}
    proxy.answer("/v1/topics", 503, problem("service_unavailable"), headers)
    with opening(proxy.url, timeout=1) as through, pytest.raises(expected) as caught:
        through.topics()
    assert type(caught.value) is expected


@pytest.mark.parametrize(
    ("status", "body", "headers", "says"),
    [
        (200, "<html>Welcome</html>", HTML, "Welcome"),
        (200, '{"data":17}', JSON, "Expected"),
        (200, '{"data":', JSON, "truncated"),
        (200, "", {}, "no content type"),
        (200, '{"data":"\\ud800"}', JSON, "data"),
        (404, "<h1>Not Found</h1>", HTML, "404"),
        (500, "oops", {"Content-Type": "text/plain"}, "oops"),
        (400, "not json", PROBLEM, "not json"),
        (301, "", {"Location": "https://example.org/"}, "https://example.org/"),
    ],
)
def test_what_is_no_server_of_ours_is_said_so(
    opening: Open, proxy: Proxy, status: int, body: str, headers: dict[str, str], says: str
) -> None:
    proxy.answer("/v1/topics", status, body, headers)
    with opening(proxy.url, timeout=5) as through, pytest.raises(StrangeAnswer, match=says):
        through.topics()
    assert proxy.count("/v1/topics") == 1


def test_a_gateway_that_finds_no_server_is_asked_again(
    through: Client, proxy: Proxy, topic: str
) -> None:
    for status in (502, 503, 504):
        proxy.answer(PUBLISH, status, "<html>Bad Gateway</html>", HTML)
    through.publish(topic, "hi")
    assert proxy.count(PUBLISH) == 4


@pytest.mark.parametrize(
    "url", ["localhost:8080", "ftp://localhost", "http://", "", "http://a:99999999", "http://a?b=1"]
)
def test_a_wrong_address_is_refused_at_once(url: str, opening: Open) -> None:
    with pytest.raises(ValidationError), opening(url):
        pass


@pytest.mark.parametrize("wrong", [0, -1, "soon", float("nan")])
def test_a_wrong_timeout_is_refused_at_once(wrong: Any, opening: Open) -> None:
    with pytest.raises(ValidationError), opening("http://localhost", timeout=wrong):
        pass


def test_a_path_before_v1_belongs_to_the_address(
    client: Client, opening: Open, proxy: Proxy
) -> None:
    with (
        opening(proxy.url + "/queue/", timeout=1) as through,
        pytest.raises(StrangeAnswer, match="404"),
    ):
        through.topics()
    assert proxy.count("/queue/v1/topics") == 1
    with opening(proxy.url + "/v1") as through:
        assert through.topics() == client.topics()


def test_the_token_is_sent(opening: Open, proxy: Proxy) -> None:
    proxy.answer("/v1/topics", 401, problem("unauthorized", "who?"), PROBLEM)
    with opening(proxy.url, token="secret") as through, pytest.raises(BlockQueueError, match="who"):
        through.topics()
    assert proxy.authorizations == ["Bearer secret"]
    with pytest.raises(ValidationError), opening(proxy.url, token="two words"):
        pass


@pytest.mark.parametrize("shutting", [True, False])
def test_closing_a_client_ends_the_poll_of_another_thread(
    proxy: Proxy, topic: str, monkeypatch: pytest.MonkeyPatch, shutting: bool
) -> None:
    """At once. Without the shutdown, as a control, it waits on, and its socket stays open."""
    if not shutting:
        monkeypatch.setattr(_sync, "_shut", lambda _: None)
    polling = Client(proxy.url)
    held = proxy.hold("/claim?")
    with ThreadPoolExecutor(2) as pool:
        claim = pool.submit(polling.claim, topic, "worker", wait=30 if shutting else 1)
        proxy.wait_for("/claim?", 1)
        polling.close()
        (connected,) = polling._sockets
        if shutting:
            with pytest.raises(AnswerLost):
                claim.result(PATIENCE_S)
            assert connected.fileno() == -1
        else:
            assert (claim.done(), connected.fileno() != -1) == (False, True)
        held.set()


def test_closing_a_client_ends_a_loop_that_polls(
    client: Client, proxy: Proxy, topic: str, opening: Open
) -> None:
    """By the error that says so, whether it was asking at that moment or not."""
    with opening(proxy.url) as consuming, ThreadPoolExecutor(1) as pool:
        loop = pool.submit(list, consuming.consume(topic, "worker"))
        proxy.wait_for("/claim?", 1)
        consuming.close()
        with pytest.raises(QueueClosed):
            loop.result(PATIENCE_S)


def test_a_closed_client_says_so_and_wakes_who_waits(proxy: Proxy, opening: Open) -> None:
    """A thread or a task between two tries is told at once, not at its deadline."""
    busy = PROBLEM | {"Retry-After": "99"}
    proxy.answer("/v1/topics", 503, problem("service_unavailable"), busy)
    with opening(proxy.url, timeout=300) as waits, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(waits.topics)
        proxy.wait_for("/v1/topics", 1)
        waits.close()
        with pytest.raises((QueueClosed, AnswerLost)):
            waiting.result(PATIENCE_S)
        with pytest.raises(QueueClosed):
            waits.topics()
        waits.close()
