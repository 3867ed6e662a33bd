"""What the image runs, without an engine: its server, and how its health is asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from .http_server import Server, child_environment, refused, serving

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", "")
_TOKEN = "a-token-of-thirty-two-characters-or-more"


def instruction(name: str) -> str:
    """Return what the last instruction of that name says."""
    return [line for line in DOCKERFILE.splitlines() if line.startswith(f"{name} ")][-1]


def image_environment() -> dict[str, str]:
    """Return the variables that the image sets, but for the path."""
    pairs = (each.split("=", 1) for each in instruction("ENV").split()[1:])
    return {name: value for name, value in pairs if name != "PATH"}


def health(port: int, **environment: str) -> int:
    """Run the image's health check; return its exit code."""
    _, python, *arguments = json.loads("[null, " + instruction("HEALTHCHECK").split("CMD [")[1])
    assert python == "python"
    return subprocess.run(
        [sys.executable, *arguments],
        env=child_environment() | {"BLOCKQUEUE_PORT": str(port)} | environment,
        capture_output=True,
        timeout=30,
        check=False,
    ).returncode


def test_the_health_is_whether_it_is_ready(tmp_path: Path) -> None:
    """It is well with a token and without, and not when the server is stopping or gone."""
    server: Server
    with serving(tmp_path / "queue.db") as server:
        assert health(server.port) == 0
        server.stop()
    assert health(server.port) == 1

    secret = tmp_path / "secret"
    secret.write_text(_TOKEN + "\n")
    secret.chmod(0o400)
    given = {"BLOCKQUEUE_ADMIN_TOKEN_FILE": str(secret)}
    with serving(tmp_path / "queue.db", "--admin-token-file", str(secret)) as server:
        assert health(server.port, **given) == 0
        assert health(server.port) == 1  # nobody is told without a token


def test_it_starts_only_with_a_token(tmp_path: Path) -> None:
    """On all addresses, as in the image, it lets nobody in by mistake."""
    environment = image_environment() | {"BLOCKQUEUE_PORT": "0"}
    assert environment["BLOCKQUEUE_HOST"] == "0.0.0.0"
    assert environment["BLOCKQUEUE_DB"].startswith(instruction("VOLUME").split()[1] + "/")
    environment["BLOCKQUEUE_DB"] = str(tmp_path / "queue.db")

    assert "token" in refused(None, environment=environment)

    secret = tmp_path / "secret"
    secret.write_text(_TOKEN + "\n")
    environment["BLOCKQUEUE_ADMIN_TOKEN_FILE"] = str(secret)
    environment["BLOCKQUEUE_AUTH"] = "required"
    with serving(None, environment=environment) as server:
        assert health(server.port, BLOCKQUEUE_ADMIN_TOKEN_FILE=str(secret)) == 0


def test_it_runs_as_nobody_in_particular() -> None:
    """By number, so that an engine that wants that can see that it is not root."""
    user, group = instruction("USER").split()[1].split(":")

    assert int(user) > 0
    assert int(group) > 0
    assert os.path.isabs(instruction("WORKDIR").split()[1])
