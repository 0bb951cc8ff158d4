"""The conformance kit over MQTT: a small client passes, and each broken one is found by its check."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from fleet.cli.conformance import mqtt_client, mqtt_course
from fleet.cli.conformance.check import Outcome, Result
from fleet.cli.conformance.mqtt_client import Client
from fleet.cli.conformance.mqtt_course import COURSE, check_mqtt
from fleet.cli.conformance.mqtt_server import serving
from fleet.cli.conformance.workshop import Workshop
from tests import plain_client as clients
from tests.plain_client import PlainClient

WORKSHOP = Workshop.opened()
CODE = "ABCD-EFGH-JKMN-PQRS"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let renewals be due within the second, so that a test has not to wait for people's patience."""
    monkeypatch.setattr(mqtt_client, "RENEW_AFTER", timedelta(seconds=1))
    monkeypatch.setattr(mqtt_course, "_WAIT_SECONDS", 1)


async def checked(make: Callable[..., PlainClient], folder: Path) -> dict[str, Result]:
    async with serving(WORKSHOP, host="localhost", port=0) as server:
        device = make(workshop=WORKSHOP, claim=WORKSHOP.claim(), port=server.port, folder=folder, code=CODE)
        client = Client(
            server=server,
            workshop=WORKSHOP,
            device_id="d1",
            code=CODE,
            host="localhost",
            patience=2.5,
            waits=lambda _what: None,
        )
        living = asyncio.ensure_future(device.live())
        results = await check_mqtt(client, report=lambda _result: None)
        # The MQTT library may answer a cancellation with an error of its own.
        while not living.done():
            living.cancel()
            await asyncio.wait({living}, timeout=0.1)
    return {result.name: result for result in results}


async def test_a_client_written_by_the_profile_passes(tmp_path: Path) -> None:
    results = await checked(PlainClient, tmp_path)
    unmet = {name: one.detail for name, one in results.items() if one.outcome is not Outcome.PASS}
    assert unmet.keys() == {"done"}
    assert results["done"].outcome is Outcome.NOT_REACHED


@pytest.mark.parametrize(
    ("make", "check"),
    [
        (clients.WrongClientId, "enroll"),
        (clients.WrongCode, "enroll"),
        (clients.NoCsr, "enroll"),
        (clients.NewKeyAfterLoss, "enroll-lost"),
        (clients.Impatient, "retry-later"),
        (clients.Credulous, "acceptance"),
        (clients.Strict, "use"),
        (clients.ConfirmsElsewhere, "confirm"),
        (clients.ConfirmsOnce, "confirm-lost"),
        (clients.TakesAnyAnswer, "confirm-lost"),
        (clients.KeepsItsKey, "renew"),
        (clients.RenewsEarly, "renew"),
        (clients.NoAttempt, "renew"),
        (clients.CountsUpAfterLoss, "renew-lost"),
        (clients.QosZero, "qos"),
        (clients.Retains, "retain"),
        (clients.AsksBeforeItListens, "subscribe"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
async def test_a_broken_client_is_found_by_the_right_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[..., PlainClient], check: str
) -> None:
    if make is clients.RenewsEarly:
        # However slow this machine is, it is too early.
        monkeypatch.setattr(mqtt_client, "RENEW_AFTER", timedelta(hours=1))
    results = await checked(make, tmp_path)
    failed = [name for name, one in results.items() if one.outcome is Outcome.FAIL]
    assert check in failed, {name: one.detail for name, one in results.items()}
    assert failed[0] == check
    assert results[check].detail
    assert results[check].advice
    assert results[check].rule.startswith("device-profile.md")


def test_every_check_has_a_name_of_its_own_and_comes_after_what_it_needs() -> None:
    names: list[str] = []
    for check in COURSE:
        assert check.name not in names
        assert set(check.after) <= set(names)
        names.append(check.name)
