"""Where the dashboard is, and what it reads."""

from __future__ import annotations

from typing import Any

import falcon

from blockqueue.api.queue import BlockQueue

from . import assets, views

_TOPICS = "/ui/api/topics"
_TOPIC = _TOPICS + "/{topic}"


def add_routes(app: falcon.App[Any, Any], queue: BlockQueue) -> None:
    """Serve the dashboard on ``app``."""
    page = assets.PageResource()
    app.add_route("/", page)
    app.add_route("/ui", page)
    app.add_route("/ui/{name}", assets.AssetResource())
    app.add_route(_TOPICS, views.ViewResource(queue, views.topics))
    app.add_route(_TOPIC, views.ViewResource(queue, views.topic))
    app.add_route(_TOPIC + "/subscribers/{subscriber}", views.ViewResource(queue, views.subscriber))
    app.add_route(_TOPIC + "/schedules", views.ViewResource(queue, views.schedules))
    app.add_route(_TOPIC + "/messages/{id}", views.ViewResource(queue, views.message))
