"""Templates of things: which parameters they take, and which device id follows from them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.core.thing_template import LONGEST_VALUE, Parameter, ThingTemplate
from fleet.errors import RefusedError

PUMP = ThingTemplate(
    name="pump",
    domain="prod",
    batches=("line3",),
    device_id="pump-{SerialNumber}",
    parameters=(
        Parameter(name="SerialNumber", pattern="[0-9]{4}"),
        Parameter(name="Site", required=False),
    ),
)


def test_an_id_follows_from_its_parameters() -> None:
    PUMP.check({"SerialNumber": "0042", "Site": "Ulm"})

    assert PUMP.id_from({"SerialNumber": "0042", "Site": "Ulm"}) == "pump-0042"


def test_a_template_without_a_rule_names_nobody() -> None:
    assert ThingTemplate(name="any", domain="prod").id_from({}) == ""


@pytest.mark.parametrize(
    ("given_parameters", "reason"),
    [
        ({}, "SerialNumber is missing"),
        ({"SerialNumber": "42"}, "SerialNumber is not as"),
        ({"SerialNumber": "0042\n"}, "SerialNumber is not as"),
        ({"SerialNumber": "0042", "Site": ""}, "Site is not as"),
        ({"SerialNumber": "0042", "Site": "x" * (LONGEST_VALUE + 1)}, "Site is not as"),
        ({"SerialNumber": "0042", "Site": "a\x00b"}, "Site is not as"),
        ({"SerialNumber": "0042", "Colour": "red"}, "'Colour' is not of template pump"),
    ],
)
def test_parameters_that_are_not_as_they_must_be_are_refused(
    given_parameters: dict[str, str], reason: str
) -> None:
    with pytest.raises(RefusedError, match=reason):
        PUMP.check(given_parameters)


@pytest.mark.parametrize(
    ("domain", "batch", "fits"),
    [("prod", "line3", True), ("prod", "line4", False), ("lab", "line3", False), ("prod", "", False)],
)
def test_a_template_is_for_its_batches(domain: str, batch: str, fits: bool) -> None:
    assert PUMP.is_for(domain, batch) is fits


def test_a_template_without_batches_is_for_all_of_its_domain() -> None:
    assert ThingTemplate(name="any", domain="prod").is_for("prod", "line9")


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=4))
def test_whatever_is_told_it_is_taken_or_refused_and_never_breaks(told: dict[str, str]) -> None:
    try:
        PUMP.check(told)
    except RefusedError:
        return
    assert PUMP.id_from(told).startswith("pump-")
