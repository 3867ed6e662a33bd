"""Room: acknowledgements on a full disk, a floor for publishes, and a log that has a limit."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import apsw
import pytest
from click.testing import CliRunner

from blockqueue import BlockQueue, DiskFull, Unavailable
from blockqueue.api import _serving
from blockqueue.api.cli import main
from blockqueue.storage import _space
from blockqueue.storage._space import Space

from .embedded_helpers import WAIT_S, counts, open_queue
from .http_server import until

_MIB = 1024 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 32 MiB in a file, with nothing kept back for root."""
    tools = [shutil.which(name) for name in ("mkfs.ext4", "mount", "umount")]
    if os.geteuid() != 0 or None in tools:
        pytest.skip("only root can mount a small disk, with mkfs.ext4, mount and umount")
    mkfs, mount, umount = map(str, tools)
    image, path = tmp_path / "image", tmp_path / "disk"
    path.mkdir()
    with image.open("wb") as file:
        file.truncate(32 * _MIB)
    run([mkfs, "-q", "-m", "0", "-O", "^has_journal", str(image)])
    mounted = subprocess.run(
        [mount, "-o", "loop", str(image), str(path)],
        capture_output=True,
        timeout=WAIT_S,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no loop device can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield path
    finally:
        run([umount, str(path)])


def run(command: list[str]) -> None:
    subprocess.run(command, capture_output=True, timeout=WAIT_S, check=True)


def fill(disk: Path) -> Path:
    """Take all the room that is left on a disk; return the file that has it."""
    path = disk / "filler"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        for size in (_MIB, 4096):
            with contextlib.suppress(OSError):
                while os.write(fd, b"x" * size) == size:
                    pass
        os.fsync(fd)
    finally:
        os.close(fd)
    return path


def publish_until_refused(queue: BlockQueue) -> tuple[int, str]:
    """Return how many messages were stored, and the refusal."""
    stored = 0
    while True:
        try:
            queue.publish("cart", os.urandom(10_000).hex())
        except DiskFull as error:
            return stored, str(error)
        stored += 1


def take_all(queue: BlockQueue) -> int:
    """Claim and acknowledge all messages, one by one; return how many there were."""
    done = 0
    while deliveries := queue.claim("cart", "worker"):
        for delivery in deliveries:
            delivery.ack()
        done += len(deliveries)
    return done


def test_on_a_full_disk_everything_but_publishing_goes_on(small_disk: Path) -> None:
    """Nothing is lost, all can be acknowledged, and with room again it goes on by itself."""
    with open_queue(small_disk) as (queue, _):
        stored, refusal = publish_until_refused(queue)
        assert "free on the disk" in refusal
        free = os.statvfs(small_disk)
        assert free.f_bavail * free.f_frsize > _MIB
        assert queue.system.store.space.trouble() == refusal

        queue.system.store.checkpoint()  # so that the log has no room of its own
        filler = fill(small_disk)
        with pytest.raises(DiskFull):
            queue.publish("cart", "too much")
        assert take_all(queue) == stored
        queue.system.store.checkpoint()
        assert queue.system.store.failed is None
        assert queue.system.store.space.thrown_off == 1
        with pytest.raises(DiskFull):
            queue.publish("cart", "too much")

        filler.unlink()
        queue.publish("cart", "room again")
        assert counts(queue) == (1, 0, 0)
        assert queue.system.store.space.trouble() is None

    with BlockQueue(small_disk / "queue.db") as queue:
        assert [each.message for each in queue.claim("cart", "worker")] == ["room again"]


def test_without_the_ballast_a_full_disk_stops_consumers(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: it is the ballast that lets acknowledgements through."""
    monkeypatch.setattr(Space, "throw_off", lambda space: False)
    with open_queue(small_disk) as (queue, _):
        publish_until_refused(queue)
        queue.system.store.checkpoint()
        fill(small_disk)
        with pytest.raises(DiskFull):
            take_all(queue)


def test_a_ballast_is_made_again_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at once: what took the room may be a quota."""
    with open_queue(tmp_path) as (queue, _):
        space = queue.system.store.space
        ballast = Path(space.ballast_path)
        assert ballast.stat().st_size == _space.BALLAST_BYTES
        assert ballast.stat().st_mode & 0o777 == 0o600
        assert space.throw_off()
        assert not space.throw_off()
        queue.publish("cart", "too early")
        assert ballast.stat().st_size == 0

        monkeypatch.setattr(space, "_next_ballast", 0.0)
        monkeypatch.setattr(space, "_next_look", 0.0)
        queue.publish("cart", "now")
        assert ballast.stat().st_size == _space.BALLAST_BYTES


def test_a_path_that_cannot_be_used_any_more_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Another owner, say: what is open goes on. It is told once, and /readyz says it."""

    def denied(path: str, *_: object) -> NoReturn:
        raise PermissionError(13, "Permission denied", path)

    with open_queue(tmp_path) as (queue, _):
        space = queue.system.store.space
        monkeypatch.setattr(_space, "_LOOK_S", 0.0)
        monkeypatch.setattr(space, "_next_look", 0.0)
        for call in ("open", "statvfs", "truncate"):
            with monkeypatch.context() as patched:
                space.throw_off()
                space._next_ballast = 0.0
                patched.setattr(os, call, denied)
                queue.publish("cart", call)
                queue.publish("cart", call)
                if call == "statvfs":
                    assert "cannot be looked at" in str(space.trouble())
                if call == "truncate":
                    assert not space.throw_off()
    warnings = [each for each in caplog.messages if "there is no ballast" in each]
    assert len(warnings) == 2  # of open and of statvfs


def test_nothing_is_published_into_a_folder_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be written to files that nobody can open again."""
    folder = tmp_path / "gone"
    folder.mkdir()
    with open_queue(folder) as (queue, _):
        queue.publish("cart", "before")
        monkeypatch.setattr(queue.system.store.space, "_next_look", 0.0)
        folder.rename(tmp_path / "elsewhere")
        with pytest.raises(Unavailable, match="is gone"):
            queue.publish("cart", "lost")
        (tmp_path / "elsewhere").rename(folder)
        queue.publish("cart", "kept")


def test_the_floor_can_be_chosen(tmp_path: Path) -> None:
    """A disk is never so large that a floor above its sixteenth would be kept."""
    disk = os.statvfs(tmp_path)
    if disk.f_bavail < disk.f_blocks // 16:
        pytest.skip("the disk of this machine is nearly full")
    with open_queue(tmp_path, min_free_bytes=2**62) as (queue, _):
        queue.publish("cart", "fits")
    space = Space(str(tmp_path / "queue.db"), 0)
    assert space.trouble() is None


SIZES = {"0": 0, "1000": 1000, "512KiB": 512 * 1024, "64 MiB": 64 * _MIB, "2TiB": 2 * 1024**4}


@pytest.mark.parametrize("place", ["typed", "environment", "file"])
@pytest.mark.parametrize("text", SIZES)
def test_serve_hands_its_floor_to_the_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, place: str
) -> None:
    floors: list[int] = []

    def opened(path: str, *, min_free_bytes: int, on_fatal: object) -> None:
        floors.append(min_free_bytes)
        raise DiskFull("that is all this test wants to know")

    monkeypatch.setattr(_serving, "BlockQueue", opened)
    monkeypatch.chdir(tmp_path)
    words = ["serve", "--port", "0"]
    env = {}
    if place == "typed":
        words += ["--min-free", text]
    elif place == "environment":
        env["BLOCKQUEUE_MIN_FREE"] = text
    else:
        (tmp_path / "blockqueue.toml").write_text(f'[serve]\nmin-free = "{text}"\n')
    done = CliRunner().invoke(main, words, env=env)
    assert "that is all" in done.stderr
    assert floors == [SIZES[text]]


@pytest.mark.parametrize("text", ["-1", "1.5GiB", "1GB", "MiB", "much", ""])
def test_a_floor_that_is_no_size_is_refused(text: str) -> None:
    done = CliRunner().invoke(main, ["serve", "--min-free", text])
    assert done.exit_code == 2
    assert "no size like" in done.stderr


def test_a_reader_that_stays_for_long_stops_publishers_before_the_log_fills_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """There is a warning first. When the reader has gone it heals by itself."""
    monkeypatch.setattr(_space, "LOG_WARN_BYTES", 6 * _MIB)
    monkeypatch.setattr(_space, "LOG_BYTES_MAX", 12 * _MIB)
    monkeypatch.setattr(_space, "_TRY_S", 0.0)
    wal = tmp_path / "queue.db-wal"
    with open_queue(tmp_path) as (queue, clock), caplog.at_level(logging.WARNING):
        reader = apsw.Connection(str(tmp_path / "queue.db"), flags=apsw.SQLITE_OPEN_READONLY)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM block").fetchall()
        with pytest.raises(Unavailable, match="keeps a read transaction open"):
            publish_until_refused(queue)
        assert wal.stat().st_size < 20 * _MIB
        assert "keeps a read transaction open" in str(queue.system.store.space.trouble())
        assert "keeps a read transaction open" in caplog.text
        for delivery in queue.claim("cart", "worker", limit=10):
            delivery.ack()

        reader.execute("COMMIT")
        reader.close()

        def heals() -> bool:
            clock.advance(1_000)  # the sweeper looks
            return queue.system.store.space.trouble() is None

        until(heals, "the log is moved")
        queue.publish("cart", "on it goes")
