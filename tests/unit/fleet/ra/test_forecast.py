"""The forecast of a living fleet: what ends, who is late, and whom an outage would cut off."""

from datetime import timedelta

import pytest

from fleet.core.query_text import parse_query
from fleet.errors import NotFoundError
from fleet.ra.forecast import Question, forecast
from tests.desk import Desk
from tests.homes import FleetHome

LIFETIME = timedelta(days=90)
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def the_home_is_new(desk: Desk, fleet_home: FleetHome) -> None:
    desk.clock.now = fleet_home.made_at


async def test_devices_are_counted_by_domain_until_they_are_revoked(desk: Desk) -> None:
    for name in ("d1", "d2"):
        await desk.enrolled(name)
    await desk.enrolled("d1", domain="lab")
    desk.clock.forward(LIFETIME - 5 * DAY)

    found = {line.kind: line.within for line in (await forecast(desk.context, Question())).lines}
    assert (found["device prod"], found["device lab"]) == ((0, 2, 2, 2), (0, 1, 1, 1))

    await desk.revoke("d1")
    found = {line.kind: line.within for line in (await forecast(desk.context, Question())).lines}
    assert found["device prod"] == (0, 1, 1, 1)


async def test_who_did_not_renew_in_time_needs_attention(desk: Desk) -> None:
    await desk.enrolled("d1")
    assert (await forecast(desk.context, Question())).attention == ()
    desk.clock.forward(LIFETIME - 5 * DAY)
    assert "1 device prod" in " ".join((await forecast(desk.context, Question())).attention)


async def test_an_outage_cuts_off_whom_it_outlasts(desk: Desk) -> None:
    await desk.enrolled("d1")
    desk.clock.forward(60 * DAY)
    await desk.enrolled("d2")

    short = (await forecast(desk.context, Question(ca_down=29 * DAY))).cut
    assert short is not None
    assert short.days == ()

    month = (await forecast(desk.context, Question(ca_down=31 * DAY))).cut
    assert month is not None
    assert [(day.dark, day.lost) for day in month.days] == [(1, 0)]
    assert [one.identity.device_id for one in month.first] == ["d1"]

    long = (await forecast(desk.context, Question(ca_down=62 * DAY, most=1))).cut
    assert long is not None
    assert sum(day.lost for day in long.days) == 1
    assert len(long.first) == 1


async def test_a_query_asks_of_its_devices_alone(desk: Desk) -> None:
    for name in ("d1", "d2"):
        await desk.enrolled(name)
    among = parse_query("id=d1").condition
    found = await forecast(desk.context, Question(ca_down=100 * DAY, among=among, weeks=20))
    assert [(line.kind, line.within[-1]) for line in found.lines] == [("device prod", 1)]
    assert found.cut is not None
    assert [one.identity.device_id for one in found.cut.first] == ["d1"]
    assert sum(day.dark for day in found.cut.days) == 1
    assert sum(count for week in found.weeks for _, count in week.ends) == 1


async def test_each_week_tells_what_ends_and_which_renewals_are_planned(desk: Desk) -> None:
    _, issued = await desk.enrolled("d1")
    found = await forecast(desk.context, Question(weeks=20))
    ending = [week for week in found.weeks if ("device prod", 1) in week.ends]
    assert [week.begins <= (desk.clock() + LIFETIME).date() < week.begins + 7 * DAY for week in ending] == [
        True
    ]
    (planned,) = [week for week in found.weeks if week.renewals]
    assert (planned.renewals, planned.busiest_hour) == (1, 1)
    assert planned.begins <= issued.renew_after.date() < planned.begins + 7 * DAY


async def test_a_ca_that_ends_is_told(desk: Desk) -> None:
    ends = min(issuer.not_after for issuer in desk.context.authority.issuers)
    desk.clock.now = ends - 30 * DAY
    found = await forecast(desk.context, Question())
    assert any("CAs end within 90 days" in text for text in found.attention)


async def test_an_empty_selection_is_no_all_clear(desk: Desk) -> None:
    await desk.enrolled("d1")
    with pytest.raises(NotFoundError, match="no device fits"):
        await forecast(desk.context, Question(among=parse_query("tag=typo").condition))
