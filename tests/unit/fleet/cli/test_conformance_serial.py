"""The conformance kit on a serial line: our own device passes, and each broken one is found by its check."""

from collections.abc import Callable
from pathlib import Path

import pytest

from device_agent.core import station_transfer
from device_agent.unit import SerialUnit
from fleet.cli.conformance.check import Outcome, Result, is_conformant
from fleet.cli.conformance.serial_course import COURSE, check_serial
from fleet.cli.conformance.workshop import Workshop
from tests import link_device as devices
from tests.link_device import LinkDevice, bent, real_unit

WORKSHOP = Workshop.opened()


async def checked(device: LinkDevice) -> dict[str, Result]:
    told: list[Result] = []
    results = await check_serial(device, workshop=WORKSHOP, device_id="d1", report=told.append, patience=0.02)
    assert tuple(told) == results
    return {result.name: result for result in results}


def failed(results: dict[str, Result]) -> list[str]:
    return [name for name, result in results.items() if result.outcome is Outcome.FAIL]


async def test_our_own_device_passes_every_check(tmp_path: Path) -> None:
    with real_unit(tmp_path / "state") as unit:
        results = await checked(LinkDevice(unit))
    assert [
        (result.name, result.detail) for result in results.values() if result.outcome is not Outcome.PASS
    ] == []
    assert is_conformant(results.values())


async def test_a_device_that_was_made_before_passes_but_for_what_a_fresh_one_shows(tmp_path: Path) -> None:
    with real_unit(tmp_path / "state") as unit:
        await checked(LinkDevice(unit))
        results = await checked(LinkDevice(unit))
    assert failed(results) == []
    assert results["early"].outcome is Outcome.NOT_REACHED


async def test_a_device_that_ends_when_it_is_enrolled_is_waited_for(tmp_path: Path) -> None:
    with real_unit(tmp_path / "state") as unit:
        device = devices.EndsWhenEnrolled(unit)
        results = await checked(device)
    assert failed(results) == []
    assert device.misses == 0


@pytest.mark.parametrize(
    ("make", "check"),
    [
        (devices.SameNonce, "nonce"),
        (devices.Forgetful, "repeat"),
        (devices.AnySession, "session"),
        (devices.WrongFraming, "hello"),
        (devices.NoLines, "hello"),
        (devices.ShortCounter, "sequence"),
        (devices.StopsAfterNoise, "noise"),
        (bent(devices.NewKeyEachTime), "same-key"),
        (bent(devices.SignsSomethingElse), "prove"),
        (bent(devices.SignsWithoutSession), "prove"),
        (bent(devices.CommitsNothing), "plugged-again"),
    ],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "__name__", "bent"),
)
async def test_a_broken_device_is_found_by_the_right_check(
    tmp_path: Path, make: Callable[[SerialUnit], LinkDevice], check: str
) -> None:
    with real_unit(tmp_path / "state") as unit:
        results = await checked(make(unit))
    assert failed(results)[:1] == [check], {name: result.detail for name, result in results.items()}
    assert results[check].detail
    assert results[check].advice
    assert results[check].rule


def takes_any_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(station_transfer, "check_key", lambda *_: None)


def takes_any_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(station_transfer.Transfer, "_check_hashes", lambda *_: None)


def takes_any_station(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(station_transfer, "check_station", lambda *_, **__: "any")


def takes_any_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(station_transfer, "_check_unit", lambda *_: None)


@pytest.mark.parametrize(
    ("flaw", "check"),
    [
        (takes_any_hash, "wrong-hash"),
        (takes_any_station, "wrong-signature"),
        (takes_any_unit, "other-unit"),
        (takes_any_key, "other-key"),
    ],
)
async def test_a_device_that_does_not_look_is_found_by_the_right_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flaw: Callable[[pytest.MonkeyPatch], None], check: str
) -> None:
    flaw(monkeypatch)
    with real_unit(tmp_path / "state") as unit:
        results = await checked(LinkDevice(unit))
    assert check in failed(results), {name: result.detail for name, result in results.items()}


def test_every_check_has_a_name_of_its_own_and_comes_after_what_it_needs() -> None:
    names: list[str] = []
    for check in COURSE:
        assert check.name not in names
        assert set(check.after) <= set(names)
        names.append(check.name)
