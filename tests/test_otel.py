"""Spans of OpenTelemetry: from the publish to the handler, whatever is between them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, get_tracer

from blockqueue import BlockQueue, Cancel, Job, Message, RetryAfter, Worker
from blockqueue.client import AsyncClient, Client
from blockqueue.otel import Tracing

from .embedded_helpers import eventually
from .http_server import PATIENCE_S, child_environment, create_topic, serving

SPAN = "00f067aa0ba902b7"
PARENT = f"00-4bf92f3577b34da6a3ce929d0e0e4736-{SPAN}-01"


class Spans:
    """What was traced."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracing = Tracing(self.provider)

    def all(self, operation: str = "") -> list[ReadableSpan]:
        """Return the spans that have ended, the first one first."""
        found: Sequence[ReadableSpan] = self._exporter.get_finished_spans()
        return [span for span in found if span.name.startswith(operation)]

    def one(self, operation: str) -> ReadableSpan:
        (span,) = self.all(operation)
        return span


@pytest.fixture
def spans() -> Spans:
    return Spans()


@pytest.fixture
def queue(tmp_path: Path, spans: Spans) -> Iterator[BlockQueue]:
    with BlockQueue(tmp_path / "queue.db", tracing=spans.tracing) as opened:
        opened.create_topic("cart", ["worker"])
        yield opened


def context(span: ReadableSpan) -> tuple[int, int]:
    assert span.context is not None
    return span.context.trace_id, span.context.span_id


def header_of(span: ReadableSpan) -> str:
    assert span.context is not None
    trace_id, span_id = context(span)
    return f"00-{trace_id:032x}-{span_id:016x}-{span.context.trace_flags:02x}"


def links(span: ReadableSpan) -> list[tuple[int, int]]:
    return [(each.context.trace_id, each.context.span_id) for each in span.links]


def check_is_of(process: ReadableSpan, publish: ReadableSpan) -> None:
    """Assert that a job's span is a child of its publish, and linked to it."""
    assert process.parent is not None
    assert (process.parent.trace_id, process.parent.span_id) == context(publish)
    assert links(process) == [context(publish)]
    assert process.kind is SpanKind.CONSUMER


def plain(handle: Callable[[Job], object]) -> Callable[[Job], object]:
    return handle


def coroutine(handle: Callable[[Job], object]) -> Callable[[Job], object]:
    async def handle_later(job: Job) -> None:
        await anyio.lowlevel.checkpoint()
        handle(job)

    return handle_later


@pytest.mark.parametrize("kind", [plain, coroutine])
def test_a_handlers_span_is_linked_to_the_publish(
    queue: BlockQueue, spans: Spans, kind: Callable[[Any], Any]
) -> None:
    """And what the handler traces itself is inside."""

    def handle(job: Job) -> None:
        get_tracer("shop", tracer_provider=spans.provider).start_span("inside").end()

    receipt = queue.publish("cart", "hi", correlation_id="order-1")
    with Worker(queue, "cart", "worker", kind(handle)):
        eventually(lambda: len(spans.all()) == 4)

    publish, claim, inside, process = map(spans.one, ("publish", "claim", "inside", "process"))
    check_is_of(process, publish)
    assert inside.parent is not None
    assert (inside.parent.trace_id, inside.parent.span_id) == context(process)
    assert (claim.kind, links(claim)) == (SpanKind.CLIENT, [context(publish)])
    assert publish.kind is SpanKind.PRODUCER
    assert [each.name for each in (publish, claim, process)] == [
        "publish cart",
        "claim cart",
        "process cart",
    ]
    assert dict(process.attributes or {}) == {
        "blockqueue.topic": "cart",
        "blockqueue.operation": "process",
        "blockqueue.subscriber": "worker",
        "blockqueue.message_id": receipt.id,
        "blockqueue.delivery_count": 1,
        "blockqueue.correlation_id": "order-1",
    }
    assert process.status.status_code is StatusCode.UNSET


