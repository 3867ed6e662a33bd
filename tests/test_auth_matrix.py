"""Who may do what: every route, with every scope, on topics of one's own and others.

The policy stands here a second time, by hand. A route that is not in it fails, and so does one
that lets anybody in whom the policy does not.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import falcon
import falcon.inspect
import falcon.testing
import pytest

from blockqueue import BlockQueue
from blockqueue.api import _needs, app
from blockqueue.api._needs import Needs
from blockqueue.api.v1.routes import OPERATIONS
from blockqueue.storage import ACTIONS

_T, _S = "/topics/{topic}", "/topics/{topic}/subscribers/{subscriber}"
_V, _VS = "/v1/topics/{topic}", "/v1/topics/{topic}/subscribers/{sub}"
_U = "/ui/api/topics/{topic}"
_VM, _VC = _VS + "/messages/{message_id}", _V + "/schedules"

POLICY = {
    "open": ["GET /livez", "GET /", "GET /ui", "GET /ui/{name}"],
    "publish": [
        f"POST {_T}/messages",
        f"POST {_V}/messages",
        f"POST {_V}/messages/batch",
    ],
    "consume": [
        f"GET {_S}",
        f"DELETE {_S}/messages/{{message_id}}",
        f"POST {_VS}/claim",
        *(f"POST {_VM}/{verb}" for verb in ("ack", "nack", "lease", "snooze", "cancel")),
        f"POST {_VS}/messages/batch/ack",
        f"POST {_VS}/messages/batch/nack",
    ],
    "observe": [
        "GET /readyz",
        "GET /metrics",
        "GET /prometheus/metrics",
        "GET /openapi.json",
        "GET /docs",
        "GET /docs/style.css",
        f"GET {_T}/subscribers",
        "GET /v1/topics",
        f"GET {_V}/subscribers",
        f"GET {_V}/messages/{{id}}",
        f"GET {_VS}/messages",
        f"GET {_VS}/dlq",
        f"GET {_VM}/errors",
        f"GET {_VC}",
        f"GET {_VC}/{{id}}",
        f"GET {_VC}/{{id}}/runs",
        "GET /ui/api/topics",
        f"GET {_U}",
        f"GET {_U}/subscribers/{{subscriber}}",
        f"GET {_U}/messages/{{id}}",
        f"GET {_U}/schedules",
    ],
    "manage": [
        "POST /topics",
        f"DELETE {_T}",
        f"POST {_T}/subscribers",
        f"DELETE {_S}",
        "POST /v1/topics",
        f"DELETE {_V}",
        f"POST {_V}/pause",
        f"POST {_V}/resume",
        f"POST {_V}/subscribers",
        f"DELETE {_VS}",
        f"POST {_VS}/pause",
        f"POST {_VS}/resume",
        f"POST {_V}/messages/{{id}}/cancel",
        f"POST {_VS}/dlq/replay",
        f"POST {_VC}",
        f"PUT {_VC}/{{id}}",
        f"DELETE {_VC}/{{id}}",
        *(f"POST {_VC}/{{id}}/{verb}" for verb in ("pause", "resume", "run-now")),
    ],
}
ACTION_OF = {route: action for action, routes in POLICY.items() for route in routes}
ROUTES = [route for route, action in ACTION_OF.items() if action != "open"]
CREATES = {"POST /topics", "POST /v1/topics"}

_BODIES = {
    f"POST {_T}/messages": b'{"message": "hi"}',
    f"POST {_T}/subscribers": b'[{"name": "another"}]',
}

_ID = "0198d5c0-4a8e-8000-9c1e-5a3b7f0d2e61"


class Served(NamedTuple):
    """An application that needs tokens, and the secrets of some."""

    queue: BlockQueue
    client: falcon.testing.TestClient
    secrets: dict[str, str]

    def ask(self, route: str, topic: str, secret: str | None) -> falcon.testing.Result:
        """Ask for a route; ``/v1`` with a body that nothing can be done with."""
        method, path = route.split(" ")
        names = {"topic": topic, "sub": "worker", "subscriber": "worker"}
        path = path.format_map({**names, "id": _ID, "message_id": _ID})
        headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
        if route in CREATES:
            body = b'{"name": "%s", "subscribers": [{"name": "worker"}]}' % topic.encode()
        else:  # ``/topics`` looks at the body first
            body = _BODIES.get(route, b"[]")
        query = {"timeout": "1ms"}
        return self.client.simulate_request(method, path, headers=headers, body=body, params=query)


def made_topics(queue: BlockQueue) -> None:
    """Let there be exactly the topics of the test, whatever was asked for before."""
    for topic in set(queue.topics()) - {"own.a", "foreign.a"}:
        queue.delete_topic(topic)
    for topic in ("own.a", "foreign.a"):
        if topic not in queue.topics():
            queue.create_topic(topic, ["worker"])
        elif not queue.subscribers(topic):
            queue.add_subscribers(topic, ["worker"])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with BlockQueue(tmp_path_factory.mktemp("auth") / "queue.db") as queue:
        made_topics(queue)
        secrets = {
            f"{action}:{topics}": queue.tokens.create(
                f"{action} {number}", [f"{action}:{topics}"]
            ).secret
            for action in ACTIONS
            for number, topics in enumerate(("own.a", "own.*", "*"))
        }
        made = queue.tokens.create("revoked", [f"{action}:*" for action in ACTIONS])
        queue.tokens.revoke("revoked")
        secrets["revoked"] = made.secret
        client = falcon.testing.TestClient(app.create_app(queue))
        yield Served(queue, client, secrets)


def served_routes(application: Any) -> set[str]:
    return {
        f"{method.method} {route.path}"
        for route in falcon.inspect.inspect_routes(application)
        for method in route.methods
        if not method.internal
    }


def test_the_policy_names_every_route(served: Served) -> None:
    """And none that is not served: there is nothing beside the routes, either."""
    assert served_routes(served.client.app) - {
        f"OPTIONS /v1{each.path}" for each in OPERATIONS
    } == set(ACTION_OF)
    assert falcon.inspect.inspect_sinks(served.client.app) == []
    assert falcon.inspect.inspect_static_routes(served.client.app) == []


def test_the_document_says_the_same(served: Served) -> None:
    found = served.ask("GET /openapi.json", "", served.secrets["observe:*"]).json

    for path, methods in found["paths"].items():
        for method, operation in methods.items():
            action = ACTION_OF[f"{method.upper()} /v1{path}"]
            assert operation["security"] == [{"token": [action]}, {}]
            assert {"401", "403", "429"} <= operation["responses"].keys()
    assert found["components"]["securitySchemes"]["token"]["scheme"] == "bearer"


def test_without_a_token_only_life_can_be_seen(served: Served) -> None:
    assert served.ask("GET /livez", "", None).status_code == 200
    for route, secret in itertools.product(ROUTES, (None, "", "bq_1_x", served.secrets["revoked"])):
        check_unauthorized(served.ask(route, "own.a", secret), route)


def check_unauthorized(answer: falcon.testing.Result, route: str) -> None:
    assert answer.status_code == 401, route
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    if " /v1" in route:
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json["code"] == "unauthorized"
        assert answer.json["instance"].startswith("/v1")
    else:
        assert set(answer.json) == {"message", "error"}


def expected(route: str, scope: str, topic: str) -> str:
    """Return what must become of a request: ``in``, ``forbidden`` or ``hidden``."""
    action, topics = scope.split(":")
    covered = topics in ("*", topic) or (topics == "own.*" and topic.startswith("own."))
    if "{topic}" in route:
        if not covered:
            return "hidden"
    elif route in CREATES:
        if not covered:
            return "forbidden"
    elif topics != "*":
        return "forbidden"
    return "in" if action == ACTION_OF[route] else "forbidden"


def found(answer: falcon.testing.Result, topic: str) -> str:
    """Return what has become of a request."""
    if answer.status_code == 403:
        told = answer.json
        assert told.get("code", "forbidden") == "forbidden"
        assert "scope" in told.get("detail", told.get("error"))
        return "forbidden"
    if answer.status_code == 404 and f"there is no topic {topic!r}" in answer.text:
        return "hidden"
    assert answer.status_code not in (401, 429), answer
    assert answer.status_code < 500, answer
    return "in"


@pytest.mark.parametrize("route", ROUTES)
def test_every_scope_opens_what_it_says_and_nothing_else(served: Served, route: str) -> None:
    """On a topic of one's own, on one that others have, and on one that is not there."""
    for scope, topic in itertools.product(served.secrets, ("own.a", "foreign.a", "own.b", "new")):
        if scope == "revoked":
            continue
        made_topics(served.queue)
        answer = served.ask(route, topic, served.secrets[scope])
        wanted = expected(route, scope, topic)
        if wanted == "in" and "{topic}" in route and topic in ("own.b", "new"):
            wanted = "hidden"  # it is not there
        assert found(answer, topic) == wanted, (scope, topic, answer.text)


