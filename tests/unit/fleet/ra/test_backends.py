"""Backends: certified with a scope of topics, admitted with it and no more, renewed, and cut off for good."""

from dataclasses import replace
from pathlib import Path

import pytest

from fleet.core import access
from fleet.core.access import Who
from fleet.errors import BadInputError, NotFoundError, RefusedError
from fleet.model import Purpose, RevocationReason
from fleet.ra.keeping.replay_acts import EFFECTS
from fleet.ra.own.own_health import own_certificates
from fleet.ra.people.backends import (
    NOTIFICATIONS,
    BackendOrder,
    NewBackend,
    add_backend,
    list_backends,
    renew_backend,
    revoke_backend,
)
from fleet.ra.requests.access_policy import apply_access
from fleet.ra.selection import BySerial
from fleet.ra.status.revoke import revoke
from fleet.store import audit
from fleet.store.access_policies import newest_policy
from fleet.store.audit import AuditQuery
from fleet.store.backends import list_backends as list_records
from tests.desk import Desk, Unit, at_desk
from tests.homes import FleetHome

ADA = "operator:ada"
POLICY = "[[allow]]\nname = 'a'\npublish = ['x']\n"


def order(
    name: str = "dashboard", *, reads: tuple[str, ...] = ("devices/prod/#",), writes: tuple[str, ...] = ()
) -> BackendOrder:
    return BackendOrder(name=name, reads=reads, writes=writes, csr=Unit().csr, actor=ADA)


def who(desk: Desk, made: NewBackend) -> Who:
    entry = desk.broker.listed[made.own.issued.serial]
    return Who(
        purpose=entry.purpose,
        name=entry.name,
        serial=entry.serial,
        client_id=entry.name,
        access=entry.access,
    )


async def test_a_backend_is_admitted_with_its_scope_at_once(desk: Desk) -> None:
    made = await add_backend(desk.context, order(writes=("devices/prod/+/orders",)))

    backend, classes = who(desk, made), desk.broker.classes
    assert backend.purpose is Purpose.BACKEND
    assert access.may_subscribe(backend, "devices/prod/+/state", classes=classes)
    assert not access.may_subscribe(backend, "devices/lab/#", classes=classes)
    assert access.may_publish(backend, "devices/prod/d1/orders", classes=classes)
    assert not access.may_publish(backend, "devices/prod/d1/state", classes=classes)


async def test_a_backend_has_no_rights_of_a_device_or_of_the_fleets_own_service(desk: Desk) -> None:
    backend = who(desk, await add_backend(desk.context, order()))

    for topic in ("fleet/v1/prod/d1/state", access.CONTROL, "fleet/v1/prod/dashboard/notice"):
        assert not access.may_publish(backend, topic, classes=desk.broker.classes)
        assert not access.may_subscribe(backend, topic, classes=desk.broker.classes)


async def test_backends_know_nothing_of_each_others_scope(desk: Desk) -> None:
    await add_backend(desk.context, order())
    other = who(desk, await add_backend(desk.context, order("other", reads=("sites/#",))))

    assert not access.may_subscribe(other, "devices/prod/#", classes=desk.broker.classes)


@pytest.mark.parametrize(
    ("reads", "writes", "reason"),
    [
        (("#",), (), "must name its first level"),
        (("fleet/v1/#",), (), "the fleet's own"),
        (("$fleet/guard/events",), (), "the fleet's own"),
        (("$share/g/devices/#",), (), "the fleet's own"),
        (("devices/{domain}/#",), (), "without variables"),
        ((), (NOTIFICATIONS,), "the fleet's own"),
        ((), (), "could do nothing"),
    ],
)
async def test_a_scope_that_reaches_further_is_refused(
    desk: Desk, reads: tuple[str, ...], writes: tuple[str, ...], reason: str
) -> None:
    with pytest.raises(BadInputError, match=reason.replace("$", r"\$")):
        await add_backend(desk.context, order(reads=reads, writes=writes))

    assert await list_backends(desk.context) == ()


async def test_a_backend_may_hear_the_fleets_notifications(desk: Desk) -> None:
    backend = who(desk, await add_backend(desk.context, order(reads=(NOTIFICATIONS,))))

    assert access.may_subscribe(backend, NOTIFICATIONS, classes=desk.broker.classes)


