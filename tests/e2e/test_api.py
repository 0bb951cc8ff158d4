"""The operators' API over its socket: who may ask, what a bad request gets, and that the service goes on."""

import json
import re
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet.model import Role
from fleet.ra.context import Context
from fleet.web import api
from fleet.web.api import routes
from fleet.web.api.who import Operator
from fleet.web.gate import PROBLEM_TYPE
from tests.api import Asking, OpenApi, open_api
from tests.homes import FleetHome, make_home

ROUTES = api.table()
IN_PATH = re.compile(r"\{([a-z_]+)\}")
EXAMPLES = {
    "readmission": "5f3a0c2e9b1d7a44",
    "proposal": "5f3a0c2e9b1d7a44",
    "domain": "prod",
    "device_id": "d1",
    "name": "ada",
    "notification": "1",
    "operator": "eve",
    "unit": "d1",
    "lease": "40" * 16,
    "serial": "40" * 16,
    "short_code": "7K3M-9QXZ",
    "realm": "fleet",
}
"""What a path is filled with."""


def filled(path: str) -> str:
    return IN_PATH.sub(lambda found: EXAMPLES[found[1]], path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=12), below, max_size=3),
    max_leaves=6,
)
MEMBERS = [
    "domain",
    "device_id",
    "devices",
    "batch",
    "days",
    "key_hash",
    "replace",
    "reason",
    "html",
    "name",
    "batches",
    "certificate",
    "at",
    "serial",
    "lineage",
    "query",
    "uses",
    "code_id",
    "kind",
    "hardware",
    "note",
]
BODIES = st.dictionaries(st.sampled_from(MEMBERS) | st.text(max_size=12), JSON, max_size=5)


