"""``blockqueue token``, as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from blockqueue import BlockQueue
from blockqueue.api.cli import main


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "queue.db"


def run(db: Path, *words: str) -> Result:
    return CliRunner().invoke(main, ["token", *words, "--db", str(db)])


def ok(db: Path, *words: str) -> str:
    done = run(db, *words)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_token_is_shown_once(db: Path) -> None:
    """Alone on the standard output, so that a script can take it; and in no list."""
    secret = ok(db, "create", "shop", "--scope", "publish:orders.*").strip()
    assert secret.startswith("bq_1_")
    assert "\n" not in secret
    for listed in (ok(db, "list"), ok(db, "list", "--json"), ok(db, "revoke", "shop")):
        assert "shop" in listed
        assert secret.split("_", 2)[2] not in listed


def test_everything_that_was_given_is_listed(db: Path) -> None:
    limits = ["--requests-per-second", "10", "--bytes-per-second", "1e6", "--polls", "3"]
    scopes = ["--scope", "publish:orders.*", "--scope", "consume:orders.eu"]
    made = json.loads(ok(db, "create", "shop", *scopes, *limits, "--expires", "30d", "--json"))
    found = json.loads(ok(db, "list", "--json"))

    assert made.keys() == {"id", "name", "token"}
    assert (found["id"], found["name"], found["state"]) == (made["id"], "shop", "active")
    assert found["scopes"] == ["publish:orders.*", "consume:orders.eu"]
    assert found["limits"] == {"requests_per_s": 10, "bytes_per_s": 1e6, "polls": 3}
    assert found["last_used_at"] is None
    with BlockQueue(db) as queue:
        (kept,) = queue.tokens.list()
    assert kept.expires_ms == kept.created_ms + 30 * 86_400_000


def test_the_list_says_what_became_of_each(db: Path) -> None:
    ok(db, "create", "lasting", "--scope", "publish:*")
    ok(db, "create", "short", "--scope", "publish:*", "--expires", "1ms")
    ok(db, "create", "gone", "--scope", "publish:*")
    assert json.loads(ok(db, "revoke", "gone", "--json"))["state"] == "revoked"
    head, *rows = ok(db, "list").splitlines()
    assert head.split() == ["ID", "NAME", "STATE", "EXPIRES", "LAST", "USED", "SCOPES"]
    assert [row.split()[1:3] for row in rows] == [
        ["lasting", "active"],
        ["short", "expired"],
        ["gone", "revoked"],
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["create", "shop"], "--scope"),
        (["create", "shop", "--scope", "admin:*"], "one of publish, consume, manage, observe"),
        (["create", "shop", "--scope", "publish:o*"], "wrong place"),
        (["create", "shop", "--scope", "publish:*", "--expires", "3w"], "30d"),
        (["create", "shop", "--scope", "publish:*", "--expires", "0s"], "expires"),
        (["create", "shop", "--scope", "publish:*", "--polls", "0"], "--polls"),
        (["create", "shop", "--scope", "publish:*", "--in-flight", "9" * 20], "--in-flight"),
        (["create", "shop", "--scope", "publish:*", "--bytes-per-second", "-1"], "bytes_per_s"),
        (["create", "taken", "--scope", "publish:*"], "revoke it"),
        (["revoke", "nobody"], "'nobody'"),
    ],
)
def test_a_mistake_is_explained(db: Path, words: list[str], said: str) -> None:
    ok(db, "create", "taken", "--scope", "publish:*")
    done = run(db, *words)
    assert done.exit_code > 0
    assert said in done.output
    assert "Traceback" not in done.output


@pytest.mark.parametrize("words", [["list"], ["revoke", "shop"]])
def test_no_database_is_made_by_a_typing_error(db: Path, words: list[str]) -> None:
    done = run(db, *words)
    assert done.exit_code == 2
    assert str(db) in done.output
    assert not db.exists()
