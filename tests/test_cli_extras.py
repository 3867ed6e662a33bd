"""Completion, version and the short measurement."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import blockqueue

from .cli_helpers import PATIENCE_S, Shell, Terminal, ended, shell
from .http_server import child_environment

__all__ = ["shell"]


def completed(words: str, folder: Path) -> list[str]:
    """Return what the program offers a shell for the last of ``words``."""
    done = subprocess.run(
        [sys.executable, "-m", "blockqueue"],
        env={
            **child_environment(),
            "_BLOCKQUEUE_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - (not words.endswith(" "))),
        },
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    return [line.split(",", 1)[1] for line in done.stdout.splitlines() if line]


def test_commands_and_options_are_completed(tmp_path: Path) -> None:
    assert completed("blockqueue pub", tmp_path) == ["publish"]
    assert set(completed("blockqueue topic ", tmp_path)) >= {"create", "delete", "pause"}
    assert completed("blockqueue publish --corr", tmp_path) == ["--correlation-id"]
    assert completed("blockqueue schedule create --time", tmp_path) == ["--timezone"]


def test_names_are_completed_from_the_file(shell: Shell) -> None:
    shell.ok("topic", "create", "orders", "--subscriber", "worker", "--subscriber", "mail")
    shell.ok("topic", "create", "other", "--subscriber", "worker")
    db = f"--db {shell.db}"
    assert completed(f"blockqueue publish {db} or", shell.folder) == ["orders"]
    assert completed(f"blockqueue consume {db} orders w", shell.folder) == ["worker"]
    assert completed(f"blockqueue consume {db} nothing w", shell.folder) == []
    assert completed("blockqueue publish --db missing or", shell.folder) == []
    assert not (shell.folder / "missing").exists()


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_completes_in_a_terminal(tmp_path: Path) -> None:
    """As a person meets it: the script is loaded, and the tab key pressed."""
    program = tmp_path / "blockqueue"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m blockqueue "$@"\n')
    program.chmod(0o755)
    terminal = Terminal()
    environment = child_environment()
    with ended(
        subprocess.Popen(
            ["bash", "--norc", "--noprofile", "-i"],
            stdin=terminal.slave,
            stdout=terminal.slave,
            stderr=terminal.slave,
            env={
                **environment,
                "PATH": f"{tmp_path}:{os.environ['PATH']}",
                "PS1": "ready> ",
                "TERM": "dumb",
                "HISTFILE": "/dev/null",
            },
            cwd=tmp_path,
            start_new_session=True,
            text=True,
        )
    ):
        terminal.read_until("ready> ")
        os.write(terminal.master, b'eval "$(blockqueue completion bash)"; echo load""ed\n')
        terminal.read_until("loaded")
        os.write(terminal.master, b"blockqueue subscriber prev\t")
        terminal.read_until("blockqueue subscriber preview")
    terminal.read_all()


@pytest.mark.parametrize("name", ["zsh", "fish"])
def test_each_shell_has_a_script(shell: Shell, name: str) -> None:
    assert "_BLOCKQUEUE_COMPLETE" in shell.ok("completion", name)
    assert "bash" in shell.fails(2, "completion", "csh")


def test_the_version_names_what_a_bug_report_needs(shell: Shell) -> None:
    (told,) = [json.loads(shell.ok("version", "--json"))]
    assert told["blockqueue"] == blockqueue.__version__
    assert set(told) == {"blockqueue", "schema", "sqlite", "python", "system"}
    assert shell.ok("--version").split()[-1] == blockqueue.__version__


def test_the_short_measurement_leaves_nothing_behind(shell: Shell) -> None:
    figures = json.loads(shell.ok("bench", "--messages", "1600", "--json"))
    assert len(figures) == 3
    assert all(rate > 0 for rate in figures.values())
    assert list(shell.folder.iterdir()) == []
    assert "16 threads" in shell.ok("bench", "--messages", "1600")
    shell.env["BLOCKQUEUE_DB"] = "/nowhere/queue.db"
    assert "there is no folder /nowhere" in shell.fails(2, "bench")