def test_jobs_side_by_side_have_each_their_own_span(queue: BlockQueue, spans: Spans) -> None:
    for number in range(40):
        queue.publish("cart", str(number))
    seen: dict[str, str] = {}

    async def handle(job: Job) -> None:
        await anyio.lowlevel.checkpoint()
        with spans.tracing.tracer.start_as_current_span(f"inside {job.id}"):
            await anyio.lowlevel.checkpoint()
        seen[job.id] = job.headers["traceparent"]

    with Worker(queue, "cart", "worker", handle, concurrency=8):
        eventually(lambda: len(spans.all("process")) == 40)
    published = {header_of(each): each for each in spans.all("publish")}
    processed = {context(each): each for each in spans.all("process")}
    assert len(processed) == 40
    for inside in spans.all("inside"):
        assert inside.parent is not None
        process = processed[inside.parent.trace_id, inside.parent.span_id]
        message_id = str((process.attributes or {})["blockqueue.message_id"])
        assert inside.name == f"inside {message_id}"
        check_is_of(process, published[seen[message_id]])


def test_a_publish_is_part_of_what_the_program_traces(queue: BlockQueue, spans: Spans) -> None:
    with spans.tracing.tracer.start_as_current_span("request") as request:
        queue.publish("cart", "hi")
    publish = spans.one("publish")
    assert publish.parent == request.get_span_context()
    (delivery,) = queue.claim("cart", "worker")
    assert delivery.headers == {"traceparent": header_of(publish)}


def test_a_batch_is_one_span_that_all_its_messages_are_of(queue: BlockQueue, spans: Spans) -> None:
    """But those that name another trace. A generator is looked at once."""
    own = Message("own", headers={"traceparent": PARENT})
    messages: list[str | bytes | Message] = ["a", own, b"b"]
    queue.publish_many("cart", iter(messages))
    publish = spans.one("publish")
    assert (publish.attributes or {})["blockqueue.message_count"] == 3
    found = queue.claim("cart", "worker", limit=10)
    ours = header_of(publish)
    assert [each.headers["traceparent"] for each in found] == [ours, PARENT, ours]
    claim = spans.one("claim")
    assert [f"{span:016x}" for _, span in links(claim)] == [ours[36:52], SPAN, ours[36:52]]
    named = [(each.attributes or {})["blockqueue.message_id"] for each in claim.links]
    assert named == [each.id for each in found]


def test_an_empty_claim_is_no_span(queue: BlockQueue, spans: Spans) -> None:
    assert queue.claim("cart", "worker") == []
    assert spans.all() == []


def test_the_span_of_a_publish_says_what_it_has_published(queue: BlockQueue, spans: Spans) -> None:
    receipt = queue.publish("cart", "hi", idempotency_key="order-1")
    again = queue.publish("cart", "hi", idempotency_key="order-1")
    assert receipt.id == again.id, "another span is no other publish"
    said = [(each.attributes or {})["blockqueue.message_id"] for each in spans.all("publish")]
    assert said == [receipt.id, receipt.id]


def test_a_publish_in_a_transaction_is_traced(queue: BlockQueue, spans: Spans) -> None:
    with queue.transaction() as tx:
        queue.publish("cart", "hi", tx=tx)
    (delivery,) = queue.claim("cart", "worker")
    assert delivery.headers["traceparent"] == header_of(spans.one("publish"))


@pytest.mark.parametrize(
    ("error", "failed"),
    [(ValueError("no"), "ValueError"), (RetryAfter("1h"), "RetryAfter"), (Cancel("void"), None)],
)
def test_a_handler_that_fails_has_a_span_that_says_so(
    queue: BlockQueue, spans: Spans, error: Exception, failed: str | None
) -> None:
    def handle(job: Job) -> None:
        raise error

    queue.publish("cart", "hi")
    with Worker(queue, "cart", "worker", handle):
        eventually(lambda: bool(spans.all("process")))
    process = spans.one("process")
    assert (process.attributes or {}).get("error.type") == failed
    if failed is None:
        assert (process.status.status_code, list(process.events)) == (StatusCode.UNSET, [])
    else:
        assert process.status.status_code is StatusCode.ERROR
        (event,) = process.events
        assert str((event.attributes or {})["exception.type"]).endswith(failed)