@pytest.fixture(scope="session")
def fleet_home(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    return make_home(tmp_path_factory.mktemp("homes") / "home")


@pytest.fixture
async def opened(fleet_home: FleetHome, tmp_path: Path) -> AsyncIterator[OpenApi]:
    async with open_api(fleet_home, tmp_path) as found:
        yield found


@pytest.fixture
def ask(opened: OpenApi) -> Asking:
    return opened.local


async def test_nobody_is_an_operator_but_through_the_home_s_socket(
    opened: OpenApi,
) -> None:
    for route in ROUTES:
        if route.role is None:
            continue
        path = filled(route.path)
        status, _, _ = await opened.remote(route.method, path, None if route.method == "GET" else b"{}")
        assert status == HTTPStatus.UNAUTHORIZED, path


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
async def test_a_role_that_is_too_low_is_refused(
    route: routes.Route, ask: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = {Role.OPERATOR: Role.VIEWER, Role.SECURITY: Role.OPERATOR}
    if route.role in {None, Role.VIEWER}:
        return

    async def eve(_request: web.Request, _context: Context) -> Operator:
        assert route.role is not None
        return Operator(name="eve", role=below[route.role])

    monkeypatch.setattr(routes, "operator_of", eve)
    path = filled(route.path)
    status, kind, found = await ask(route.method, path, b"{}")
    assert (status, kind, found["exit"]) == (HTTPStatus.FORBIDDEN, PROBLEM_TYPE, 3)


async def test_a_viewer_is_proven_that_the_trail_goes_on_and_shown_no_whole_entry(
    ask: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def eve(_request: web.Request, _context: Context) -> Operator:
        return Operator(name="eve", role=Role.VIEWER)

    _, _, kept = await ask("GET", "audit/head")
    monkeypatch.setattr(routes, "operator_of", eve)
    head = f"earlier_size={kept['size']}&earlier_root={kept['root']}"

    _, _, proof = await ask("GET", f"audit/proof?{head}")
    assert (proof["head"], proof["entry"], proof["inclusion"]) == (kept, None, None)
    status, _, found = await ask("GET", f"audit/proof?{head}&entry=0")
    assert (status, found["exit"]) == (HTTPStatus.FORBIDDEN, 3)
    status, _, found = await ask("GET", f"audit/proof?earlier_size={kept['size']}")
    assert (status, found["exit"]) == (HTTPStatus.BAD_REQUEST, 6)


def test_nothing_is_changed_by_get_and_who_acts_is_no_viewer() -> None:
    reads = {"certificates/verify"}
    whole_entries = {"audit/export", "audit/syslog"}
    of_oneself = {"operators/{name}/renew", "operators/{name}/renewed"}
    of_oneself |= {"second-factors", "second-factors/confirm", "second-factors/remove"}
    for route in ROUTES:
        if route.method == "GET" or route.path in reads:
            assert route.role in {None, Role.VIEWER} or route.path in whole_entries
        elif route.path not in of_oneself:
            assert route.role is not Role.VIEWER, route.path


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "devices", b"", 400, 6),
        ("POST", "devices", b"[]", 400, 6),
        ("POST", "devices", b'{"domain":"prod"}', 400, 6),
        ("POST", "devices", b'{"domain":"prod","device_id":"a/b"}', 400, 6),
        ("POST", "devices", b'{"domain":"prod","device_id":"d1","extra":1}', 400, 6),
        ("POST", "devices", b'{"domain":"prod","device_id":"d1","device_id":"d2"}', 400, 6),
        ("POST", "devices", b'{"domain":"moon","device_id":"d1"}', 404, 4),
        ("POST", "devices", b"x" * 70_000, 413, 6),
        ("GET", "devices?limit=0", None, 400, 6),
        ("GET", "devices?limit=99999", None, 400, 6),
        ("GET", "devices?lmit=5", None, 400, 6),
        ("GET", "devices?limit=5&limit=6", None, 400, 6),
        ("GET", "devices?after=nonsense", None, 400, 6),
        ("GET", "devices/prod/a%2Fb", None, 400, 6),
        ("GET", "devices?query=colour%3Dred", None, 400, 6),
        ("GET", "devices/selection", None, 400, 6),
        ("POST", "devices/marks", b'{"tags":["x"]}', 400, 6),
        ("POST", "devices/marks", b'{"tags":["x"],"names":["prod:nobody"],"query":"all"}', 400, 6),
        ("POST", "devices/marks", b'{"tags":["a b"],"names":["prod:nobody"]}', 400, 6),
        ("POST", "devices/marks", b'{"names":["prod:nobody"]}', 400, 6),
        ("POST", "devices/marks", b'{"tags":["x"],"names":["prod:nobody"]}', 404, 4),
        ("POST", "groups", b'{"name":"g","query":"group=h"}', 400, 6),
        ("POST", "owners", b'{"name":"o","contacts":["nobody"]}', 400, 6),
        ("POST", "moves/prod/nobody/return", b"{}", 404, 4),
        ("POST", "moves/prod/nobody/sent", b"{}", 404, 4),
        ("GET", "devices/prod/nobody", None, 404, 4),
        ("GET", "certificates/xyz", None, 400, 6),
        ("GET", "claims/codes?after=a", None, 400, 6),
        ("POST", "revocations", b'{"reason":"unspecified"}', 400, 6),
        ("POST", "revocations", b'{"reason":"unspecified","serial":"x","lineage":"y"}', 400, 6),
        ("POST", "revocations", b'{"reason":"boredom","query":"domain=prod"}', 400, 6),
    ],
)
async def test_a_bad_request_gets_one_clear_problem(
    ask: Asking, *, method: str, path: str, body: bytes | None, status: int, code: int
) -> None:
    seen, kind, found = await ask(method, path, body)
    assert (seen, kind) == (status, PROBLEM_TYPE), found
    assert found["detail"]
    assert found.get("exit", {400: 6, 404: 4, 413: 6}[seen]) == code


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(body=BODIES | JSON)
@pytest.mark.parametrize(
    "route", [route for route in ROUTES if route.method == "POST"], ids=lambda route: route.path
)
async def test_whatever_is_posted_the_service_goes_on(route: routes.Route, ask: Asking, body: object) -> None:
    path = filled(route.path)
    status, _, _ = await ask("POST", path, json.dumps(body).encode("utf-8", "surrogatepass"))
    assert status < HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.SERVICE_UNAVAILABLE


async def test_a_list_is_read_page_by_page(opened: OpenApi) -> None:
    ask, desk = opened.local, opened.desk
    for number in range(5):
        await desk.register(f"d{number}")
    seen: list[object] = []
    following: object = ""
    while following is not None:
        _, _, page = await ask("GET", f"devices?limit=2{following}")
        items = page["items"]
        assert isinstance(items, list)
        seen += [item["device_id"] for item in items]
        following = page["next"] and f"&after={page['next']}"
    assert seen == ["d0", "d1", "d2", "d3", "d4"]


async def test_an_act_is_on_the_audit_trail_with_who_did_it(opened: OpenApi) -> None:
    ask, desk = opened.local, opened.desk
    await desk.register("d1")
    await ask("POST", "devices/prod/d1/suspend", b'{"reason":"lost"}')
    _, _, found = await ask("GET", "audit/tail?count=1")
    items = found["items"]
    assert isinstance(items, list)
    assert (items[0]["action"], items[0]["actor"]) == ("device.suspended", "operator:local")
    assert items[0]["details"] == {"reason": "lost"}
