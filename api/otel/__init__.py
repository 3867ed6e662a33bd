"""OpenTelemetry's spans for what is published, claimed and worked on.

from blockqueue import BlockQueue
from blockqueue.otel import Tracing

with BlockQueue("queue.db", tracing=Tracing()) as queue:
    queue.publish("cart", "hi")

It needs ``pip install 'blockqueue[otel]'``, and a program that sets OpenTelemetry's SDK up.
"""

try:
    from ._tracing import Tracing
except ImportError as error:
    raise ImportError(f"{error}: pip install 'blockqueue[otel]'") from error

__all__ = ["Tracing"]
