"""What it costs that a request shows a token, and that a server looks at it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import bench_server
from bench_figures import Bench, Figure, ratio_of_rates
from bench_http import make_topics
from bench_load import loader

from blockqueue import BlockQueue, TokenLimits

_TURNS = 6
_SCOPES = ("observe:cart", "consume:cart.*", "publish:cart")
_LIMITS = TokenLimits(requests_per_s=1e6, bytes_per_s=1e9, polls=100, in_flight=1000)


def auth(bench: Bench) -> list[Figure]:
    """Committed single publishes by /v1 with a token, against none needed."""
    sizes = bench.sizes
    paths = bench.path("closed.db"), bench.path("open.db")
    for path in paths:
        make_topics(path)
    with BlockQueue(paths[0]) as queue:
        for number in range(100):  # it is not alone
            queue.tokens.create(f"token {number}", ["consume:*"])
        plain = queue.tokens.create("plain", _SCOPES).secret
        limited = queue.tokens.create("limited", _SCOPES, limits=_LIMITS).secret
    spent: list[list[float]] = [[], [], []]
    with (
        bench_server.ours(paths[0]) as closed,
        bench_server.ours(paths[1]) as opened,
        loader(sizes.connections, "v1", token=plain) as with_plain,
        loader(sizes.connections, "v1", token=limited) as with_limited,
        loader(sizes.connections, "v1") as without,
    ):
        loads = (
            partial(with_plain.run, closed.port),
            partial(without.run, opened.port),
            partial(with_limited.run, closed.port),
        )
        bench.warm_up(paths[0], partial(loads[0], 0.02))
        bench.warm_up(paths[1], partial(loads[1], 0.02))
        for _ in range(sizes.rounds):
            for which, each in enumerate(_in_turns(loads, sizes.slice_s)):
                spent[which].append(each)
    what = f"/v1 publishes with a token, {sizes.connections} connections, against none needed"
    return [
        ratio_of_rates(what, spent[0], spent[1], 0.95),
        ratio_of_rates("  with a token that has limits", spent[2], spent[1], None),
    ]


def _in_turns(loads: Sequence[Callable[[float], tuple[int, float]]], seconds: float) -> list[float]:
    """Run each load for so long, in short turns; return the seconds per request of each."""
    spent, answered = [0.0] * len(loads), [0] * len(loads)
    order = list(range(len(loads)))
    for _ in range(_TURNS):
        for which in order:
            count, each_s = loads[which](seconds / _TURNS)
            answered[which] += count
            spent[which] += each_s
        order.reverse()
    return [each_s / count for each_s, count in zip(spent, answered, strict=True)]
