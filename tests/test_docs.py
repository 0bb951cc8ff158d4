"""The docs: every link leads somewhere, every page can be found, and no page speaks of another machine."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(path for path in ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md"))
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)(?:#[^)]*)?\)")
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def links(page: Path) -> list[Path]:
    prose = FENCE.sub("", page.read_text())
    return [(page.parent / target).resolve() for target in LINK.findall(prose)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    assert [str(target) for target in links(page) if not target.exists()] == []


def test_every_page_is_reached_from_the_readme() -> None:
    seen: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        waiting.extend(target for target in links(page) if target.exists())
    decisions = {page for page in PAGES if page.parent.name == "decisions"}
    assert [str(page.relative_to(ROOT)) for page in PAGES if page not in seen | decisions] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_page_holds_a_path_of_the_machine_it_was_written_on(page: Path) -> None:
    home = str(Path.home())
    assert str(ROOT.parent) + "/" not in page.read_text()
    assert home == "/" or home + "/" not in page.read_text()


def test_the_decisions_are_numbered_without_gaps() -> None:
    numbers = sorted(int(page.name[:4]) for page in (ROOT / "docs/decisions").glob("[0-9]*.md"))
    assert numbers == list(range(1, len(numbers) + 1))


def test_shell_scripts_parse() -> None:
    for script in [*ROOT.glob("firmware_scripts/**/*.sh"), ROOT / ".ci/run"]:
        subprocess.run(["bash", "-n", script], check=True)
