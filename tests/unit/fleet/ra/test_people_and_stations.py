"""Stations and operators: added with a certificate of their own, closed for good."""

import pytest
from cryptography import x509

from fleet.errors import BadInputError, NotFoundError, RefusedError
from fleet.model import CertificateState, Purpose, Role
from fleet.ra.people.operators import add_operator, list_operators, remove_operator
from fleet.ra.people.stations import add_station, close_station, list_stations, list_units
from fleet.store.certificates import CertificateQuery, list_certificates, load_certificate
from fleet.store.stations import station_of
from tests.desk import NOON, Desk, station_order

ADA = "operator:ada"


async def test_a_station_is_added_with_a_certificate_that_names_it(desk: Desk) -> None:
    new = await add_station(desk.context, station_order("line3", "b1", "b2"))

    record = await desk.context.store.read(load_certificate, new.own.issued.serial)
    assert record is not None
    assert (record.purpose, record.name) == (Purpose.STATION, "line3")
    assert await desk.context.store.read(station_of, new.own.issued.serial) == new.station
    assert new.station in await list_stations(desk.context, "prod")
    assert isinstance(new.own.certificate, x509.Certificate)
    assert await list_units(desk.context, "line3") == ()


async def test_a_station_that_is_closed_loses_its_certificates_and_its_name(desk: Desk) -> None:
    new = await add_station(desk.context, station_order("line3", "b1"))
    longer = await add_station(desk.context, station_order("line33", "b1"))

    assert await close_station(desk.context, "line3", actor=ADA, reason="sold") == (new.own.issued.serial,)

    states = [
        (await desk.context.store.read(load_certificate, each.own.issued.serial)) for each in (new, longer)
    ]
    assert [each.state for each in states if each] == [CertificateState.REVOKED, CertificateState.ACTIVE]
    with pytest.raises(RefusedError, match="there is, or was, a station line3"):
        await add_station(desk.context, station_order("line3", "b1"))


@pytest.mark.parametrize(("name", "batches"), [("a/b", ("b1",)), ("line3", ()), ("line3", ("..",))])
async def test_a_station_needs_a_proper_name_and_a_batch(
    desk: Desk, name: str, batches: tuple[str, ...]
) -> None:
    with pytest.raises(BadInputError):
        await add_station(desk.context, station_order(name, *batches))


async def test_a_station_of_no_domain_of_ours_is_refused(desk: Desk) -> None:
    with pytest.raises(NotFoundError):
        await add_station(desk.context, station_order("line3", "b1", domain="elsewhere"))


async def test_a_station_that_nobody_added_cannot_be_closed(desk: Desk) -> None:
    with pytest.raises(NotFoundError, match="there is no station line9"):
        await close_station(desk.context, "line9", actor=ADA)


async def test_an_operator_is_added_with_a_role_and_removed_with_the_certificates(desk: Desk) -> None:
    new = await add_operator(desk.context, "bob", role=Role.VIEWER, actor=ADA)
    assert new.operator in await list_operators(desk.context)

    assert await remove_operator(desk.context, "bob", actor=ADA) == (new.own.issued.serial,)

    removed = {each.name: each.removed_at for each in await list_operators(desk.context)}
    assert removed["bob"] == NOON
    with pytest.raises(RefusedError, match="there is, or was, an operator bob"):
        await add_operator(desk.context, "bob", role=Role.VIEWER, actor=ADA)


async def test_the_last_operator_who_may_do_everything_stays(desk: Desk) -> None:
    (first,) = await list_operators(desk.context)
    with pytest.raises(RefusedError, match="is the last operator of the role security"):
        await remove_operator(desk.context, first.name, actor=ADA)
    await add_operator(desk.context, "bob", role=Role.SECURITY, actor=ADA)
    assert len(await remove_operator(desk.context, first.name, actor=ADA)) == 1


async def test_an_operator_that_nobody_added_cannot_be_removed(desk: Desk) -> None:
    with pytest.raises(NotFoundError, match="there is no operator eve"):
        await remove_operator(desk.context, "eve", actor=ADA)


async def test_an_operator_needs_a_proper_name(desk: Desk) -> None:
    with pytest.raises(BadInputError):
        await add_operator(desk.context, "../ada", role=Role.VIEWER, actor=ADA)


async def test_an_operator_is_removed_however_many_have_names_that_begin_like_his(desk: Desk) -> None:
    query = CertificateQuery(purpose=Purpose.OPERATOR, name="bo", limit=1)
    his = await add_operator(desk.context, "bo", role=Role.VIEWER, actor=ADA)
    for number in range(3):
        await add_operator(desk.context, f"bo{number}", role=Role.VIEWER, actor=ADA)
    (found,) = await desk.context.store.read(list_certificates, query)
    assert found.serial == his.own.issued.serial
    assert await remove_operator(desk.context, "bo", actor=ADA) == (found.serial,)
