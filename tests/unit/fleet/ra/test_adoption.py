"""Adopting a fleet: what is listed and what is not, who may have which certificate, what is told of it."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from device_agent.wire.identity import Identity
from fleet.core import trace
from fleet.errors import BadInputError, FleetError, NotFoundError, RefusedError
from fleet.model import BrokerEventKind, CertificateState, ClientKind, Device, Standing
from fleet.ra.adopted.adopting import record_of
from fleet.ra.adopted.adoption import add_leaves, close_adoption, open_adoption, standings, take_lists
from fleet.store.audit import AuditQuery, search_newest
from fleet.store.certificates import load_certificate
from fleet.store.devices import load_device
from fleet.store.inventory import DeviceQuery, list_devices
from tests.adopted import OPERATOR, OtherFleet, row, shown_serial
from tests.desk import Desk, at_desk
from tests.homes import FleetHome, make_home
from tests.pki import pem_of, utc_now

D1 = Identity(domain="prod", device_id="d1")


@pytest.fixture(scope="module")
def fleet_home(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    return make_home(tmp_path_factory.mktemp("adoption") / "home")


@pytest.fixture
async def desk(fleet_home: FleetHome, tmp_path: Path) -> AsyncIterator[Desk]:
    async with at_desk(fleet_home, tmp_path) as desk:
        desk.clock.now = utc_now()
        yield desk


@pytest.fixture
def other() -> OtherFleet:
    return OtherFleet()


async def device(desk: Desk, identity: Identity = D1) -> Device:
    found = await desk.context.store.read(load_device, identity)
    assert found is not None
    return found


async def opened(desk: Desk, other: OtherFleet, *names: str) -> None:
    for name in names or ("old",):
        await open_adoption(desk.context, other.opening(name))


async def test_a_listed_leaf_is_admitted_as_it_is_under_the_name_of_its_device(
    desk: Desk, other: OtherFleet
) -> None:
    pair = other.device(serial=0x7F << 152 | 3)
    await opened(desk, other)

    listed = await add_leaves(desk.context, "old", [row("d1", pair)], actor=OPERATOR)

    assert (listed.admitted, listed.waiting, listed.known) == (1, 0, 0)
    (shown,) = await desk.context.store.read(list_devices, DeviceQuery(standing=Standing.ADOPTED))
    assert shown.identity == D1
    entry = desk.broker.listed[shown_serial(pair)]
    assert (entry.issuer, entry.fingerprint, entry.name) == (pair.issuer_id, pair.fingerprint, "prod:d1")
    found = await device(desk)
    assert (found.kind, found.current) == (ClientKind.PLAIN, record_of("old", D1))


async def test_the_same_list_may_come_twice(desk: Desk, other: OtherFleet) -> None:
    rows = [row("d1", other.device()), row("d2", other.device(), by="serial")]
    await opened(desk, other)
    await add_leaves(desk.context, "old", rows, actor=OPERATOR)

    again = await add_leaves(desk.context, "old", rows, actor=OPERATOR)

    assert (again.admitted, again.waiting, again.known) == (0, 0, 2)


async def test_a_leaf_that_was_listed_by_its_serial_is_admitted_when_its_certificate_comes(
    desk: Desk, other: OtherFleet
) -> None:
    pair = other.device()
    await opened(desk, other)
    await add_leaves(desk.context, "old", [row("d1", pair, by="serial")], actor=OPERATOR)
    assert shown_serial(pair) not in desk.broker.listed

    await add_leaves(desk.context, "old", [row("d1", pair)], actor=OPERATOR)

    assert shown_serial(pair) in desk.broker.listed
    (standing,) = await standings(desk.context)
    assert (standing.listed, standing.waiting, standing.here) == (1, 0, 1)


async def test_a_device_with_a_certificate_of_ours_is_not_adopted(desk: Desk, other: OtherFleet) -> None:
    await desk.enrolled("d1")
    await opened(desk, other)

    with pytest.raises(RefusedError, match="has a certificate already"):
        await add_leaves(desk.context, "old", [row("d1", other.device())], actor=OPERATOR)


async def test_a_device_has_one_listed_certificate(desk: Desk, other: OtherFleet) -> None:
    await opened(desk, other, "old", "older")
    await add_leaves(desk.context, "old", [row("d1", other.device())], actor=OPERATOR)

    with pytest.raises(RefusedError, match="another certificate is listed"):
        await add_leaves(desk.context, "older", [row("d1", other.device())], actor=OPERATOR)


async def test_a_certificate_that_is_not_the_one_named_is_refused(desk: Desk, other: OtherFleet) -> None:
    await opened(desk, other)
    wrong = replace(row("d1", other.device()), serial=shown_serial(other.device()))

    with pytest.raises(BadInputError, match="not the one that is named"):
        await add_leaves(desk.context, "old", [wrong], actor=OPERATOR)


async def test_what_its_own_ca_has_revoked_is_not_adopted(desk: Desk, other: OtherFleet) -> None:
    pair = other.device()
    other.issuing.revoked.append(pair.certificate.serial_number)
    await opened(desk, other)

    with pytest.raises(BadInputError, match="its own CA has revoked"):
        await add_leaves(desk.context, "old", [row("d1", pair)], actor=OPERATOR)


async def test_a_ca_of_this_fleet_cannot_be_adopted(desk: Desk, other: OtherFleet) -> None:
    ours = desk.context.authority.root("lab").certificate
    opening = replace(other.opening(), authorities_pem=pem_of(ours).decode())

    with pytest.raises(RefusedError, match="this fleet's own"):
        await open_adoption(desk.context, opening)


@pytest.mark.parametrize("name", ["", "Old", "a" * 33, "old/fleet"])
async def test_a_name_that_is_none_is_refused(desk: Desk, other: OtherFleet, name: str) -> None:
    with pytest.raises(BadInputError):
        await open_adoption(desk.context, other.opening(name))


async def test_a_name_is_used_once_and_a_closed_one_takes_no_more(desk: Desk, other: OtherFleet) -> None:
    await opened(desk, other)
    await close_adoption(desk.context, "old", actor=OPERATOR)

    with pytest.raises(RefusedError, match="there is, or was"):
        await opened(desk, other)
    for act in (
        add_leaves(desk.context, "old", [row("d1", other.device())], actor=OPERATOR),
        take_lists(desk.context, "old", other.crls, actor=OPERATOR),
    ):
        with pytest.raises(RefusedError, match="is closed"):
            await act


async def test_nothing_is_done_to_an_adoption_that_there_is_not(desk: Desk, other: OtherFleet) -> None:
    for act in (
        add_leaves(desk.context, "none", [row("d1", other.device())], actor=OPERATOR),
        take_lists(desk.context, "none", other.crls, actor=OPERATOR),
        close_adoption(desk.context, "none", actor=OPERATOR),
    ):
        with pytest.raises(NotFoundError):
            await act
    with pytest.raises(NotFoundError):
        await open_adoption(desk.context, other.opening(domain="nowhere"))


async def test_only_open_adoptions_are_trusted_by_tls(desk: Desk, other: OtherFleet) -> None:
    home = desk.context.home
    await opened(desk, other)
    assert home.adopted_authorities.read_text() == other.authorities

    await close_adoption(desk.context, "old", actor=OPERATOR)

    assert not home.adopted_authorities.exists()
    assert not home.adopted_crls.exists()


async def test_closing_revokes_who_is_still_here_and_is_the_same_a_second_time(
    desk: Desk, other: OtherFleet
) -> None:
    pair = other.device()
    await opened(desk, other)
    rows = [row("d1", pair), row("d2", other.device(), by="fingerprint")]
    await add_leaves(desk.context, "old", rows, actor=OPERATOR)
    session = desk.broker.connect(shown_serial(pair))

    closed = await close_adoption(desk.context, "old", actor=OPERATOR)
    again = await close_adoption(desk.context, "old", actor=OPERATOR)

    assert closed.ended == ("prod:d1",)
    assert [cut.name for cut in closed.sessions] == [session.name]
    assert (again.ended, again.sessions) == (closed.ended, ())
    record = await desk.context.store.read(load_certificate, record_of("old", D1))
    assert record is not None
    assert record.state is CertificateState.REVOKED


async def test_an_old_leaf_that_goes_on_knocking_after_the_move_raises_no_alarm(
    desk: Desk, other: OtherFleet
) -> None:
    pair = other.device()
    await opened(desk, other)
    await add_leaves(desk.context, "old", [row("d1", pair)], actor=OPERATOR)
    before = await device(desk)

    await desk.happens(BrokerEventKind.REFUSED, record_of("old", D1), stamp=9, issuer=pair.issuer_id)

    assert await device(desk) == before


async def test_the_trail_tells_enough_to_do_it_again(desk: Desk, other: OtherFleet) -> None:
    pair = other.device()
    await opened(desk, other)
    blank = Device(identity=D1, kind=ClientKind.PLAIN)
    await add_leaves(desk.context, "old", [row("d1", pair)], actor=OPERATOR)

    entries = await desk.context.store.read(search_newest, AuditQuery(limit=50))

    told = {one.entry.action: dict(one.entry.details) for one in entries}
    assert told["adoption.opened"] == {"adoption": "old"}
    adopted = told["certificate.adopted"]
    assert (adopted["shown_serial"], adopted["fingerprint"]) == (shown_serial(pair), pair.fingerprint)
    after = trace.follow(blank, adopted[trace.DETAIL]).device
    assert after.certificates == (await device(desk)).certificates


async def test_a_broker_that_is_away_is_told_and_gets_the_whole_list_later(
    desk: Desk, other: OtherFleet
) -> None:
    await opened(desk, other)
    desk.broker.fails = True

    with pytest.raises(FleetError):
        await add_leaves(desk.context, "old", [row("d1", other.device())], actor=OPERATOR)

    (standing,) = await standings(desk.context)
    assert standing.here == 1
