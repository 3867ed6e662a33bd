"""The examples for proxies, run in front of a real server."""

from __future__ import annotations

import contextlib
import getpass
import http.client
import re
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from .http_server import (
    PATIENCE_S,
    Server,
    create_topic,
    publish,
    read,
    serving,
    until,
    unused_port,
)

OPS = Path(__file__).resolve().parent.parent / "docs/ops"
_MIB = 2**20


class Proxy:
    """A proxy with TLS in front of one port."""

    def __init__(self, port: int, certificate: Path, process: subprocess.Popen[bytes]) -> None:
        self.port = port
        self._process = process
        self._context = ssl.create_default_context(cafile=str(certificate))

    def connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(
            "localhost", self.port, timeout=PATIENCE_S, context=self._context
        )

    def send(self, method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
        """Send one request; return the status and the body."""
        with contextlib.closing(self.connect()) as connection:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def listens(self) -> bool:
        assert self._process.poll() is None, "the proxy has ended"
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except ConnectionRefusedError:
            return False
        return True

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE_S)


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for localhost, and its key."""
    certificate, key = folder / "it.pem", folder / "it.key"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    command += " -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    subprocess.run(
        [*command.split(), "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
        timeout=30,
    )
    return certificate, key


def nginx(folder: Path, text: str, certificate: Path, key: Path) -> list[str]:
    """Write nginx's files; return its command."""
    text = text.replace("/etc/ssl/queue.example.org.pem", str(certificate))
    text = text.replace("/etc/ssl/queue.example.org.key", str(key))
    paths = "".join(
        f"{name}_temp_path {folder}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"user {getpass.getuser()}; daemon off; pid {folder}/pid; error_log {folder}/errors;\n"
        f"events {{}}\nhttp {{ access_log off;\n{paths}{text}\n}}\n"
    )
    return ["nginx", "-p", str(folder), "-e", f"{folder}/errors", "-c", f"{folder}/nginx.conf"]


def caddy(folder: Path, text: str, certificate: Path, key: Path) -> list[str]:
    """Write Caddy's file; return its command."""
    text = text.replace("\trequest_body", f"\ttls {certificate} {key}\n\trequest_body", 1)
    options = f"{{\n\tadmin off\n\tauto_https off\n\tstorage file_system {folder}\n}}\n"
    (folder / "Caddyfile").write_text(options + text)
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]


@contextlib.contextmanager
def proxied(kind: str, folder: Path, upstream: int, *changes: tuple[str, str]) -> Iterator[Proxy]:
    """Run an example before the server at ``upstream``, changed to break it if that is given."""
    folder.mkdir()
    port = unused_port()
    certificate, key = make_certificate(folder)
    text = (OPS / {"nginx": "nginx.conf", "caddy": "Caddyfile"}[kind]).read_text()
    address = {"nginx": ("listen 443", f"listen 127.0.0.1:{port}")}
    address["caddy"] = ("queue.example.org {", f"https://localhost:{port} {{")
    for old, new in (("127.0.0.1:8080", f"127.0.0.1:{upstream}"), address[kind], *changes):
        assert old in text, old
        text = text.replace(old, new)
    make = {"nginx": nginx, "caddy": caddy}[kind]
    with open(folder / "output", "wb") as output:
        process = subprocess.Popen(
            make(folder, text, certificate, key), stdout=output, stderr=output, cwd=folder
        )
    proxy = Proxy(port, certificate, process)
    try:
        until(proxy.listens, "the proxy listens")
        yield proxy
    finally:
        proxy.close()


@pytest.fixture(
    params=[
        pytest.param(
            name, marks=pytest.mark.skipif(shutil.which(name) is None, reason=f"no {name} here")
        )
        for name in ("nginx", "caddy")
    ]
)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def leave_a_poll(proxy: Proxy, server: Server, topic: str) -> bool:
    """Leave a poll, publish, and say whether another consumer gets the message at once."""
    create_topic(server, topic)
    leaving = proxy.connect()
    leaving.request("POST", f"/v1/topics/{topic}/subscribers/worker/claim?timeout=50s")
    # The server has the poll before it is left: it comes by the same way as what is sent then.
    staying = proxy.connect()
    staying.request("POST", f"/v1/topics/{topic}/subscribers/worker/claim?timeout=20ms")
    assert staying.getresponse().read() == b'{"data":[]}'
    assert leaving.sock is not None
    leaving.sock.close()
    leaving.close()
    staying.request("POST", f"/v1/topics/{topic}/subscribers/worker/claim?timeout=1s")
    staying.getresponse().read()
    staying.close()
    publish(server, topic, "for whoever stays")
    return [each["message"] for each in read(server, topic, timeout="2s")] != []


