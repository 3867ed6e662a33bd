"""How the attributes of spans are named."""

from __future__ import annotations

from typing import NamedTuple


class Names(NamedTuple):
    """The name of each attribute, and what every span has besides."""

    topic: str
    subscriber: str
    message_id: str
    correlation_id: str
    messages: str
    system: str | None
    operation: str
    operation_type: str | None


#: Ours, which stay as they are.
OWN = Names(
    topic="blockqueue.topic",
    subscriber="blockqueue.subscriber",
    message_id="blockqueue.message_id",
    correlation_id="blockqueue.correlation_id",
    messages="blockqueue.message_count",
    system=None,
    operation="blockqueue.operation",
    operation_type=None,
)
#: Those of OpenTelemetry's semantic conventions 1.44, which are still in development.
MESSAGING = Names(
    topic="messaging.destination.name",
    subscriber="messaging.destination.subscription.name",
    message_id="messaging.message.id",
    correlation_id="messaging.message.conversation_id",
    messages="messaging.batch.message_count",
    system="messaging.system",
    operation="messaging.operation.name",
    operation_type="messaging.operation.type",
)
