"""The look for known vulnerabilities finds one, and never takes no answer for a good one."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("pip_audit") is None, reason="comes with blockqueue[dev]"
)

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "audit.py"
VULNERABILITY = {
    "id": "CVE-1-1",
    "summary": "all is lost",
    "affected": [
        {
            "package": {"name": "waitress", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99"}]}],
        }
    ],
}


@contextlib.contextmanager
def service(vulnerable: str | None) -> Iterator[str]:
    """Run a service that knows of one vulnerable package, or of none; yield its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            is_vulnerable = asked["package"]["name"] == vulnerable
            body = json.dumps({"vulns": [VULNERABILITY]} if is_vulnerable else {}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1/query"
        finally:
            server.shutdown()
            thread.join(30)


def audit(address: str, folder: Path) -> tuple[int, str]:
    """Run the script against a service; return its exit code and what it printed."""
    options = ("--vulnerability-service", "osv", "--osv-url", address, "--cache-dir", str(folder))
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *options],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_a_known_vulnerability_fails_and_is_named(tmp_path: Path) -> None:
    with service("waitress") as address:
        code, said = audit(address, tmp_path)
    assert code == 1
    assert "CVE-1-1, mended in 99" in said
    assert "1 with a known vulnerability" in said


def test_where_nothing_is_known_it_says_of_how_many(tmp_path: Path) -> None:
    with service(None) as address:
        code, said = audit(address, tmp_path)
    assert code == 0
    assert "looked at: none with a known vulnerability" in said
    assert "not run" not in said
    assert "not looked at" not in said


def test_a_service_that_cannot_be_reached_is_no_success(tmp_path: Path) -> None:
    code, said = audit("http://127.0.0.1:1/v1/query", tmp_path)
    assert code == 0
    assert "not run: " in said
    assert "looked at" not in said


def test_what_nobody_knows_is_not_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """As with a mirror that has the packages and tells nothing about them."""
    spec = importlib.util.spec_from_file_location("audit", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    skipped = {"name": "falcon", "skip_reason": "not found"}
    assert module.tell([skipped]) == 0
    assert capsys.readouterr().out == "not run: the service knows none of them\n"
    clean: dict[str, Any] = {"name": "waitress", "version": "3", "vulns": []}
    assert module.tell([skipped, clean]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "not looked at: falcon",
        "1 looked at: none with a known vulnerability",
    ]
