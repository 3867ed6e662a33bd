"""Thumbnails of images, made in the background. Needs Pillow.

    python examples/thumbnails.py add holiday/*.jpg      # as often as you like
    python examples/thumbnails.py work --to thumbnails   # in as many terminals as you like

Kill the workers at any moment: what they were at is done again. An image is added once, however
often `add` is told it, until it changes. What is no image is given up at once, because it will not
be one at the next try either.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import threading
from pathlib import Path

import msgspec
from PIL import Image, UnidentifiedImageError

from blockqueue import AlreadyExists, BlockQueue, Cancel, Worker

_SIZE = (128, 128)


class Job(msgspec.Struct):
    """An image that wants a thumbnail."""

    path: str


def add(queue: BlockQueue, paths: list[Path]) -> None:
    """Ask for a thumbnail of each image."""
    for path in paths:
        status = path.stat()
        key = f"{status.st_dev}-{status.st_ino}-{status.st_mtime_ns}"
        job = msgspec.json.encode(Job(str(path.resolve())))
        receipt = queue.publish("images", job, idempotency_key=key)
        print("known" if receipt.duplicate else "added", path.name, flush=True)


def make(job: Job, folder: Path) -> None:
    """Make a thumbnail. Doing it twice gives the same file, and never half of one."""
    source = Path(job.path)
    try:
        with Image.open(source) as image:
            image.thumbnail(_SIZE)
            unfinished = folder / f".{source.stem}.{os.getpid()}.{threading.get_ident()}"
            image.convert("RGB").save(unfinished, "PNG")
    except (UnidentifiedImageError, FileNotFoundError) as error:
        raise Cancel(str(error)) from error
    unfinished.replace(folder / f"{source.stem}.png")
    print("made", f"{source.stem}.png", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make thumbnails in the background.")
    parser.add_argument("--db", default="thumbnails.db")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("add").add_argument("paths", nargs="+", type=Path)
    commands.add_parser("work").add_argument("--to", default="thumbnails", type=Path)
    arguments = parser.parse_args()

    with BlockQueue(arguments.db) as queue:
        with contextlib.suppress(AlreadyExists):
            queue.create_topic("images", ["thumbnails"])
        if arguments.command == "add":
            add(queue, arguments.paths)
            return
        arguments.to.mkdir(exist_ok=True)
        Worker(
            queue,
            "images",
            "thumbnails",
            lambda job: make(job, arguments.to),
            type=Job,
            concurrency=os.cpu_count() or 1,
        ).run()


if __name__ == "__main__":
    main()