@pytest.mark.parametrize("name", ["fleet-server", "canary"])
async def test_no_backend_is_called_as_a_service_of_the_fleet(desk: Desk, name: str) -> None:
    with pytest.raises(RefusedError, match="of the fleet itself"):
        await add_backend(desk.context, order(name))


async def test_a_name_and_a_key_are_used_once(desk: Desk) -> None:
    first = order()
    await add_backend(desk.context, first)

    with pytest.raises(RefusedError, match="there is, or was"):
        await add_backend(desk.context, order())
    with pytest.raises(RefusedError, match="the key of the request"):
        await add_backend(
            desk.context,
            BackendOrder(name="other", reads=first.reads, writes=(), csr=first.csr, actor=ADA),
        )


async def test_a_renewed_backend_is_admitted_by_both_certificates(desk: Desk) -> None:
    made = await add_backend(desk.context, order())

    renewed = await renew_backend(desk.context, "dashboard", csr_pem=Unit().csr, actor=ADA)

    assert {made.own.issued.serial, renewed.own.issued.serial} <= desk.broker.listed.keys()
    assert who(desk, renewed).access == who(desk, made).access
    (listed,) = await list_backends(desk.context)
    assert listed.serial == renewed.own.issued.serial


async def test_a_revoked_backend_is_cut_off_everywhere_and_for_good(desk: Desk) -> None:
    made = await add_backend(desk.context, order())
    desk.broker.connect(made.own.issued.serial)

    ended = await revoke_backend(desk.context, "dashboard", actor=ADA, reason="sold")

    assert ended == (made.own.issued.serial,)
    assert made.own.issued.serial not in desk.broker.listed
    assert desk.broker.live == []
    with pytest.raises(RefusedError, match="was revoked"):
        await renew_backend(desk.context, "dashboard", csr_pem=Unit().csr, actor=ADA)
    with pytest.raises(NotFoundError):
        await revoke_backend(desk.context, "nobody", actor=ADA, reason="")


async def test_every_act_is_on_record(desk: Desk) -> None:
    await add_backend(desk.context, order())
    await revoke_backend(desk.context, "dashboard", actor=ADA, reason="sold")

    for action in ("service.added", "service.revoked"):
        (found,) = await desk.context.store.read(audit.search, AuditQuery(action=action))
        assert dict(found.entry.details)["name"] == "dashboard"
        assert found.entry.actor == ADA


async def test_the_doctor_tells_of_a_backends_end(desk: Desk) -> None:
    made = await add_backend(desk.context, order())
    left = made.own.issued.not_after - desk.clock()
    desk.clock.forward(left * 0.98)

    fixes = [finding.fix for finding in await own_certificates(desk.context)]

    assert "fleet service renew dashboard" in fixes


async def test_its_certificate_is_taken_back_with_the_backend_not_alone(desk: Desk) -> None:
    made = await add_backend(desk.context, order())
    one = BySerial(serial=made.own.issued.serial)

    with pytest.raises(RefusedError) as refused:
        await revoke(desk.context, one, reason=RevocationReason.UNSPECIFIED, actor=ADA)

    assert refused.value.hint == "fleet service revoke dashboard"


async def test_the_trail_brings_policy_and_backends_back(
    desk: Desk, fleet_home: FleetHome, tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir()
    home = replace(desk.context.home, root=tmp_path / "home")
    await apply_access(replace(desk.context, home=home), POLICY, actor=ADA)
    await add_backend(desk.context, order(writes=("devices/prod/+/orders",)))
    await add_backend(desk.context, order("sold"))
    await revoke_backend(desk.context, "sold", actor=ADA, reason="")
    told = [
        stored.entry
        for action in ("access.applied", "service.added", "service.revoked")
        for stored in await desk.context.store.read(audit.search, AuditQuery(action=action))
    ]
    (tmp_path / "other").mkdir()
    async with at_desk(fleet_home, tmp_path / "other") as other:
        for entry in told:
            await other.context.store.write(EFFECTS[entry.action], entry)

        for read in (newest_policy, list_records):
            assert await other.context.store.read(read, None) == await desk.context.store.read(read, None)