def test_a_publish_that_fails_has_a_span_that_says_so(queue: BlockQueue, spans: Spans) -> None:
    with pytest.raises(Exception, match="there is no topic"):
        queue.publish("none", "hi")
    publish = spans.one("publish")
    assert (publish.attributes or {})["error.type"] == "TopicNotFound"
    assert publish.status.status_code is StatusCode.ERROR


def test_a_job_that_comes_again_is_of_the_same_publish(queue: BlockQueue, spans: Spans) -> None:
    def handle(job: Job) -> None:
        if job.delivery_count == 1:
            job.snooze(0)

    queue.publish("cart", "hi")
    with Worker(queue, "cart", "worker", handle):
        eventually(lambda: len(spans.all("process")) == 2)
    for process in spans.all("process"):
        check_is_of(process, spans.one("publish"))


def test_names_by_the_conventions_if_that_is_wanted(tmp_path: Path, spans: Spans) -> None:
    tracing = Tracing(spans.provider, messaging_names=True)
    with BlockQueue(tmp_path / "queue.db", tracing=tracing) as queue:
        queue.create_topic("cart", ["worker"])
        receipt = queue.publish("cart", "hi")
        queue.claim("cart", "worker")
    common = {"messaging.system": "blockqueue", "messaging.destination.name": "cart"}
    assert dict(spans.one("publish").attributes or {}) == common | {
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
        "messaging.batch.message_count": 1,
        "messaging.message.id": receipt.id,
    }
    assert dict(spans.one("claim").attributes or {}) == common | {
        "messaging.operation.name": "claim",
        "messaging.operation.type": "receive",
        "messaging.batch.message_count": 1,
        "messaging.destination.subscription.name": "worker",
    }


def test_from_a_client_over_http_to_a_worker_over_http(tmp_path: Path, spans: Spans) -> None:
    """By either client. The same key in another span is the same publish."""

    async def publish(url: str) -> None:
        async with AsyncClient(url, tracing=spans.tracing) as client:
            await client.publish("cart", "async")
            await client.publish_many("cart", ["b", "c"])
            assert len(await client.claim("cart", "other", limit=10)) == 4

    done: list[str] = []
    with serving(tmp_path / "queue.db") as server:
        create_topic(server, "cart", ["worker", "other"])
        url = f"http://127.0.0.1:{server.port}"
        with Client(url, tracing=spans.tracing) as client:
            first = client.publish("cart", "sync", idempotency_key="order-1")
            again = client.publish("cart", "sync", idempotency_key="order-1")
            assert (first.id, again.duplicate) == (again.id, True)
            anyio.run(publish, url)
            with Worker(client, "cart", "worker", lambda job: done.append(job.message)):
                eventually(lambda: len(spans.all("process")) == 4)

    assert sorted(done) == ["async", "b", "c", "sync"]
    one, _, two, batch = spans.all("publish")
    parents = sorted(each.parent.span_id for each in spans.all("process") if each.parent)
    expected = [context(each)[1] for each in (one, two, batch, batch)]
    assert parents == sorted(expected)
    (other,) = [each for each in spans.all("claim") if "other" in str(dict(each.attributes or {}))]
    assert sorted(span for _, span in links(other)) == sorted(expected)


def test_a_worker_is_linked_to_whoever_has_published_by_http(tmp_path: Path, spans: Spans) -> None:
    """A producer in any language, that sends the standard's header."""
    with serving(tmp_path / "queue.db") as server:
        create_topic(server, "cart")
        path = "/v1/topics/cart/messages"
        answer = server.send("POST", path, {"message": "hi"}, {"traceparent": PARENT})
        assert answer.status == 202
    with (
        BlockQueue(tmp_path / "queue.db", tracing=spans.tracing) as queue,
        Worker(queue, "cart", "worker", lambda job: None),
    ):
        eventually(lambda: bool(spans.all("process")))
    process = spans.one("process")
    assert process.parent is not None
    assert f"00-{process.parent.trace_id:032x}-{process.parent.span_id:016x}-01" == PARENT


