"""The audit log, and what is in no log."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from blockqueue import BlockQueue
from blockqueue.api._audit import Audit
from blockqueue.api.cli import main

from .auth_helpers import EVERYTHING, Caller, call, make
from .http_server import PATIENCE_S, Server, child_environment, refused, serving, until

CART = {"name": "cart", "subscribers": [{"name": "worker"}]}
SUBSCRIBER = "/v1/topics/cart/subscribers/worker"


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "queue.db"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


def lines(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text(encoding="ascii").splitlines()]


def token(*arguments: str) -> str:
    """Run ``blockqueue token``; return what it prints."""
    command = [sys.executable, "-m", "blockqueue", "token", *arguments]
    done = subprocess.run(
        command, env=child_environment(), capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_who_did_what_when_from_where_and_how_it_ended(db: Path, log: Path) -> None:
    """Acts of an administrator, of both contracts; a consumer's daily work is not there."""
    admin = make(db, "ops")
    acts = [
        ("POST", "/topics", CART, 200),
        ("POST", "/v1/topics", CART, 409),
        ("POST", "/v1/topics/cart/pause", None, 200),
        ("POST", "/v1/topics/cart/resume", None, 200),
        ("POST", f"{SUBSCRIBER}/dlq/replay", {"message_ids": ["x"]}, 200),
        ("DELETE", "/topics/none", None, 404),
    ]
    with serving(db, "--audit-log", str(log)) as server:
        for method, path, body, status in acts:
            assert call(server, admin.secret, method, path, body).status == status
            call(server, admin.secret, "POST", "/topics/cart/messages", {"message": "hi"})
            call(server, admin.secret, "GET", "/topics/cart/subscribers/worker")
        found = lines(log)

    assert [each["status"] for each in found] == [status for *_, status in acts]
    for each, (method, path, *_) in zip(found, acts, strict=True):
        assert (each["token"], each["name"]) == (admin.id, "ops")
        assert each["from"] == "127.0.0.1"
        assert each["time"].endswith("Z")
        assert each["what"].startswith(f"{method} /")
        assert each["topic"] == ("none" if path == "/topics/none" else "cart")
    assert found[4]["what"] == f"POST {SUBSCRIBER}/dlq/replay".replace("cart", "{topic}").replace(
        "worker", "{sub}"
    )
    assert found[4]["sub"] == "worker"


def test_who_is_turned_away_is_noted(db: Path, log: Path) -> None:
    """With the number of the token if one was shown, also of one that is revoked."""
    secret = make(db, "shop", "publish:cart")
    with serving(db, "--audit-log", str(log)) as server:
        call(server, None, "GET", "/v1/topics")
        call(server, "bq_77_guess", "GET", "/v1/topics")
        call(server, secret.secret, "GET", "/v1/topics")
        call(server, secret.secret, "POST", "/v1/topics/secret/messages", {"message": "body"})
        found = lines(log)

    assert [each["status"] for each in found] == [401, 401, 403, 404]
    assert [each.get("shown") for each in found] == [None, 77, secret.id, secret.id]
    assert found[3]["topic"] == "secret"
    assert all(each["reason"] for each in found)


def test_an_act_without_tokens_is_noted_too(db: Path, log: Path) -> None:
    with serving(db, "--audit-log", str(log)) as server:
        call(server, None, "POST", "/topics", CART)
        (found,) = lines(log)
    assert (found["what"], found["topic"], found["status"]) == ("POST /topics", "cart", 200)
    assert "token" not in found


def test_nothing_looks_like_another_line(db: Path, log: Path) -> None:
    """What comes from outside is escaped: line ends, escapes of terminals, quotes."""
    make(db, "ops")
    nasty = "a%0A%7B%22what%22:1%7D%0D%1B%5B31m%22%C2%85%E2%80%A8"
    with serving(db, "--audit-log", str(log)) as server:
        call(server, None, "DELETE", f"/topics/{nasty}")
    raw = log.read_bytes()
    assert raw.count(b"\n") == 1
    assert all(32 <= byte < 127 for byte in raw[:-1])
    (found,) = lines(log)
    assert found["topic"] == 'a\n{"what":1}\r\x1b[31m"\x85\u2028'


def test_a_flood_of_refusals_does_not_fill_the_disk(db: Path, log: Path) -> None:
    make(db, "ops")
    with serving(db, "--audit-log", str(log)) as server:
        caller = Caller(server, None)
        for _ in range(500):
            assert caller.send("GET", "/v1/topics").status == 401
        caller.close()
        assert 10 <= len(lines(log)) < 250
        until(lambda: told_after_another(server, log) > 500, "the rest is counted")


def told_after_another(server: Server, log: Path) -> int:
    """Be turned away once more; return how often the log says that it happened."""
    assert call(server, None, "GET", "/v1/topics").status == 401
    return sum(1 + each.get("left_out", 0) for each in lines(log))


def test_the_log_may_be_moved_away(log: Path) -> None:
    """As logrotate does. It is its owner's alone."""
    audit = Audit(str(log))
    audit.note(what="first")
    moved = log.rename(log.with_suffix(".1"))
    audit.note(what="second")
    audit.close()
    assert [each["what"] for each in lines(moved) + lines(log)] == ["first", "second"]
    assert log.stat().st_mode & 0o777 == moved.stat().st_mode & 0o777 == 0o600


def test_a_log_that_cannot_be_written_is_told_and_does_no_harm(db: Path) -> None:
    with serving(db, "--audit-log", "/dev/full") as server:
        assert call(server, None, "POST", "/topics", CART).status == 200
        assert server.stop() == 0
    assert "the audit log cannot be written" in server.errors
    assert '"POST /topics"' in server.errors


