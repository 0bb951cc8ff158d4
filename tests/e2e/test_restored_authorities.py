"""A home from a backup that is older than its CAs: it starts, serves devices, and lets other CAs follow."""

import json

import pytest

from tests.e2e.test_ca_guides import with_a_device
from tests.e2e.test_tutorial import Reader, Step, reader

__all__ = ["reader"]

ROOT = ("prepare prod", "publish prod", "switch prod")
ISSUING = ("prepare prod/device-1", "switch prod")
FLEET = ("prepare fleet", "publish fleet", "switch fleet")
RESTORE = (
    "fleet ca restore one.backup --share $(ls shares/*-1.txt) --share $(ls shares/*-3.txt)"
    " --audit trail.jsonl --into acme"
)


def lose_home(reader: Reader, *commands: str) -> str:
    """Let things happen after a backup, lose the machine, and restore; return what the command says."""
    for command in (
        "export FLEET_HOME=$PWD/acme",
        "fleet init --name acme --domain prod",
        "fleet ca backup one.backup --shares 2of3 --shares-to shares",
        *commands,
        "fleet audit export > trail.jsonl",
        "mv acme lost",
    ):
        reader.run(Step(command))
    return reader.run(Step(RESTORE))


def bad(reader: Reader) -> dict[str, str]:
    """Return what the doctor says of more than a new home, and what it says to do."""
    found = json.loads(reader.run(Step("fleet doctor --json || true")))
    return {one["text"]: one["fix"] for one in found if not one["ok"] and one["check"] != "root keys"}


@pytest.mark.parametrize(
    ("rolled", "again"),
    [
        pytest.param((*ROOT, "retire"), "prod", id="root"),
        pytest.param((*ISSUING, "retire"), "prod/device-1", id="issuing"),
        pytest.param(FLEET, "fleet", id="fleet"),
    ],
)
def test_devices_are_served_by_the_ca_before_one_that_is_gone(
    reader: Reader, rolled: tuple[str, ...], again: str
) -> None:
    commands = ["fleet ca retire prod" if one == "retire" else f"fleet ca rollover {one}" for one in rolled]

    output = lose_home(reader, *commands)

    advice, told = (
        f"fleet ca rollover prepare {again}",
        f"{again} signs again: the CA that followed it is gone",
    )
    assert f"warning: another must follow: {advice}" in output
    assert bad(reader)[f"{told} with its key"] == advice
    reader.run(Step("fleet serve", expected=["ready"]))
    with_a_device(reader)
    reader.run(Step("device-agent --state d1 renew"))


def test_another_root_follows_the_one_that_signs_again(reader: Reader) -> None:
    lose_home(reader, *(f"fleet ca rollover {one}" for one in ROOT))
    for command in (*ROOT[:-1], f"{ROOT[-1]} --anyway"):
        reader.run(Step(f"fleet ca rollover {command}"))
    reader.run(Step("fleet serve", expected=["ready"]))
    with_a_device(reader)
    assert bad(reader) == {}


def test_where_the_only_ca_was_stolen_nobody_is_served_before_there_is_another(reader: Reader) -> None:
    stolen = ("fleet ca add --domain prod --standby", "fleet ca compromise prod/device-1 --yes")

    output = lose_home(reader, *stolen)

    assert "warning: nobody gets a device certificate in prod: fleet ca add --domain prod" in output
    reader.run(Step("fleet serve", expected=["ready"]))
    assert {"fleet ca add --domain prod", "fleet ca crl prod"} <= set(bad(reader).values())
    reader.run(Step("fleet ca add --domain prod"))
    reader.run(Step("fleet ca crl prod"))
    assert bad(reader) == {}
    with_a_device(reader)
