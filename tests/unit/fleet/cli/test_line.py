"""A line that starts: what it lacks is said, and stops it only where it could do nothing."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fleet.cli import line
from fleet.cli.workplace import Workplace
from fleet.errors import FleetError, RefusedError
from fleet.home import KeyPairFiles
from fleet.station.keeping.ledger import Ledger
from fleet.station.server.way import AdminSocket
from tests.factory_floor import Floor, fixed_clock

IDENTITY = Floor().identity


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    async with Ledger.opened(tmp_path / "l.db", clock=fixed_clock, identity=IDENTITY) as opened:
        yield opened


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    files = KeyPairFiles(certificate=tmp_path / "line3.crt", key=tmp_path / "line3.key")
    server = AdminSocket(path=tmp_path / "admin.sock", station="line3")
    return Workplace(station="line3", files=files, server=server, anchors=())


async def test_a_lease_of_a_ca_that_the_station_has_left_does_not_stop_the_line(
    ledger: Ledger, place: Workplace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def refused(*_: object, **__: object) -> None:
        raise RefusedError("the lease is not signed by the CA that certified this station", hint="ask anew")

    monkeypatch.setattr(line, "open_workshop", refused)
    assert await line._workshop(ledger, IDENTITY, place) is None
    assert "nothing is signed off line: the lease is not signed by" in caplog.text


async def test_a_key_of_a_lease_that_cannot_be_opened_stops_it(
    ledger: Ledger, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise FleetError("the passphrase does not open the key")

    monkeypatch.setattr(line, "open_workshop", broken)
    with pytest.raises(FleetError, match="passphrase"):
        await line._workshop(ledger, IDENTITY, place)
