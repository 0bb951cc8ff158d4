"""Rollouts over the API: answers are what the document promises, and orders without a version refused."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp import web

from fleet.model import Role
from fleet.ra.campaigns.conduct import Pace
from fleet.ra.context import Context
from fleet.web.api import routes
from fleet.web.api.routes import Json
from fleet.web.api.who import Operator
from tests.api import OpenApi, open_api
from tests.e2e.test_openapi import check, template_of
from tests.homes import FleetHome, make_home
from tests.rollouts import Field, plan_text

PLAN = plan_text(more='note = "keys are old"\nwindows = ["mon-sun 00:00-00:00 Europe/Berlin"]')
LIFE: tuple[tuple[str, dict[str, Json]], ...] = (
    ("rollouts", {"plan": PLAN, "rehearse": True}),
    ("rollouts", {"plan": PLAN}),
    ("rollouts/spring/start", {"version": 1, "reason": "they are old"}),
    ("rollouts/spring/pause", {"version": 2}),
    ("rollouts/spring/resume", {"version": 3}),
    ("rollouts/spring/halt", {"version": 4}),
    ("rollouts/spring/resume", {"version": 5, "anyway": True}),
    ("rollouts/spring/halt", {"version": 6}),
    ("rollouts/spring/roll-back", {"version": 7}),
)


@pytest.fixture(scope="module")
def fleet_home(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    return make_home(tmp_path_factory.mktemp("homes") / "home")


@pytest.fixture
async def opened(fleet_home: FleetHome, tmp_path: Path) -> AsyncIterator[OpenApi]:
    async with open_api(fleet_home, tmp_path) as found:
        yield found


async def posted(opened: OpenApi, path: str, body: dict[str, Json]) -> tuple[int, dict[str, object]]:
    status, _, answered = await opened.local("POST", path, json.dumps(body).encode())
    check("POST", template_of(path), status, answered)
    return status, answered


async def test_a_rollout_s_life_is_answered_as_promised(opened: OpenApi) -> None:
    field = Field(desk=opened.desk, pace=Pace())
    await field.plant("d-1", "d-2", "d-3")
    for path, body in LIFE:
        status, answered = await posted(opened, path, body)
        assert status == 200, answered
        await field.tick(after=timedelta(seconds=5))
        if body.get("rehearse"):
            continue
        for read in ("rollouts", "rollouts/{name}", "rollouts/{name}/devices"):
            status, _, found = await opened.local("GET", read.format(name="spring"))
            assert status == 200, found
            check("GET", read, status, found)


async def test_lists_of_devices_come_in_pages_and_by_state(opened: OpenApi) -> None:
    field = Field(desk=opened.desk, pace=Pace())
    await field.plant("d-1", "d-2", "d-3")
    await posted(opened, "rollouts", {"plan": PLAN})
    _, _, first = await opened.local("GET", "rollouts/spring/devices?limit=2")
    _, _, second = await opened.local("GET", f"rollouts/spring/devices?limit=2&after={first['next']}")
    found = [*_names(first), *_names(second)]
    assert (found, second["next"]) == (["d-1", "d-2", "d-3"], None)
    _, _, none = await opened.local("GET", "rollouts/spring/devices?rollout_device_state=failed")
    assert _names(none) == []
    _, _, pilot = await opened.local("GET", "rollouts/spring/devices?wave=1")
    assert len(_names(pilot)) == 2


def _names(page: dict[str, object]) -> list[str]:
    items = page["items"]
    assert isinstance(items, list)
    return [str(one["device_id"]) for one in items]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("rollouts", {"plan": "[rollout]\nname = 7"}, 400),
        ("rollouts", {"plan": "[rollout]\nname = 'x'\nselect = 'all'\nwaves = ['1', 'rest']\nwave = 1"}, 400),
        ("rollouts", {"plan": PLAN, "force": True}, 400),
        ("rollouts", {"plan": PLAN.replace('"all"', '"tag=none"')}, 403),
        ("rollouts/spring/start", {}, 400),
        ("rollouts/spring/start", {"version": 1}, 404),
        ("rollouts/SPRING/start", {"version": 1}, 400),
    ],
)
async def test_what_is_not_right_is_refused(
    opened: OpenApi, path: str, body: dict[str, Json], status: int
) -> None:
    found, answered = await posted(opened, path, body)
    assert (found, bool(answered["detail"])) == (status, True)


async def test_an_order_on_an_older_version_is_a_conflict_that_says_who_was_faster(opened: OpenApi) -> None:
    await Field(desk=opened.desk, pace=Pace()).plant("d-1", "d-2", "d-3")
    for path, body in LIFE[1:3]:
        await posted(opened, path, body)
    status, answered = await posted(opened, "rollouts/spring/pause", {"version": 1})
    assert (status, answered["exit"]) == (403, 3)
    assert "was changed by operator:local" in str(answered["detail"])


@pytest.mark.parametrize(
    ("more", "role", "status"),
    [
        ({"kind": "rekey"}, Role.OPERATOR, 200),
        ({"kind": "profile", "more": 'profile = "prod/device"'}, Role.OPERATOR, 403),
        ({"kind": "profile", "more": 'profile = "prod/device"'}, Role.SECURITY, 200),
        ({"kind": "ca", "more": 'ca = "prod/device-1"'}, Role.OPERATOR, 403),
        ({"kind": "ca", "more": 'ca = "prod/device-1"'}, Role.SECURITY, 200),
        ({"kind": "trust", "more": 'realm = "prod"'}, Role.OPERATOR, 403),
    ],
)
async def test_a_rollout_needs_the_role_that_its_change_needs_for_one_device(
    opened: OpenApi, monkeypatch: pytest.MonkeyPatch, more: dict[str, str], role: Role, status: int
) -> None:
    await Field(desk=opened.desk, pace=Pace()).plant("d-1", "d-2", "d-3")
    acting(monkeypatch, role)
    found, answered = await posted(opened, "rollouts", {"plan": plan_text(**more)})
    assert found == status, answered


async def test_what_security_has_planned_an_operator_may_stop_and_not_start(
    opened: OpenApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    await Field(desk=opened.desk, pace=Pace()).plant("d-1", "d-2", "d-3")
    acting(monkeypatch, Role.SECURITY)
    plan = plan_text(kind="profile", more='profile = "prod/device"')
    await posted(opened, "rollouts", {"plan": plan})
    for role, order, version, status in (
        (Role.OPERATOR, "start", 1, 403),
        (Role.SECURITY, "start", 1, 200),
        (Role.OPERATOR, "halt", 2, 200),
        (Role.OPERATOR, "resume", 3, 403),
        (Role.OPERATOR, "roll-back", 3, 403),
        (Role.OPERATOR, "abandon", 3, 200),
    ):
        acting(monkeypatch, role)
        found, answered = await posted(opened, f"rollouts/spring/{order}", {"version": version})
        assert found == status, (order, answered)


def acting(monkeypatch: pytest.MonkeyPatch, role: Role) -> None:
    """Have whoever asks be an operator of a role."""

    async def eve(_request: web.Request, _context: Context) -> Operator:
        return Operator(name="eve", role=role)

    monkeypatch.setattr(routes, "operator_of", eve)
