"""Whatever the pages of docs/ print is run, and the runner notices what is not so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from . import docs_runner
from .docs_runner import PageFailed, Runner

ROOT = Path(__file__).resolve().parent.parent
DOCS = sorted((ROOT / "docs").rglob("*.md"))
_LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]+)?\)")


@pytest.mark.parametrize("page", DOCS, ids=lambda page: str(page.relative_to(ROOT / "docs")))
def test_a_page_is_so(page: Path, tmp_path: Path) -> None:
    """Each block does what the page says, in the order in which it is read."""
    Runner(page, tmp_path).run()


def test_links_lead_somewhere() -> None:
    """A page that was moved takes its links along."""
    lost = [
        f"{page.relative_to(ROOT)}: {link}"
        for page in [*DOCS, ROOT / "README.md"]
        for link, _ in _LINK.findall(page.read_text())
        if "://" not in link and not (page.parent / link).exists()
    ]

    assert lost == []


def test_every_page_can_be_found() -> None:
    """From the index, or from a page that it leads to."""
    found, to_read = set[Path](), [ROOT / "docs/index.md"]
    while to_read:
        page = to_read.pop()
        if page in found or page.suffix != ".md":
            continue
        found.add(page)
        links = (link for link, _ in _LINK.findall(page.read_text()) if "://" not in link)
        to_read += [(page.parent / link).resolve() for link in links]

    assert set(DOCS) - found == set()


# The controls: each page says one thing that is not so.
_WRONG = {
    "a command that fails": "```sh\nexit 3\n```\n",
    "a command that does not end": "```sh\nsleep 600\ntrue\n```\n",
    "other output": "```sh\necho one\n```\n```text\ntwo\n```\n",
    "more output": "```sh\necho one; echo two\n```\n```text\none\n```\n",
    "other json": """```sh\necho '{"a": 1}'\n```\n```json\n{"a":2}\n```\n""",
    "python that raises": "```python\nraise SystemExit(1)\n```\n",
    "python that warns": "```python\nimport warnings; warnings.warn('old')\n```\n",
    "a server that says something else": (
        "<!-- background -->\n```sh\nsh scripts/serve\n```\n```text\nhello\n```\n<!-- stop -->\n"
    ),
    "a server that ends badly": (
        "<!-- background -->\n```sh\nsh -c 'trap \"exit 4\" INT; echo go; read never <&3' 3<>f\n"
        "```\n```text\ngo\n```\n<!-- stop -->\n"
    ),
    "a language that nobody runs": "```cobol\nSTOP RUN.\n```\n",
    "a block left out for no reason": "<!-- not run -->\n```sh\nexit 3\n```\n",
    "an order that there is not": "<!-- hurry -->\n```sh\ntrue\n```\n",
}


@pytest.mark.parametrize("mistake", _WRONG)
def test_the_runner_notices(mistake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that is wrong fails, so a page that passes says something."""
    if mistake in {"a server that says something else", "a command that does not end"}:
        monkeypatch.setattr(docs_runner, "PATIENCE_S", 1.0)
    page = tmp_path / "page.md"
    page.write_text(_WRONG[mistake])

    with pytest.raises(PageFailed):
        Runner(page, tmp_path / "folder").run()


def test_the_runner_runs_what_is_right(tmp_path: Path) -> None:
    """The orders, the outputs and the files work together."""
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- setup\necho x > there\n-->\n"
        "```python\n# one/two.py\nprint('it', 3)\n```\n"
        "```sh\ncat there\npython one/two.py\n```\n```text\nx\nit …\n```\n"
        "<!-- background -->\n```sh\nsh scripts/serve\n```\n"
        "```text\nblockqueue serves … on http://127.0.0.1:8080\n```\n"
        "```sh\ncurl http://127.0.0.1:8080/topics --data '{}'\n```\n<!-- stop -->\n"
        "<!-- not run: it would never end -->\n```sh\nexit 3\n```\n"
    )

    assert Runner(page, tmp_path / "folder").run() == 4
