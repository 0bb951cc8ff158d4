"""The walls: the tree, the import contracts, and what a newcomer may count on in every module."""

import ast
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PACKAGES as DEBIAN_PACKAGES

ROOT = Path(__file__).parents[1]
PACKAGES = ("fleet", "device_agent", "firmware_scripts")
TOP_LEVEL = {
    *("fleet", "device_agent", "firmware_scripts", "tests", "pyproject.toml", "README.md", "docs"),
    *("benchmarks", ".ci", "Makefile", "requirements.lock", "CHANGELOG.md", "CONTRIBUTING.md"),
    *("SECURITY.md", "LICENSE", ".gitignore"),
}


def tracked() -> list[str]:
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return listing.stdout.splitlines()


def modules() -> Iterator[Path]:
    for package in PACKAGES:
        yield from sorted((ROOT / package).rglob("*.py"))


def functions() -> list[tuple[int, str]]:
    found = []
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                where = f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
                found.append((node.end_lineno - node.lineno + 1, where))
    return sorted(found)


@pytest.mark.skipif(
    not (ROOT / ".git").exists(), reason="needs a git checkout, an archive has no list of its files"
)
def test_the_top_level_holds_what_the_map_lists() -> None:
    assert {name.split("/")[0] for name in tracked()} <= TOP_LEVEL


def test_the_import_contracts_hold() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("path", list(modules()), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_says_what_it_is_for_and_holds_one_noun(path: Path) -> None:
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), "the first line says what the module is for"
    assert text.count("\n") <= 400, "past 400 lines there is a second concept"


def test_functions_are_short() -> None:
    lengths = [length for length, _ in functions()]
    assert statistics.median(lengths) <= 12
    assert lengths[int(len(lengths) * 0.9)] < 35
    assert [where for length, where in functions() if length > 50] == []


def test_every_silenced_type_error_has_its_reason() -> None:
    bare = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in modules()
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if re.search(r"# (type: ignore(\[[\w,-]+\])?|noqa(: [A-Z0-9, ]+)?)\s*$", line)
    ]
    assert bare == []


def test_nothing_names_a_registry_or_tracks_a_key() -> None:
    forbidden = re.compile(r"\.(pyc|so|elf|db|sqlite|p12|key)$|(^|/)(uv|Cargo|poetry)\.lock$")
    assert [name for name in tracked() if forbidden.search(name)] == []
    hosts = re.compile(r"files\.python[h]osted|pypi[.]org|crates[.]io|proxy[.]golang")
    texts = [name for name in tracked() if not name.startswith("fleet/web/console/")]
    assert [name for name in texts if hosts.search((ROOT / name).read_text(errors="replace"))] == []


@pytest.mark.parametrize("command", ["device_agent.cli", "fleet.cli"])
def test_a_command_starts_without_optional_packages(command: str) -> None:
    optional = ["serial", "amqtt", "asyncpg", "nats", "smpclient"]
    program = f"import sys, {command}; print([name for name in {optional} if name in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_every_program_that_a_test_needs_has_its_package() -> None:
    marks = re.compile(r"mark\.needs\(([^)]*)\)")
    needed = {
        name
        for path in (ROOT / "tests").rglob("*.py")
        for mark in marks.findall(path.read_text())
        for name in re.findall(r'"([^"]+)"', mark)
    }
    assert sorted(needed - DEBIAN_PACKAGES.keys()) == []


def test_make_test_installs_what_the_tests_need() -> None:
    makefile = (ROOT / "Makefile").read_text()
    wanted = {name for packages in DEBIAN_PACKAGES.values() for name in packages.split()}
    part_of_every_system = {"util-linux"}
    assert [name for name in wanted - part_of_every_system if f":{name}" not in makefile] == []
