"""The doctor: each trouble is found, and told with its fix."""

from datetime import timedelta

import pytest

from fleet.ra import health
from fleet.ra.status.press import press_of
from fleet.ra.status.public_lists import make_public
from fleet.ra.status.publishing import publish
from tests.desk import Desk
from tests.homes import FleetHome


@pytest.fixture(autouse=True)
def the_home_is_new(desk: Desk, fleet_home: FleetHome) -> None:
    desk.clock.now = fleet_home.made_at


async def findings(desk: Desk) -> dict[str, list[health.Finding]]:
    found: dict[str, list[health.Finding]] = {}
    for one in await health.examine(desk.context):
        found.setdefault(one.check, []).append(one)
    return found


async def bad(desk: Desk) -> dict[str, str]:
    return {check: one.text for check, group in (await findings(desk)).items() for one in group if not one.ok}


async def test_every_problem_has_a_fix_and_what_is_well_has_none(desk: Desk) -> None:
    for group in (await findings(desk)).values():
        for one in group:
            assert bool(one.fix) is not one.ok, one


async def test_a_new_home_has_its_root_passphrase_still_on_the_machine(desk: Desk) -> None:
    await publish(desk.context)
    assert "root keys" in await bad(desk)


async def test_a_configuration_that_cannot_be_read_any_more_is_found(desk: Desk) -> None:
    assert "configuration" not in await bad(desk)
    file = desk.context.home.config
    before = file.read_text()
    file.write_text(f"{before}\n[broker.more]\nspeed = 3\n")
    try:
        assert "broker" in (await bad(desk))["configuration"]
    finally:
        file.write_text(before)  # other tests are in this home


async def test_lists_that_ran_out_are_found(desk: Desk) -> None:
    await publish(desk.context)
    assert "revocation lists" not in await bad(desk)
    desk.clock.forward(timedelta(days=3))
    assert "revocation lists" in await bad(desk)


async def test_a_broker_without_its_lists_is_found(desk: Desk) -> None:
    await make_public(press_of(desk.context), desk.context.crls, now=desk.clock())
    assert "broker" in (await bad(desk))["revocation lists"]
    await publish(desk.context)
    assert "revocation lists" not in await bad(desk)


async def test_own_certificates_that_end_soon_are_found(desk: Desk) -> None:
    assert "own certificates" not in await bad(desk)
    desk.clock.forward(timedelta(days=360))
    assert "own certificates" in await bad(desk)


async def test_renewals_that_are_late_are_found(desk: Desk) -> None:
    await desk.enrolled("d1")
    assert "devices" not in await bad(desk)
    desk.clock.forward(timedelta(days=85))
    assert (await bad(desk))["devices"] == "certificates that end within 7 days: 1"


async def test_a_clock_before_the_newest_record_is_found(desk: Desk) -> None:
    await desk.enrolled("d1")
    assert "clock" not in await bad(desk)
    desk.clock.forward(-timedelta(days=3))
    assert "clock" in await bad(desk)


async def test_a_check_that_cannot_be_made_is_a_finding(desk: Desk) -> None:
    desk.context.home.audit_head.unlink(missing_ok=True)
    assert "audit trail" in await bad(desk)


async def test_one_screen_counts_what_there_is(desk: Desk) -> None:
    await desk.enrolled("d1")
    found = await health.health(desk.context)
    assert {standing.value: count for standing, count in found.records.standings} == {"enrolling": 1}
    assert (found.serving, found.driver, found.sessions) == (True, "memory", 0)
