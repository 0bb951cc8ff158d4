"""What the doctor says of the authorities, before anybody is turned away by it."""

import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from fleet.core.authority import AuthorityRecord, AuthorityState
from fleet.home import Home
from fleet.model import Purpose
from fleet.ra.authority.authorities import reload_authority
from fleet.ra.authority.authority_health import authorities
from fleet.ra.authority.new_authority import AuthorityOrder, request_authority
from fleet.store.authorities import list_authorities, save_authority
from tests.desk import Desk, at_desk
from tests.homes import FleetHome, authority_of, key_ring
from tests.rolling import stand_by


@pytest.fixture
async def desk(fleet_home: FleetHome, tmp_path: Path) -> AsyncIterator[Desk]:
    home = Home(Path(shutil.copytree(fleet_home.home.root, tmp_path / "home")))
    copied = FleetHome(home=home, authority=authority_of(home), made_at=fleet_home.made_at)
    async with at_desk(copied, tmp_path) as opened:
        opened.clock.now = fleet_home.made_at + timedelta(days=1)
        yield opened


async def told(desk: Desk) -> list[tuple[str, str]]:
    """Return what is wrong, each with its fix."""
    return [(one.text, one.fix) for one in await authorities(desk.context) if not one.ok]


async def record_of(desk: Desk, folder: str) -> AuthorityRecord:
    return next(one for one in await desk.context.store.read(list_authorities, None) if one.folder == folder)


async def test_all_is_well_in_a_new_home(desk: Desk) -> None:
    (finding,) = await authorities(desk.context)
    assert finding.ok
    assert finding.text.startswith("11 at work, their keys answer")


async def test_a_roots_list_that_ends_is_told_a_month_before(desk: Desk) -> None:
    desk.clock.forward(timedelta(days=330))
    assert await told(desk) == []
    desk.clock.forward(timedelta(days=10))
    found = await told(desk)
    assert [text[: text.index(" ends")] for text, _ in found] == [
        f"the revocation list of the root {realm}" for realm in ("bootstrap", "fleet", "lab", "prod")
    ]
    assert found[-1][1] == "fleet ca crl prod"


async def test_a_ca_that_ends_is_told_with_its_successor(desk: Desk) -> None:
    desk.clock.forward(timedelta(days=3650 - 60))
    fixes = [
        fix for text, fix in await told(desk) if text.startswith(("prod/device-1 ", "fleet/operator-1 "))
    ]
    assert fixes == ["fleet ca add --purpose operator", "fleet ca add --domain prod"]


async def test_a_ca_that_is_nearly_full_is_told(desk: Desk) -> None:
    record = await record_of(desk, "fleet/service-1")
    await desk.context.store.write(save_authority, replace(record, room=2))
    (found,) = await told(desk)
    assert found == ("fleet/service-1 has 2 leaves, and room for 2", "fleet ca add --purpose service")


async def test_a_request_that_nobody_answers_is_told(desk: Desk) -> None:
    order = AuthorityOrder(realm="prod", purpose=Purpose.DEVICE, actor="operator:ada")
    await request_authority(desk.context, order)
    assert await told(desk) == []
    desk.clock.forward(timedelta(days=31))
    (found,) = await told(desk)
    assert found[0].startswith("prod/device-2 has waited for its certificate since ")
    assert found[1] == "fleet ca import prod/device-2 CHAIN, or fleet ca retire prod/device-2"


async def test_a_key_that_cannot_be_used_is_told(desk: Desk) -> None:
    desk.context.in_force.keys = key_ring(desk.context.home)
    (desk.context.home.ca / "prod" / "device-1" / "ca.key").chmod(0o644)
    fresh = authority_of(desk.context.home)
    desk.context.in_force.replace(authority=fresh)
    (found,) = await told(desk)
    assert "the key of prod/device-1 cannot be used" in found[0]
    assert found[1].startswith("chmod 600")


async def test_a_folder_that_no_record_knows_is_told(desk: Desk) -> None:
    shutil.copytree(desk.context.home.ca / "prod" / "device-1", desk.context.home.ca / "prod" / "device-7")
    await reload_authority(desk.context)
    (found,) = await told(desk)
    assert found[0].startswith("ca/prod/device-7 is of no CA on record")


async def test_a_domain_and_a_purpose_for_which_nobody_signs_are_told(desk: Desk) -> None:
    for folder in ("prod/device-1", "fleet/operator-1"):
        stopped = replace(await record_of(desk, folder), state=AuthorityState.RETIRING)
        await desk.context.store.write(save_authority, stopped)
    assert await told(desk) == [
        ("no CA signs for operator", "fleet ca add --purpose operator"),
        ("no CA signs for prod", "fleet ca add --domain prod"),
    ]


async def test_a_ca_that_stands_by_is_the_shortest_way_where_nobody_signs(desk: Desk) -> None:
    standby = await stand_by(desk.context)
    await reload_authority(desk.context)
    stopped = replace(await record_of(desk, "prod/device-1"), state=AuthorityState.RETIRING)
    await desk.context.store.write(save_authority, stopped)
    (found,) = await told(desk)
    assert found[0] == "no CA signs for prod"
    assert found[1].startswith(f"fleet ca activate {standby}")


async def test_a_standby_whose_root_is_given_up_is_told(desk: Desk) -> None:
    standby = await stand_by(desk.context)
    await reload_authority(desk.context)
    assert await told(desk) == []
    ending = replace(await record_of(desk, "prod"), state=AuthorityState.RETIRING)
    await desk.context.store.write(save_authority, ending)
    (found,) = await told(desk)
    assert found == (
        f"{standby} stands by and could not take over: its root is given up",
        f"fleet ca add --domain prod --standby, then fleet ca retire {standby}",
    )
