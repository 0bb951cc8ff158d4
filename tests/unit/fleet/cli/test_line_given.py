"""What is given to `fleet station run` becomes a line, or is refused before anything opens."""

from pathlib import Path

import pytest

from fleet.cli.line_given import Given, line_of
from fleet.cli.remote import Remote
from fleet.cli.station_run import command
from fleet.errors import BadInputError, FleetError, UsageError
from fleet.station.drivers.choice import Name

GIVEN = Given(
    ports=("/dev/ttyUSB0",),
    usb=(),
    name=None,
    batch="",
    ids=None,
    prefix="d-",
    models=(),
    baud=115200,
    driver="smp",
    settings=(),
    host_keys=False,
    language=None,
    headless=False,
    scanner=None,
    jig=None,
    jig_seconds=60.0,
    results=None,
    results_url=None,
    results_secret_file=None,
    label=None,
    printer=None,
)


def test_every_driver_can_be_chosen_and_no_other() -> None:
    (option,) = (one for one in command.params if one.name == "driver")
    assert tuple(option.type.choices) == tuple(name.value for name in Name)  # type: ignore[attr-defined]


def test_every_option_is_given_on() -> None:
    names = {one.name for one in command.params} - {"home", "form"}
    assert names == set(Given.__annotations__)


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        ({"ports": ()}, UsageError),
        ({"usb": ("0403",)}, BadInputError),
        ({"label": "text"}, UsageError),
        ({"printer": "tcp:h"}, UsageError),
        ({"label": "none.zpl", "printer": "tcp:h"}, BadInputError),
        ({"results": Path("results.xml")}, BadInputError),
        ({"results_url": "http://mes.example"}, BadInputError),
        ({"results_url": "https://mes.example", "results_secret_file": Path("/nonexistent")}, FleetError),
        ({"jig": "'"}, BadInputError),
        ({"settings": ("tag",)}, UsageError),
        ({"settings": ("nothing=1",)}, UsageError),
        ({"prefix": "no spaces "}, BadInputError),
        ({}, FleetError),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, wrong: dict[str, object], kind: type[FleetError]
) -> None:
    with pytest.raises(kind):
        line_of(tmp_path / "no-home", Given(**(GIVEN | wrong)))  # type: ignore[typeddict-item]


def test_a_station_elsewhere_must_know_its_fleet(tmp_path: Path) -> None:
    remote = Remote(server="https://localhost:8443", certificate=tmp_path / "line3.crt", key=tmp_path / "k")
    with pytest.raises(UsageError, match="must know its fleet"):
        line_of(remote, GIVEN)
