"""Holds a read transaction open on a database until its input ends: ``… DATABASE``."""

from __future__ import annotations

import sys

import apsw

if __name__ == "__main__":
    connection = apsw.Connection(sys.argv[1])
    connection.execute("BEGIN")
    connection.execute("SELECT count(*) FROM block").fetchall()
    sys.stdout.write("reading\n")
    sys.stdout.flush()
    sys.stdin.read()