def test_a_proxy_lets_through_what_the_server_takes(kind: str, tmp_path: Path) -> None:
    """The largest message, a long poll that wakes, and a batch of nearly 16 MiB."""
    with (
        serving(tmp_path / "queue.db") as server,
        proxied(kind, tmp_path / "proxy", server.port) as proxy,
    ):
        create_topic(server, "cart")
        message = "m" * _MIB
        status, _ = proxy.send("POST", "/topics/cart/messages", f'{{"message": "{message}"}}')
        assert status == 200
        status, body = proxy.send("GET", "/topics/cart/subscribers/worker")
        assert (status, len(body) > _MIB) == (200, True)
        with contextlib.closing(proxy.connect()) as waiting:
            waiting.request("GET", "/topics/cart/subscribers/worker?timeout=50s")
            publish(server, "cart", "wake up")
            assert b"wake up" in waiting.getresponse().read()
        many = ",".join([f'{{"message": "{"m" * (_MIB - 100)}"}}'] * 15)
        path = "/v1/topics/cart/messages/batch"
        status, body = proxy.send("POST", path, f"[{many}]")
        assert status == 202, body


def test_a_client_that_leaves_its_poll_takes_nothing_along(kind: str, tmp_path: Path) -> None:
    """The server hears of it through the proxy."""
    with (
        serving(tmp_path / "queue.db") as server,
        proxied(kind, tmp_path / "proxy", server.port) as proxy,
    ):
        assert leave_a_poll(proxy, server, "left")


def test_a_request_without_an_answer_is_sent_once(kind: str, tmp_path: Path) -> None:
    """Whether the connection is new, or was used before."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer_every_other, args=(listener, heard))
        thread.start()
        try:
            with proxied(kind, tmp_path / "proxy", listener.getsockname()[1]) as proxy:
                assert proxy.send("POST", "/first", "{}") == (200, b"ok")
                assert proxy.send("POST", "/second", "{}")[0] == 502
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(PATIENCE_S)

    assert heard == [b"POST /first", b"POST /second"]


def answer_every_other(listener: socket.socket, heard: list[bytes]) -> None:
    """Be a server that answers a request well, and closes the connection at the next one."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection, connection.makefile("rb") as file:
            while line := file.readline():
                heard.append(b" ".join(line.split()[:2]))
                headers = http.client.parse_headers(file)
                file.read(int(headers["Content-Length"] or 0))
                if len(heard) % 2 == 0:
                    break
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def test_polls_may_be_silent_for_a_minute(kind: str) -> None:
    """Each example waits for longer than any poll."""
    text = {"nginx": "proxy_read_timeout", "caddy": "response_header_timeout"}[kind]
    file = {"nginx": "nginx.conf", "caddy": "Caddyfile"}[kind]
    found = re.search(rf"{text} (\d+)s", (OPS / file).read_text())

    assert found is not None
    assert int(found[1]) > 60


# The controls: an example with one of its lines changed is noticed.


@pytest.mark.skipif(shutil.which("nginx") is None, reason="no nginx here")
def test_the_tests_notice_a_proxy_that_is_wrong(tmp_path: Path) -> None:
    """One that goes on without the client, and takes no large body."""
    wrong = [
        ("proxy_ignore_client_abort off;", "proxy_ignore_client_abort on;"),
        ("client_max_body_size 17m;", ""),
    ]
    with (
        serving(tmp_path / "queue.db") as server,
        proxied("nginx", tmp_path / "proxy", server.port, *wrong) as proxy,
    ):
        message = "m" * _MIB
        assert proxy.send("POST", "/topics", f'{{"name": "{message}"}}')[0] == 413
        assert not leave_a_poll(proxy, server, "lost")
