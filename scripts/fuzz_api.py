#!/usr/bin/env python3
"""Send the server requests that its OpenAPI document allows, and ones that it does not.

    scripts/fuzz_api.py                     # about 5,000 requests
    scripts/fuzz_api.py --examples 1000     # more for each operation
    scripts/fuzz_api.py --seed 7            # again what was sent before

A server of its own is started on a free port of the loopback address. Schemathesis makes the
requests, and chains of them, and checks the answers: no 5xx, nothing that the document does not
allow, nothing refused that it allows. Exits 1 if anything is found.

Run it with a Python that has blockqueue[dev], as `.venv/bin/python scripts/fuzz_api.py`.
"""

from __future__ import annotations

import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import click
import msgspec

HERE = Path(__file__).resolve().parent
TOPIC = {"name": "orders", "subscribers": [{"name": "worker"}, {"name": "other"}]}
BATCHES = 10
_STOP_S = 30
_ALL_TESTS_S = 1200


def start(folder: str) -> tuple[subprocess.Popen[str], str]:
    """Start a server; return it and its address."""
    command = [sys.executable, "-m", "blockqueue", "serve", "--db", "fuzz.db", "--port", "0"]
    server = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    said = server.stdout.readline()
    found = re.search(r"http://\S+", said)
    if found is None:
        raise click.ClickException(f"the server did not start: {said}")
    return server, found.group()


def post(url: str, body: object) -> None:
    request = urllib.request.Request(url, msgspec.json.encode(body))
    with urllib.request.urlopen(request, timeout=10) as response:
        response.read()


def make_topic(address: str) -> None:
    """Make the topic that most requests are about, with messages to claim."""
    post(f"{address}/v1/topics", TOPIC)
    for _ in range(BATCHES):
        post(f"{address}/v1/topics/orders/messages/batch", [{"message": "hi"}] * 1_000)


@click.command(help=__doc__)
@click.option("--examples", default=100, show_default=True, help="For each operation and phase.")
@click.option("--seed", type=int, help="Default: another one each time; it is printed.")
def main(examples: int, seed: int | None) -> None:
    """Run the campaign."""
    seed = secrets.randbelow(2**32) if seed is None else seed
    with tempfile.TemporaryDirectory(prefix="blockqueue-fuzz-") as folder:
        server, address = start(folder)
        try:
            make_topic(address)
            config = ["--config-file", str(HERE / "fuzz_api.toml"), "--no-color"]
            done = subprocess.run(
                [
                    *(sys.executable, "-m", "schemathesis.cli", *config, "run"),
                    *(f"{address}/openapi.json", "--url", f"{address}/v1"),
                    *("--max-examples", str(examples), "--seed", str(seed)),
                ],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(HERE), "SCHEMATHESIS_HOOKS": "fuzz_hooks"},
                timeout=_ALL_TESTS_S,
                check=False,
            )
        finally:
            server.send_signal(signal.SIGTERM)
            code = server.wait(_STOP_S)
    if code != 0:
        raise click.ClickException(f"the server exited with {code}")
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
