"""Look for known vulnerabilities in what an installation of the queue brings along.

Asks PyPI, by pip-audit, about the packages of `blockqueue[client,otel]` as they are installed
beside this script. Arguments go to pip-audit. Exits with 1 if something is known. A package that
nobody tells anything about is named as not looked at, and is no reason to fail: there are
mirrors without this service, and machines without a network.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from importlib.metadata import distribution
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_LIMIT_S = 300


def main() -> int:
    """Run it; return the exit code."""
    pinned = sorted(installed_with("blockqueue", frozenset({"client", "otel"})))
    print(f"{len(pinned)} packages come with blockqueue[client,otel]")
    try:
        done = _pip_audit(pinned, sys.argv[1:])
    except subprocess.TimeoutExpired:
        print(f"not run: no answer within {_LIMIT_S} s")
        return 0
    try:
        report = json.loads(done.stdout)
    except json.JSONDecodeError:
        said = done.stderr.strip().splitlines() or ["pip-audit has said nothing"]
        print(f"not run: {said[-1]}")
        return 0
    return tell(report["dependencies"])


def tell(dependencies: list[dict[str, Any]]) -> int:
    """Say what a report has found; return the exit code."""
    unknown = [each["name"] for each in dependencies if "skip_reason" in each]
    known = [each for each in dependencies if each.get("vulns")]
    for each in known:
        for found in each["vulns"]:
            fixed = ", ".join(found["fix_versions"]) or "no version"
            print(f"{each['name']} {each['version']}: {found['id']}, mended in {fixed}")
    looked_at = len(dependencies) - len(unknown)
    if not looked_at:
        print("not run: the service knows none of them")
        return 0
    if unknown:
        print(f"not looked at: {', '.join(unknown)}")
    print(f"{looked_at} looked at: {len(known) or 'none'} with a known vulnerability")
    return 1 if known else 0


def installed_with(name: str, extras: frozenset[str]) -> set[str]:
    """Return what a package needs, and what that needs, each as ``name==version``."""
    found: dict[str, str] = {}
    todo, seen = [(name, extras)], set[tuple[str, frozenset[str]]]()
    while todo:
        name, extras = todo.pop()
        seen.add((name, extras))
        here = distribution(name)
        found[canonicalize_name(name)] = here.version
        for requirement in map(Requirement, here.requires or ()):
            wanted = requirement.name, frozenset(requirement.extras)
            if wanted not in seen and _applies(requirement, extras):
                todo.append(wanted)
    found.pop("blockqueue")  # what is under test is not published
    return {f"{each}=={version}" for each, version in found.items()}


def _applies(requirement: Requirement, extras: frozenset[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": each}) for each in extras or {""})


def _pip_audit(pinned: list[str], arguments: list[str]) -> subprocess.CompletedProcess[str]:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(pinned))
        file.flush()
        return subprocess.run(
            [
                *(sys.executable, "-m", "pip_audit", "--requirement", file.name),
                *("--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json"),
                *arguments,
            ],
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
        )


if __name__ == "__main__":
    sys.exit(main())