@pytest.mark.parametrize("route", [each for each in ROUTES if "{topic}" in each])
def test_a_topic_of_others_is_as_one_that_is_not_there(served: Served, route: str) -> None:
    """To the byte, but for its name and the request's."""
    made_topics(served.queue)
    secret = served.secrets[f"{ACTION_OF[route]}:own.*"]
    foreign = served.ask(route, "foreign.a", secret)
    unknown = served.ask(route, "foreign.b", secret)
    own = served.ask(route, "own.b", secret)

    assert foreign.status_code == unknown.status_code == own.status_code == 404
    assert foreign.text == unknown.text.replace("foreign.b", "foreign.a")
    assert foreign.text == own.text.replace("own.b", "foreign.a")
    headers = [dict(each.headers) for each in (foreign, unknown, own)]
    for each in headers:
        each.pop("x-request-id", None)
        each.pop("content-length")
    assert headers[0] == headers[1] == headers[2]


class _Forgotten:
    needs: ClassVar[Needs] = {"GET": _needs.OPEN}

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.data = b"meant for all"

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.data = b"not meant for anybody"


def test_a_method_that_declares_no_need_is_closed(tmp_path: Path) -> None:
    """Whatever scopes a token has: what was forgotten is not served."""
    with BlockQueue(tmp_path / "queue.db") as queue:
        secret = queue.tokens.create("all", [f"{action}:*" for action in ACTIONS]).secret
        application = app.create_app(queue)
        application.add_route("/forgotten", _Forgotten())
        client = falcon.testing.TestClient(application)
        headers = {"Authorization": f"Bearer {secret}"}

        assert client.simulate_get("/forgotten").status_code == 200
        assert client.simulate_post("/forgotten", headers=headers).status_code == 403
        assert client.simulate_put("/forgotten", headers=headers).status_code == 405