def test_a_log_that_cannot_be_opened_is_refused(db: Path, tmp_path: Path) -> None:
    assert str(tmp_path / "none") in refused(db, "--audit-log", str(tmp_path / "none/audit.log"))


def test_the_commands_are_noted(db: Path, log: Path) -> None:
    secret = token(
        "create", "shop", "--scope", "publish:*", "--db", str(db), "--audit-log", str(log)
    )
    token("revoke", "shop", "--db", str(db), "--audit-log", str(log))
    found = lines(log)
    assert [(each["what"], each["token"], each["status"]) for each in found] == [
        ("token create", "shop", 200),
        ("token revoke", "shop", 200),
    ]
    assert secret not in log.read_text()


def test_a_replay_and_a_drop_from_the_shell_are_noted(db: Path, log: Path) -> None:
    """Not a look."""
    with BlockQueue(db) as queue:
        queue.create_topic("cart", ["worker"])
    where = ["cart", "worker", "--db", str(db), "--audit-log", str(log)]
    for action in ([], ["--replay"], ["--drop", "--yes"]):
        assert CliRunner().invoke(main, ["retries", *where, *action]).exit_code == 0
    assert [(each["what"], each["topic"], each["subscriber"]) for each in lines(log)] == [
        ("retries replay", "cart", "worker"),
        ("retries drop", "cart", "worker"),
    ]


_ACTS = (
    "topic create cart --subscriber worker",
    "topic pause cart",
    "topic resume cart",
    "subscriber add cart other",
    "subscriber pause cart other",
    "subscriber resume cart other",
    "subscriber delete cart other --yes",
    "schedule create cart daily '0 7 * * *' hello",
    "schedule update cart daily --message hi",
    "schedule pause cart daily",
    "schedule resume cart daily",
    "schedule run-now cart daily",
    "schedule delete cart daily --yes",
    "dlq replay cart worker --all",
    "dlq drop cart worker --all --yes",
    "topic delete cart --yes",
)


def test_what_an_operator_does_to_the_file_is_noted(db: Path, log: Path) -> None:
    """In the words of the command, and what it was about; not what was only looked at."""
    env = {"BLOCKQUEUE_DB": str(db), "BLOCKQUEUE_AUDIT_LOG": str(log)}
    for act in _ACTS:
        assert CliRunner().invoke(main, shlex.split(act), env=env).exit_code == 0, act
    for look in ("topic list", "status"):
        assert CliRunner().invoke(main, look.split(), env=env).exit_code == 0
    found = lines(log)
    assert [each["what"] for each in found] == [" ".join(act.split()[:2]) for act in _ACTS]
    assert {each["topic"] for each in found} == {"cart"}
    assert [each.get("subscriber") for each in found[3:7]] == ["other"] * 4
    assert {each.get("name") for each in found[7:13]} == {"daily"}
    assert all(each["from"].startswith("a shell of uid ") for each in found)


def test_what_an_operator_may_not_do_is_noted_with_the_reason(db: Path, log: Path) -> None:
    """But not what was thought better of."""
    env = {"BLOCKQUEUE_DB": str(db), "BLOCKQUEUE_AUDIT_LOG": str(log)}
    with BlockQueue(db) as queue:
        queue.create_topic("cart", ["worker"])
    run = CliRunner().invoke
    assert run(main, ["topic", "delete", "cart"], input="n\n", env=env).exit_code == 1
    assert run(main, ["subscriber", "add", "cart", "worker"], env=env).exit_code == 4
    assert run(main, ["restore", "--force", "no.db", "--db", str(db)], env=env).exit_code == 1
    assert [(each["what"], each["status"]) for each in lines(log)] == [
        ("subscriber add", 409),
        ("restore", 400),
    ]
    assert "no.db" in lines(log)[1]["reason"]


# What is in no log.


def traces(server: Server) -> str:
    """Return what the system tells everybody about a process, and what its owner can see."""
    place = Path(f"/proc/{server.process.pid}")
    return " ".join(
        (place / name).read_bytes().decode(errors="replace") for name in ("cmdline", "environ")
    )


def test_no_secret_is_in_a_log_or_a_process_list(db: Path, log: Path, tmp_path: Path) -> None:
    """Good, bad, revoked and misplaced ones; whatever the answer is."""
    file = tmp_path / "secret"
    file.write_text("administrators-own-secret-" * 2)
    scopes = [word for each in EVERYTHING for word in ("--scope", each)]
    good = token("create", "shop", *scopes, "--db", str(db))
    revoked = token("create", "gone", *scopes, "--db", str(db))
    token("revoke", "gone", "--db", str(db))
    given = [good, revoked, file.read_text(), good[:-1], "bq_1_misspelt-misspelt-misspelt"]
    arguments = ("--audit-log", str(log), "--admin-token-file", str(file), "--access-log")
    with serving(db, *arguments) as server:
        statuses = set[int]()
        for secret in given:
            for method, path, body in (
                ("POST", "/topics", CART),
                ("POST", "/v1/topics", b"{"),
                ("DELETE", "/topics/none", None),
                ("GET", "/nowhere", None),
                ("BREW", "/v1/topics", None),
                ("GET", f"/v1/topics?access_token={secret}", None),
            ):
                statuses.add(call(server, secret, method, path, body).status)
        seen = traces(server)
        assert server.stop() == 0
    assert {200, 400, 401, 404, 409} <= statuses
    everything = seen + server.errors + server.line + log.read_text()
    assert str(db) in everything  # it is looked for rightly
    assert '"shop"' in everything
    for secret in given:
        assert secret not in everything
        assert secret.split("_", 2)[-1] not in everything