def test_a_message_without_a_trace_begins_one(queue: BlockQueue, spans: Spans) -> None:
    tracing, queue.tracing = queue.tracing, None
    queue.publish("cart", "hi")
    queue.tracing = tracing
    with Worker(queue, "cart", "worker", lambda job: None):
        eventually(lambda: bool(spans.all("process")))
    process = spans.one("process")
    assert (process.parent, list(process.links)) == (None, [])


def test_where_nobody_collects_spans_nothing_is_added(tmp_path: Path) -> None:
    with BlockQueue(tmp_path / "queue.db", tracing=Tracing()) as queue:
        queue.create_topic("cart", ["worker"])
        queue.publish("cart", "hi")
        (delivery,) = queue.claim("cart", "worker")
        assert delivery.headers == {}


# What it costs those who do not trace.


def test_a_queue_that_is_not_traced_looks_at_one_attribute(tmp_path: Path) -> None:
    looks = 0

    class Counting(BlockQueue):
        @property
        def tracing(self) -> None:
            nonlocal looks
            looks += 1

        @tracing.setter
        def tracing(self, value: object) -> None: ...

    with Counting(tmp_path / "queue.db") as queue:
        queue.create_topic("cart", ["worker"])
        for call in (
            lambda: queue.publish("cart", "a"),
            lambda: queue.publish_many("cart", ["b"]),
            lambda: queue.claim("cart", "worker"),
        ):
            looks = 0
            call()
            assert looks == 1


def python(text: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", text],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    return done.stdout + done.stderr


def test_nothing_of_opentelemetry_is_loaded_unless_it_is_asked_for() -> None:
    text = "import sys, blockqueue.api.queue, blockqueue.client, blockqueue.worker\n"
    assert python(text + "print('opentelemetry' in sys.modules)") == "False\n"


def test_a_client_that_is_traced_loads_no_queue() -> None:
    text = "import sys, blockqueue.client, blockqueue.otel\n"
    text += "print([each for each in ('apsw', 'peewee', 'pykka') if each in sys.modules])"
    assert python(text) == "[]\n"


def test_who_has_not_installed_it_is_told_how() -> None:
    said = python("import sys; sys.modules['opentelemetry'] = None; import blockqueue.otel")
    assert said.splitlines()[-1].endswith("pip install 'blockqueue[otel]'")


_SHOP = """\
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from opentelemetry.trace import set_tracer_provider

provider = TracerProvider()
exporter = ConsoleSpanExporter(formatter=lambda span: f"span {span.name} of {span.parent}\\n")
provider.add_span_processor(SimpleSpanProcessor(exporter))
set_tracer_provider(provider)

def handle(message: str) -> None:
    print("did", message, flush=True)
"""


@pytest.mark.parametrize("otel", [True, False])
def test_a_worker_from_the_shell_makes_spans_if_it_is_told_to(tmp_path: Path, otel: bool) -> None:
    (tmp_path / "shop.py").write_text(_SHOP)
    with BlockQueue(tmp_path / "queue.db") as queue:
        queue.create_topic("cart", ["worker"])
        receipt = queue.publish("cart", "a book", headers={"traceparent": PARENT})
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "blockqueue", "work", "shop:handle", "cart", "worker"),
                *("--db", "queue.db", *(["--otel"] if otel else [])),
            ],
            env=child_environment(),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            eventually(lambda: queue.message("cart", receipt.id).deliveries[0].ended_ms is not None)
        finally:
            process.terminate()
            said, _ = process.communicate(timeout=PATIENCE_S)
    assert "did a book" in said
    assert ("span process cart of SpanContext" in said) is otel
