"""Spans: of a publish, of a claim that has got something, and of a job."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    Span,
    SpanKind,
    Status,
    StatusCode,
    TracerProvider,
    get_current_span,
    get_tracer,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from blockqueue import __version__
from blockqueue.api._trace_context import Trace

from ._names import MESSAGING, OWN

_propagator = TraceContextTextMapPropagator()


class Tracing:
    """Makes spans. Give it to a ``BlockQueue`` or a ``Client``; its workers use it, too.

    A publish is a producer's span, whose trace the messages carry in their headers. A claim
    that has got messages is a client's span with a link to the publish of each. A worker's
    job is a consumer's span, a child of its publish, and linked to it.

    Args:
        provider: where spans go; default: the one that the program has set.
        messaging_names: name attributes by OpenTelemetry's conventions for messaging, which
            are still in development and may change; else they are ``blockqueue.…``.
    """

    def __init__(
        self, provider: TracerProvider | None = None, *, messaging_names: bool = False
    ) -> None:
        self.tracer = get_tracer("blockqueue", __version__, provider)
        self.names = MESSAGING if messaging_names else OWN

    @contextmanager
    def publishing(self, topic: str, count: int) -> Iterator[PublishSpan]:
        """Have a span for the publish of so many messages in the block."""
        with self._span("publish", "send", topic, SpanKind.PRODUCER, {}) as span:
            span.set_attribute(self.names.messages, count)
            yield PublishSpan(self, span)

    def claiming(self, topic: str, subscriber: str) -> ClaimSpan:
        """Begin a span, which becomes one if something is claimed."""
        return ClaimSpan(self, topic, subscriber)

    @contextmanager
    def processing(
        self, topic: str, subscriber: str, delivery: Any, given_up: type[BaseException]
    ) -> Iterator[None]:
        """Have a span for what a handler does in the block with a delivery.

        ``given_up``: what it raises to say that it does not want it, which is no error.
        """
        origin = origin_of(delivery)
        options: dict[str, Any] = {"context": origin, "links": self.links([delivery])}
        kind = SpanKind.CONSUMER
        with self._span("process", "process", topic, kind, options, given_up) as span:
            names = self.names
            span.set_attribute(names.subscriber, subscriber)
            span.set_attribute(names.message_id, delivery.id)
            span.set_attribute("blockqueue.delivery_count", delivery.delivery_count)
            if delivery.correlation_id is not None:
                span.set_attribute(names.correlation_id, delivery.correlation_id)
            yield

    def links(self, deliveries: Sequence[Any]) -> list[Link]:
        """Return a link to the publish of each delivery that has a trace."""
        contexts = [get_current_span(origin_of(each)).get_span_context() for each in deliveries]
        return [
            Link(context, {self.names.message_id: each.id})
            for context, each in zip(contexts, deliveries, strict=True)
            if context.is_valid
        ]

    def attributes(self, operation: str, kind: str, topic: str) -> dict[str, str]:
        """Return what every span says."""
        names = self.names
        said = {names.topic: topic, names.operation: operation}
        if names.system is not None and names.operation_type is not None:
            said |= {names.system: "blockqueue", names.operation_type: kind}
        return said

    @contextmanager
    def _span(
        self,
        operation: str,
        kind: str,
        topic: str,
        span_kind: SpanKind,
        options: Mapping[str, Any],
        harmless: type[BaseException] | tuple[()] = (),
    ) -> Iterator[Span]:
        """Have a span that is current in the block, and notes the block's error."""
        with self.tracer.start_as_current_span(
            f"{operation} {topic}",
            kind=span_kind,
            attributes=self.attributes(operation, kind, topic),
            record_exception=False,
            set_status_on_exception=False,
            **options,
        ) as span:
            try:
                yield span
            except BaseException as error:
                if not isinstance(error, harmless):
                    span.record_exception(error)
                    span.set_attribute("error.type", type(error).__qualname__)
                    span.set_status(Status(StatusCode.ERROR, str(error)))
                raise


class PublishSpan:
    """The span of a publish."""

    def __init__(self, tracing: Tracing, span: Span) -> None:
        self._tracing = tracing
        self._span = span

    @property
    def trace(self) -> Trace | None:
        """What the messages carry; None where nobody traces."""
        carrier: dict[str, str] = {}
        _propagator.inject(carrier)
        return carrier or None

    def published(self, message_id: str) -> None:
        """Note the id of its only message."""
        self._span.set_attribute(self._tracing.names.message_id, message_id)


class ClaimSpan:
    """The span of a claim: it is made when it ends, and then only if there is something."""

    def __init__(self, tracing: Tracing, topic: str, subscriber: str) -> None:
        self._tracing = tracing
        self._topic = topic
        self._subscriber = subscriber
        self._begun_ns = time.time_ns()

    def end(self, deliveries: Sequence[Any]) -> None:
        """Note what was claimed. A poll that nothing came of would only be noise."""
        if not deliveries:
            return
        tracing, names = self._tracing, self._tracing.names
        said: dict[str, Any] = tracing.attributes("claim", "receive", self._topic)
        said |= {names.subscriber: self._subscriber, names.messages: len(deliveries)}
        tracing.tracer.start_span(
            f"claim {self._topic}",
            kind=SpanKind.CLIENT,
            attributes=said,
            links=tracing.links(deliveries),
            start_time=self._begun_ns,
        ).end()


def origin_of(delivery: Any) -> Context:
    """Return the context that a delivery's message was published in; an empty one if none."""
    return _propagator.extract(delivery.headers, context=Context())
