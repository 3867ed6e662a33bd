"""A client of a BlockQueue server, with the methods of the embedded queue.

from blockqueue.client import Client

with Client("http://localhost:8080") as client:
    client.publish("cart", "hi")
    for delivery in client.consume("cart", "counter", lease="1m"):
        delivery.ack()

``AsyncClient`` is the same for event loops. It needs ``pip install 'blockqueue[client]'``.
What is published, made and raised has the classes of ``blockqueue``.
"""

try:
    import httpx2 as _httpx2
    import tenacity as _tenacity
except ImportError as error:
    raise ImportError(f"{error}: pip install 'blockqueue[client]'") from error

from ._async_client import AsyncClient
from ._async_delivery import AsyncDelivery
from ._async_schedules import AsyncSchedules
from ._client import Client
from ._delivery import Delivery
from ._errors import AnswerLost, ServerUnreachable
from ._requests import StrangeAnswer
from ._schedules import Schedules
from ._values import (
    DeliveryStatus,
    DeliveryView,
    Failure,
    MessageStatus,
    Page,
    Receipt,
    Schedule,
    ScheduleRun,
    SubscriberStatus,
    Topic,
)

del _httpx2, _tenacity

__all__ = [
    "AnswerLost",
    "AsyncClient",
    "AsyncDelivery",
    "AsyncSchedules",
    "Client",
    "Delivery",
    "DeliveryStatus",
    "DeliveryView",
    "Failure",
    "MessageStatus",
    "Page",
    "Receipt",
    "Schedule",
    "ScheduleRun",
    "Schedules",
    "ServerUnreachable",
    "StrangeAnswer",
    "SubscriberStatus",
    "Topic",
]
