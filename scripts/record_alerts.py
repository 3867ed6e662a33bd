"""Record what /metrics tells through a bad time, as series on which promtool tests the alerts.

A real server is scraped while its consumers work, fail in three ways, and are mended. Its clock
is moved by hand, so that minutes take no time. Writes docs/ops/alerts_recorded_test.yaml.
"""

from __future__ import annotations

import itertools
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import urlopen

import yaml
from waitress.server import create_server

from blockqueue import BlockQueue, ManualClock, Subscriber
from blockqueue.api.app import create_app

_OPS = Path(__file__).resolve().parent.parent / "docs/ops"
_ALERTS = "alerts.yaml"
_STEP_S = 15
_OF = {"job": "blockqueue", "instance": "recorded"}
_SAMPLE = re.compile(r"^(\w+)(?:{(.*)})? (\S+)$", re.MULTILINE)
_HEAD = "# Made by scripts/record_alerts.py from the answers of a real server.\n"


class Firing(NamedTuple):
    """An alert that must fire, and whose value its text tells, if it does."""

    alert: str
    subscriber: str
    told: str | None = None


#: Each scene, when it is over, and what fires then. Nothing else may.
_LATE = "blockqueue_subscriber_oldest_age_seconds"
_SCENES: list[tuple[str, int, list[Firing]]] = [
    ("all is well", 5, []),
    (
        "mail hangs, audit is away, billing fails",
        20,
        [
            Firing("BlockQueueNobodyConsumes", "audit"),
            Firing("BlockQueueMessagesLate", "mail", _LATE),
            Firing("BlockQueueMessagesLate", "audit", _LATE),
            Firing("BlockQueueDeadLetters", "billing"),
        ],
    ),
    ("all is mended", 40, []),
]


def main() -> None:
    (_OPS / "alerts_recorded_test.yaml").write_text(recorded(_OPS / _ALERTS))


def recorded(alerts: Path) -> str:
    """Play all scenes; return them as a file for promtool."""
    text = alerts.read_text()
    rules = {each["alert"]: each for each in yaml.safe_load(text)["groups"][0]["rules"]}
    wanted = set(re.findall(r"blockqueue_\w+", text))
    series: dict[str, list[str]] = {}
    checks: list[Any] = []
    with tempfile.TemporaryDirectory() as folder, _shop(Path(folder)) as shop:
        for scene, until_min, fires in _SCENES:
            while shop.passed_s < until_min * 60:
                for key, value in _scrape(shop.address, wanted).items():
                    series.setdefault(key, []).append(value)
                shop.step(scene)
            checks += _checks(until_min, rules, fires, series)
    up = _name("up", "")
    series[up] = ["1"] * max(map(len, series.values()))
    given = [{"series": key, "values": _short(values)} for key, values in series.items()]
    test = {"interval": f"{_STEP_S}s", "input_series": given, "alert_rule_test": checks}
    whole = {"rule_files": [_ALERTS], "evaluation_interval": f"{_STEP_S}s", "tests": [test]}
    return _HEAD + yaml.safe_dump(whole, sort_keys=False, width=10_000)


class Shop:
    """A topic with three subscribers, whose consumers are played here."""

    def __init__(self, queue: BlockQueue, clock: ManualClock, address: str) -> None:
        self.address = address
        self.passed_s = 0
        self._queue = queue
        self._clock = clock
        #: What the consumer that hangs holds on to.
        self._held: Any = None
        queue.create_topic("orders", ["mail", "audit", Subscriber("billing", max_attempts=1)])

    def step(self, scene: str) -> None:
        """Let a quarter of a minute pass, in which a message is published."""
        self._queue.publish("orders", f"order {self.passed_s}")
        if scene == "mail hangs, audit is away, billing fails":
            self._hang()
            for each in self._queue.claim("orders", "billing", limit=100):
                each.nack(error="no such customer")
        else:
            self._mend()
        self._clock.advance(_STEP_S * 1000)
        self.passed_s += _STEP_S

    def _hang(self) -> None:
        if self._held is None:
            (self._held,) = self._queue.claim("orders", "mail")
        self._held.extend(f"{_STEP_S}s")

    def _mend(self) -> None:
        if self._held is not None:
            self._held.ack()
            self._held = None
        self._queue.replay("orders", "billing")
        for subscriber in ("mail", "audit", "billing"):
            for each in self._queue.claim("orders", subscriber, limit=100):
                each.ack()


@contextmanager
def _shop(folder: Path) -> Iterator[Shop]:
    clock = ManualClock()
    with BlockQueue(folder / "queue.db", clock=clock) as queue:
        server: Any = create_server(create_app(queue), host="127.0.0.1", port=0)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        try:
            yield Shop(queue, clock, f"http://127.0.0.1:{server.effective_port}/metrics")
        finally:
            server.close()
            thread.join(10)


def _scrape(address: str, wanted: set[str]) -> dict[str, str]:
    """Return the samples that a rule looks at, by their names with labels."""
    with urlopen(address, timeout=10) as answer:
        text: str = answer.read().decode()
    return {
        _name(name, labels): value
        for name, labels, value in _SAMPLE.findall(text)
        if name in wanted
    }


def _name(name: str, labels: str) -> str:
    """Add what Prometheus adds."""
    added = ",".join(f'{key}="{value}"' for key, value in _OF.items())
    return f"{name}{{{','.join(filter(None, [labels, added]))}}}"


def _short(values: list[str]) -> str:
    """Write 1 1 1 2 as 1x2 2."""
    runs = [(value, len(list(same))) for value, same in itertools.groupby(values)]
    return " ".join(value if count == 1 else f"{value}x{count - 1}" for value, count in runs)


def _checks(
    minutes: int, rules: dict[str, Any], fires: list[Firing], series: dict[str, list[str]]
) -> Iterator[Any]:
    """Say for each alert what is expected at the last scrape of a scene."""
    for alert, rule in rules.items():
        expected = [_expected(rule, each, series) for each in fires if each.alert == alert]
        at = f"{minutes * 60 - _STEP_S}s"
        yield {"alertname": alert, "eval_time": at, "exp_alerts": expected}


def _expected(rule: Any, firing: Firing, series: dict[str, list[str]]) -> Any:
    place = {"topic": "orders", "subscriber": firing.subscriber}
    summary = str(rule["annotations"]["summary"])
    for key, value in place.items():
        summary = summary.replace(f"{{{{ $labels.{key} }}}}", value)
    if firing.told is not None:
        labels = ",".join(f'{key}="{value}"' for key, value in place.items())
        told_s = float(series[_name(firing.told, labels)][-1])
        minutes, seconds = divmod(round(told_s), 60)
        summary = summary.replace("{{ $value | humanizeDuration }}", f"{minutes}m {seconds}s")
    return {
        "exp_labels": {**rule["labels"], **_OF, **place},
        "exp_annotations": {**rule["annotations"], "summary": summary},
    }


if __name__ == "__main__":
    main()
