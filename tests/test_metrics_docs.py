"""What is written about the metrics is so: the table, the dashboard for Grafana, the alerts."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from blockqueue import BlockQueue, Worker
from blockqueue.api._exposition import render

from .promtool import promtool, run

__all__ = ["promtool"]

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
_ROW = re.compile(
    r"^\| `(?P<name>\w+)` \| (?P<type>\w+) \|(?P<labels>[^|]*)\| (?P<meaning>[^|]+) \|$", re.M
)
_METRIC = re.compile(r"blockqueue_\w+")
#: Labels of a selector, and of "by".
_LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"|\bby \(([\w, ]+)\)")
#: Whose values are the users' own.
_NAMES = {"topic", "subscriber"}
_PROMETHEUS = {"job", "instance", "le"}


class Told:
    """What a queue and a worker tell: types, and labels with their values, by name."""

    def __init__(self, text: str) -> None:
        self.types: dict[str, str] = {}
        self.labels: dict[str, dict[str, set[str]]] = {}
        self.samples: set[str] = set()
        for family in text_string_to_metric_families(text):
            # The parser takes "_total" off the names of counters.
            name = family.name + ("_total" if family.type == "counter" else "")
            labels: defaultdict[str, set[str]] = defaultdict(set)
            for sample in family.samples:
                self.samples.add(sample.name)
                for label, value in sample.labels.items():
                    if label != "le":
                        labels[label].add("" if label in _NAMES else value)
            self.types[name] = family.type
            self.labels[name] = dict(labels)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    with BlockQueue(tmp_path_factory.mktemp("told") / "queue.db") as queue:
        queue.create_topic("orders", ["mail"])
        worker = Worker(queue, "orders", "mail", print)
        with worker:
            return Told(render(queue.metrics()) + worker.exposition())


def dashboard() -> Any:
    return json.loads((DOCS / "ops/grafana-dashboard.json").read_text())


def expressions() -> Iterator[str]:
    for panel in dashboard()["panels"]:
        yield from (target["expr"] for target in panel.get("targets", []))


def test_the_page_has_all_metrics_and_no_others(told: Told) -> None:
    """Each with its type, its labels, and the values these can have."""
    types: dict[str, str] = {}
    labels: dict[str, dict[str, set[str]]] = {}
    for row in _ROW.finditer((DOCS / "metrics.md").read_text()):
        name = f"blockqueue_{row['name']}"
        assert name not in types, name
        types[name] = row["type"]
        labels[name] = {}
        for part in filter(None, row["labels"].strip().split("; ")):
            label, *values = re.findall(r"`(\w+)`", part)
            labels[name][label] = set(values) or {""}

    assert types == told.types
    assert labels == told.labels


def test_the_dashboard_asks_for_what_there_is(told: Told) -> None:
    """Each name and label in each expression, those of its variables too."""
    variables = [each["query"] for each in dashboard()["templating"]["list"]]
    queries = [each["query"] for each in variables if isinstance(each, dict)]
    known = {label for labels in told.labels.values() for label in labels} | _PROMETHEUS
    for text in [*expressions(), *queries]:
        names = set(_METRIC.findall(text))
        assert names, text
        assert names <= told.samples, names - told.samples
        found = {word for pair in _LABEL.findall(text) for word in re.findall(r"\w+", str(pair))}
        assert found <= known, found - known


def test_the_dashboard_shows_every_metric(told: Told) -> None:
    """Nothing is counted that nobody can see."""
    shown = {name for text in expressions() for name in _METRIC.findall(text)}
    shown = {re.sub("_(bucket|sum|count)$", "", name) for name in shown}

    assert set(told.types) - shown == {"blockqueue_maintenance_pass_total"}


def test_panels_have_a_place_and_a_number_of_their_own() -> None:
    """Grafana would drop one of two with the same number, and move those that overlap."""
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_the_dashboards_expressions_can_be_read(promtool: str, tmp_path: Path) -> None:
    """Prometheus understands each of them; it would not a broken one."""
    rules = [
        {"record": f"panel:{number}", "expr": filled(text)}
        for number, text in enumerate(expressions())
    ]
    assert check_rules(promtool, tmp_path, rules)
    assert not check_rules(promtool, tmp_path, [{"record": "panel:0", "expr": "rate(up[5m]"}])


def filled(expression: str) -> str:
    """Put something in place of Grafana's variables."""
    expression = expression.replace("$__rate_interval", "1m")
    return re.sub(r"\$\w+", ".*", expression)


def check_rules(promtool: str, folder: Path, rules: list[dict[str, str]]) -> bool:
    file = folder / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    return run(promtool, folder, "check", "rules", file.name).returncode == 0


def test_the_alerts_ask_for_what_there_is(told: Told) -> None:
    """A rule about a metric that is not there never fires, and nobody notices."""
    names = set(_METRIC.findall((DOCS / "ops/alerts.yaml").read_text()))

    assert names
    assert names <= told.samples, names - told.samples
