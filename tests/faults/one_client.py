"""One client that does one thing after the other, so that a run can be repeated exactly."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ..crash_campaign import is_empty
from ..crash_checker import OK, UNKNOWN, Acked, Published, Received, Unanswered, Verdict, check
from ..crash_clients import SUBSCRIBERS, TOPIC, Answer, Http, Journal, Unsent
from ..crash_server import ServerProcess

VISIBILITY_S = 0.5
DRAIN_MAX_S = 30.0

#: What a server may answer while its disk is bad. None: it has ended.
EXPECTED = {None, OK, 404, 429, *UNKNOWN, 507}
#: Of a topic that is made: an earlier try whose end nobody knew may have made it.
EXISTS = 409


class _Message(msgspec.Struct):
    id: str
    message: str


class _Read(msgspec.Struct):
    data: list[_Message]


class OneClient:
    """Publishes, reads and acknowledges; keeps the journal; counts the answers."""

    def __init__(self, folder: Path) -> None:
        self.journal = Journal(folder / "journal.jsonl")
        self.statuses: Counter[int | None] = Counter()
        self.problems: list[str] = []
        self._http: Http | None = None

    def connect(self, server: ServerProcess) -> None:
        """Talk to this server from now on."""
        if self._http is not None:
            self._http.close()
        self._http = Http(server.port)

    def close(self) -> None:
        if self._http is not None:
            self._http.close()
        self.journal.close()

    def ask(self, method: str, path: str, body: object = None) -> Answer:
        """Send a request; one that cannot be sent has no answer."""
        assert self._http is not None
        try:
            answer = self._http.ask(method, f"/topics{path}", body)
        except Unsent:
            now = time.monotonic()
            answer = Answer(now, now, None, b"")
        self.statuses[answer.status] += 1
        text = answer.body.decode(errors="replace")
        is_known = answer.status == EXISTS and (method, path) == ("POST", "")
        if not (is_known or answer.status in EXPECTED) or "Traceback" in text:
            self.problems.append(f"{method} {path}: {answer.status} {text[:200]}")
        return answer

    def create_topic(self) -> bool:
        """Return whether it is certain that there is a topic."""
        option = {"max_attempts": 1_000_000, "visibility_duration": f"{VISIBILITY_S}s"}
        subscribers = [{"name": name, "option": option} for name in SUBSCRIBERS]
        answer = self.ask("POST", "", {"name": TOPIC, "subscribers": subscribers})
        return answer.status in {OK, EXISTS}

    def publish(self, body: str) -> int | None:
        """Publish a body that nobody has published before; return the status."""
        answer = self.ask("POST", f"/{TOPIC}/messages", {"message": body})
        # Who was never asked has stored nothing: that is known.
        if answer.sent != answer.answered:
            self.journal.note(Published(body, answer.sent, answer.answered, answer.status))
        return answer.status

    def read(self, subscriber: str, timeout: str = "0s") -> list[str]:
        """Read once; return the ids."""
        path = f"/{TOPIC}/subscribers/{subscriber}?timeout={timeout}"
        answer = self.ask("GET", path)
        sent, answered = answer.sent, answer.answered
        if answer.status != OK:
            self.journal.note(Unanswered(subscriber, sent, answered, answer.status))
            return []
        messages = msgspec.json.decode(answer.body, type=_Read).data
        self.journal.note(
            *(Received(subscriber, each.id, each.message, sent, answered) for each in messages)
        )
        return [each.id for each in messages]

    def ack(self, subscriber: str, message_id: str) -> int | None:
        answer = self.ask("DELETE", f"/{TOPIC}/subscribers/{subscriber}/messages/{message_id}")
        if answer.sent != answer.answered:
            self.journal.note(
                Acked(subscriber, message_id, answer.sent, answer.answered, answer.status)
            )
        return answer.status

    def consume(self, timeout: str = "0s") -> int:
        """Read and acknowledge once for each subscriber; return how many messages came."""
        count = 0
        for subscriber in SUBSCRIBERS:
            ids = self.read(subscriber, timeout)
            count += len(ids)
            for each in ids:
                self.ack(subscriber, each)
        return count

    def drain(self) -> float:
        """Empty the queue; return the seconds that took. Raises RuntimeError if it can't be."""
        started = time.monotonic()
        while not is_empty(self.ask("GET", f"/{TOPIC}/subscribers").body):
            if time.monotonic() - started > DRAIN_MAX_S:
                raise RuntimeError(f"not drained after {DRAIN_MAX_S:.0f} s")
            self.consume(f"{VISIBILITY_S / 5}s")
        return time.monotonic() - started

    def verdict(self, subscribers: Sequence[str] = SUBSCRIBERS) -> Verdict:
        """Judge everything; the queue must have been drained."""
        return check(self.journal.records(), subscribers, VISIBILITY_S)
