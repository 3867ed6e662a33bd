"""A subscriber to be made, as a body says it."""

from __future__ import annotations

import math
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from blockqueue.api._options import Subscriber
from blockqueue.storage import ValidationError, limits

from ._parameters import Duration, SubscriberName
from ._times import MS, nanoseconds, within

_VISIBILITY_MS = 300_000
_RETRY_INITIAL_MS = 1_000
_RETRY_MAX_MS = 3_600_000


def _default(value: Any, **more: Any) -> Meta:
    return Meta(extra_json_schema={"default": value, **more})


class RetryPolicy(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The delay before retry n: initial_delay × multiplier^(n−1), at most max_delay."""

    initial_delay: Annotated[Duration, _default("1s")] | None = None
    max_delay: Annotated[Duration, _default("1h", format="go-duration-long")] | None = None
    multiplier: (
        Annotated[
            float,
            Meta(
                description="1 or more; 0 stands for the default.",
                extra_json_schema={"default": 2, "anyOf": [{"const": 0}, {"minimum": 1}]},
            ),
        ]
        | None
    ) = None
    jitter: (
        Annotated[
            float,
            Meta(
                ge=0,
                le=1,
                description="Spreads the delay by ± this part of itself; 0 stands for the default.",
                extra_json_schema={"default": 0.2},
            ),
        ]
        | None
    ) = None
    disable_jitter: Annotated[bool, _default(False)] | None = None


class Option(msgspec.Struct, forbid_unknown_fields=True):
    """How deliveries to a subscriber are tried. What is absent, empty or 0 is the default."""

    max_attempts: (
        Annotated[
            int,
            Meta(
                ge=-(2**63),
                le=2**63 - 1,
                description="A message is dead when that many failures have happened.",
                extra_json_schema={"default": 3},
            ),
        ]
        | None
    ) = None
    visibility_duration: (
        Annotated[
            Duration,
            Meta(
                description="How long a lease lasts unless the claim says otherwise: 1ms to 12h.",
                extra_json_schema={"default": "5m"},
            ),
        ]
        | None
    ) = None
    dequeue_batch_size: (
        Annotated[
            int,
            Meta(
                ge=-(2**63),
                le=limits.BATCH_MAX,
                description="How many messages an embedded claim takes unless it says otherwise.",
                extra_json_schema={"default": 10},
            ),
        ]
        | None
    ) = None
    retry_policy: RetryPolicy | None = None


class NewSubscriber(msgspec.Struct, forbid_unknown_fields=True):
    """A subscriber to be made."""

    name: SubscriberName
    option: Option | None = None

    def checked(self) -> Subscriber:
        """Return it with its defaults. Raises ValidationError."""
        option = self.option or Option()
        policy = option.retry_policy or RetryPolicy()
        visibility, jitter = option.visibility_duration, policy.jitter or 0.2
        initial_ms = _retry_ms("initial_delay", policy.initial_delay, _RETRY_INITIAL_MS)
        max_ms = _retry_ms("max_delay", policy.max_delay, _RETRY_MAX_MS)
        multiplier = policy.multiplier or 2.0
        if not math.isfinite(multiplier):
            raise ValidationError("multiplier must be finite")
        return Subscriber(
            self.name,
            max_attempts=_count(option.max_attempts, 3, limits.ATTEMPTS_MAX),
            visibility=_visibility_ms(visibility) / 1000,
            claim_limit=_count(option.dequeue_batch_size, 10, limits.BATCH_MAX),
            retry_initial=initial_ms / 1000,
            retry_max=max_ms / 1000,
            retry_multiplier=multiplier,
            retry_jitter=0.0 if policy.disable_jitter else jitter,
        )


class ShownPolicy(msgspec.Struct):
    """A retry policy as it was sent."""

    initial_delay: str = ""
    max_delay: str = ""
    multiplier: float = 0
    jitter: float = 0
    disable_jitter: bool = False


class ShownOption(msgspec.Struct):
    """An option as it was sent."""

    max_attempts: int = 0
    visibility_duration: str = ""
    dequeue_batch_size: int = 0
    retry_policy: ShownPolicy = msgspec.field(default_factory=ShownPolicy)


class ShownSubscriber(msgspec.Struct):
    """A subscriber as it was sent; what was absent is empty or zero, not the default."""

    name: str
    option: ShownOption


def shown(given: NewSubscriber) -> ShownSubscriber:
    """Return a subscriber as it was sent."""
    option = given.option or Option()
    policy = option.retry_policy or RetryPolicy()
    return ShownSubscriber(
        given.name,
        ShownOption(
            option.max_attempts or 0,
            option.visibility_duration or "",
            option.dequeue_batch_size or 0,
            ShownPolicy(
                policy.initial_delay or "",
                policy.max_delay or "",
                policy.multiplier or 0,
                policy.jitter or 0,
                policy.disable_jitter or False,
            ),
        ),
    )


def _count(given: int | None, default: int, most: int) -> int:
    return min(given, most) if given is not None and given > 0 else default


def _visibility_ms(text: str | None) -> int:
    """Return how long a lease lasts; what is empty or 0 stands for the default."""
    what = "visibility_duration"
    if not text or nanoseconds(what, text) == 0:
        return _VISIBILITY_MS
    return within(what, text, MS, limits.LEASE_MS_MAX, "from 1ms to 12h")


def _retry_ms(what: str, text: str | None, default_ms: int) -> int:
    """Return a delay of the policy; what is empty or 0 stands for the default."""
    if not text or nanoseconds(what, text) == 0:
        return default_ms
    return within(what, text, MS, limits.DELAY_MS_MAX, "0, or at least 1ms")
