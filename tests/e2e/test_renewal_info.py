"""Renewal information over HTTPS: whoever knows a certificate's name is told when it is to be renewed."""

from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path

import pytest

from device_agent.wire.fields import time_text
from fleet.core.renewal_info import CertificateName
from fleet.model import RevocationReason
from fleet.ra.selection import ByDevice
from fleet.ra.status.revoke import revoke
from fleet.store.certificates import load_certificate
from tests.homes import FleetHome
from tests.live import LiveDevice, LiveFleet, live, make_live_home


@pytest.fixture(scope="module")
def made_home(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    return make_live_home(tmp_path_factory.mktemp("homes") / "home", driver="embedded")


@pytest.fixture
async def fleet(made_home: FleetHome, tmp_path: Path) -> AsyncIterator[LiveFleet]:
    async with live(made_home, tmp_path) as running:
        yield running


async def name_of(fleet: LiveFleet, device: LiveDevice) -> CertificateName:
    assert device.issued is not None
    row = await fleet.context.store.read(load_certificate, device.issued.serial)
    assert row is not None
    assert row.signed is not None
    return CertificateName(issuer=row.signed.issuer, serial=row.serial)


async def asked(fleet: LiveFleet, name: str) -> tuple[int, dict[str, dict[str, str]], str]:
    async with fleet.https() as session, session.get(f"/api/v1/renewal-info/{name}") as response:
        found: dict[str, dict[str, str]] = await response.json(content_type=None)
        return response.status, found, response.headers.get("Retry-After", "")


async def test_a_window_is_told_and_when_to_ask_again(fleet: LiveFleet) -> None:
    device = await fleet.enrolled("r1")
    assert device.issued is not None
    status, found, again = await asked(fleet, str(await name_of(fleet, device)))
    assert (status, again) == (HTTPStatus.OK, "21600")
    assert found["suggestedWindow"]["start"] == time_text(device.issued.renew_after)
    assert found["suggestedWindow"]["start"] < found["suggestedWindow"]["end"]


async def test_a_revoked_certificate_is_to_be_replaced_at_once(fleet: LiveFleet) -> None:
    device = await fleet.enrolled("r2")
    name = await name_of(fleet, device)
    await revoke(
        fleet.context,
        ByDevice(identities=(device.identity,)),
        reason=RevocationReason.KEY_COMPROMISE,
        actor="operator:test",
    )
    status, found, _ = await asked(fleet, str(name))
    assert status == HTTPStatus.OK
    assert found["suggestedWindow"]["end"] < time_text(fleet.context.clock())


async def test_a_name_that_is_none_or_nobodys_is_refused(fleet: LiveFleet) -> None:
    device = await fleet.enrolled("r3")
    name = await name_of(fleet, device)
    other = CertificateName(issuer="00" * 20, serial=name.serial)
    assert (await asked(fleet, str(other)))[0] == HTTPStatus.NOT_FOUND
    assert (await asked(fleet, "no-name"))[0] == HTTPStatus.BAD_REQUEST


async def test_who_asks_too_often_waits(fleet: LiveFleet) -> None:
    answers = [(await asked(fleet, "AA.AQ"))[0] for _ in range(40)]
    assert set(answers[:5]) == {HTTPStatus.NOT_FOUND}
    assert answers[-1] == HTTPStatus.TOO_MANY_REQUESTS
