"""What a campaign of clients found, in the words of a fault's result."""

from __future__ import annotations

from ..crash_campaign import Campaign
from ..crash_checker import Kind
from .case import Figure, Result
from .integrity import check_database


def result_of(campaign: Campaign) -> Result:
    """Run a campaign; return what it found, with what SQLite says of the file it left."""
    report = campaign.run()
    verdict = report.verdict
    assert verdict is not None
    figures: dict[str, Figure] = {
        "cycles": report.kills,
        "published": verdict.published,
        "unknown": verdict.unknown,
        "unknown, came": verdict.recovered,
        "delivered": verdict.received,
        "acknowledged": verdict.acked,
        "redelivered": verdict.redelivered,
        "lost": report.count(Kind.LOST),
        "unexplained": report.count(Kind.UNEXPLAINED, Kind.TWO_LEASES, Kind.RETURNED, Kind.COPIED),
        "slowest ready, s": round(report.slowest_ready_s, 2),
        "slowest drain, s": round(report.slowest_drain_s, 2),
    }
    return Result(figures, [*report.shown(), *check_database(campaign.server.database)])
