"""The alerts fire when they should and only then: on made and on recorded series, by promtool."""

from __future__ import annotations

import importlib
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from .promtool import promtool, run

__all__ = ["promtool"]

ROOT = Path(__file__).resolve().parent.parent
OPS = ROOT / "docs/ops"
ALERTS = "alerts.yaml"
MADE, RECORDED = "alerts_test.yaml", "alerts_recorded_test.yaml"

RULES: list[dict[str, Any]] = yaml.safe_load((OPS / ALERTS).read_text())["groups"][0]["rules"]
NAMES = [rule["alert"] for rule in RULES]
#: A comparison turned round says of whatever is well that it is ill.
_INVERTED = {"<": ">", ">": "<", "== 0": "== 1", "== 1": "== 0"}
_COMPARISON = re.compile("|".join(_INVERTED))


def passes(promtool: str, folder: Path, file: str) -> bool:
    """Say whether the tests in this file pass. Any other trouble is an error."""
    done = run(promtool, folder, "test", "rules", file)
    said = done.stdout + done.stderr
    if done.returncode == 0:
        return True
    assert "FAILED" in said, said
    assert "parse error" not in said, said
    return False


def write_rules(folder: Path, rules: list[dict[str, Any]]) -> None:
    (folder / ALERTS).write_text(yaml.safe_dump({"groups": [{"name": "copy", "rules": rules}]}))


def write_tests(folder: Path, alert: str) -> None:
    """Write the tests made by hand, but only those in which this alert is looked at."""
    file = yaml.safe_load((OPS / MADE).read_text())
    file["tests"] = [test for test in file["tests"] if alert in str(test["alert_rule_test"])]
    (folder / MADE).write_text(yaml.safe_dump(file))


def test_alerts_fire_when_they_should(promtool: str) -> None:
    """On series made by hand, and on those of a server whose consumers hung, left and failed."""
    done = run(promtool, OPS, "test", "rules", MADE, RECORDED)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", NAMES)
def test_a_broken_rule_is_noticed(promtool: str, alert: str, tmp_path: Path) -> None:
    """The control: with any comparison turned round, or at once, or never, the tests fail."""
    (index,) = (number for number, name in enumerate(NAMES) if name == alert)
    rule = RULES[index]
    broken = [
        {**rule, "expr": rule["expr"][: at.start()] + _INVERTED[at[0]] + rule["expr"][at.end() :]}
        for at in _COMPARISON.finditer(rule["expr"])
    ]
    broken.append({**rule, "for": "100h"})
    if rule["for"] != "0m":
        broken.append({**rule, "for": "0m"})
    write_tests(tmp_path, alert)
    write_rules(tmp_path, RULES)
    assert passes(promtool, tmp_path, MADE)

    for each in broken:
        write_rules(tmp_path, [*RULES[:index], each, *RULES[index + 1 :]])
        assert not passes(promtool, tmp_path, MADE), each


@pytest.mark.parametrize(
    "alert", ["BlockQueueNobodyConsumes", "BlockQueueMessagesLate", "BlockQueueDeadLetters"]
)
def test_what_was_recorded_notices_a_rule_that_is_gone(
    promtool: str, alert: str, tmp_path: Path
) -> None:
    """The control of the recorded series: what happened there is not seen without the rule."""
    shutil.copy(OPS / RECORDED, tmp_path)
    write_rules(tmp_path, [rule for rule in RULES if rule["alert"] != alert])

    assert not passes(promtool, tmp_path, RECORDED)


def test_a_server_of_now_is_seen_as_the_recorded_one(
    promtool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is committed was recorded once; this is recorded from the code as it is."""
    monkeypatch.syspath_prepend(ROOT / "scripts")
    text = importlib.import_module("record_alerts").recorded(OPS / ALERTS)
    write_rules(tmp_path, RULES)
    (tmp_path / RECORDED).write_text(text)
    done = run(promtool, tmp_path, "test", "rules", RECORDED)

    assert done.returncode == 0, done.stdout + done.stderr
    recorded = (OPS / RECORDED).read_text()
    assert "exp_alerts: []" in recorded
    assert expected(text) == expected(recorded)


def expected(text: str) -> Any:
    return yaml.safe_load(text)["tests"][0]["alert_rule_test"]


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_an_alert_says_how_bad_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    """It has a severity, a time, a sentence, and a heading of its own in the documentation."""
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert re.fullmatch(r"\d+[mh]", rule["for"])
    assert rule["annotations"]["summary"].endswith(".")
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    headings = re.findall(r"^#+ (.*)$", (ROOT / page).read_text(), re.MULTILINE)
    assert anchor in [heading.lower().replace(" ", "-") for heading in headings]
    assert anchor == rule["alert"].lower()


def test_every_alert_is_tested_both_ways() -> None:
    """Somewhere it fires, and somewhere it does not."""
    checks = [
        check
        for test in yaml.safe_load((OPS / MADE).read_text())["tests"]
        for check in test["alert_rule_test"]
    ]
    assert sorted({each["alertname"] for each in checks if each["exp_alerts"]}) == sorted(NAMES)
    assert sorted({each["alertname"] for each in checks if not each["exp_alerts"]}) == sorted(NAMES)


def test_prometheus_takes_its_configuration(promtool: str) -> None:
    """That which the documentation leads to, with the rules beside it."""
    done = run(promtool, OPS, "check", "config", "--syntax-only", "prometheus.yml")
    assert done.returncode == 0, done.stderr
    scraped, _ = yaml.safe_load((OPS / "prometheus.yml").read_text())["scrape_configs"]
    assert f'job="{scraped["job_name"]}"' in next(
        rule["expr"] for rule in RULES if rule["alert"] == "BlockQueueDown"
    )
