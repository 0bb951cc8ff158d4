"""The pages about the packages say what the source says, and what was measured keeps to its bounds."""

import re
import tomllib
from pathlib import Path

from device_agent.core.stored import VERSION

ROOT = Path(__file__).parents[3]
PACKAGES = (ROOT / "docs/reference/agent-packages.md").read_text()
RECORD = (ROOT / "docs/reference/device-record.md").read_text()
BOUNDS = {
    "start to connected": "1 s",
    "resident, connected and idle": "45 MB",
    "resident, after a renewal": "45 MB",
    "idle CPU": "0.1 %",
    "base install": "30 MB",
}
MEASURED = re.compile(r"^\| ([^|]+) \| ([0-9.]+) (\S+) \| ([0-9.]+) (\S+) \|$", re.MULTILINE)


def test_what_the_agent_costs_is_within_its_bounds() -> None:
    rows = MEASURED.findall(PACKAGES)
    assert {name: f"{bound} {unit}" for name, _, _, bound, unit in rows} == BOUNDS
    assert [name for name, value, _, bound, _ in rows if float(value) >= float(bound)] == []


def test_the_lowest_versions_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lowest = [re.split(r">=|,", each)[1] for each in project["dependencies"]]
    shown = re.search(r"^\| lowest \| 3\.11 \| (\S+) \| (\S+) \| (\S+) \|", PACKAGES, re.MULTILINE)
    assert shown is not None
    assert [found.removesuffix(".0") for found in shown.groups()] == lowest


def test_every_version_of_the_record_is_described() -> None:
    rows = re.findall(r"^\| ([0-9]+) \|", RECORD, re.MULTILINE)
    assert rows == [str(version) for version in range(1, VERSION + 1)]
