"""Every rule that the conformance kit names stands where it says."""

from pathlib import Path

import pytest

from fleet.cli.conformance import mqtt_course, serial_course

PAGES = Path(__file__).parents[4] / "docs/reference"
RULES = sorted({check.rule for check in serial_course.COURSE} | {check.rule for check in mqtt_course.COURSE})


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_names_sections_that_there_are(rule: str) -> None:
    page, _, sections = rule.partition(": ")
    text = (PAGES / page).read_text()
    assert [section for section in sections.split(", ") if f"\n## {section}\n" not in text] == []
