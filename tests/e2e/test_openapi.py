"""The API says of itself what it does: a valid OpenAPI document, and answers that are what it promises."""

import json
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from fleet.core.matters import Matter
from fleet.web import api
from fleet.web.api import reference
from fleet.web.api.openapi import document
from fleet.web.api.routes import Document, Json
from fleet.web.api.terms import TERMS
from tests.api import OpenApi, open_api
from tests.desk import Unit
from tests.homes import FleetHome, make_home
from tests.telling import rule, told

ROOT = Path(__file__).parents[2]
DOCUMENT = json.loads(json.dumps(document(api.table())))
LIFE: tuple[tuple[str, str, Mapping[str, Json]], ...] = (
    ("POST", "devices", {"domain": "prod", "device_id": "d1", "hardware": "mac 1"}),
    ("POST", "claims/codes", {"domain": "prod", "devices": ["d1", "d2"], "days": 3}),
    ("POST", "claims/batches", {"domain": "prod", "batch": "b1", "uses": 4}),
    ("POST", "stations", {"name": "line1", "domain": "prod", "batches": ["b1"], "csr": Unit().csr}),
    ("POST", "stations/line1/rules", {"batches": ["b1", "b2"], "quotas": ["b2=9"], "rate": 60}),
    ("POST", "stations/line1/lease", {"batch": "b1", "units": 3, "days": 2, "csr": Unit().csr}),
    ("POST", "stations/line1/operators", {"name": "ada", "badge": "1234"}),
    ("POST", "stations/line1/operators/ada/remove", {}),
    ("POST", "stations/line1/journal", {"reason": "disk lost"}),
    ("POST", "stations/line1/revoke", {"reason": "sold"}),
    ("POST", "services", {"name": "dashboard", "reads": ["devices/#"], "csr": Unit().csr}),
    ("POST", "services", {"name": "orders", "writes": ["devices/prod/+/orders"], "csr": Unit().csr}),
    ("POST", "services/dashboard/renew", {"csr": Unit().csr}),
    ("POST", "services/dashboard/revoke", {"reason": "sold"}),
    ("POST", "operators", {"name": "ada", "role": "viewer"}),
    ("POST", "readmissions", {"name": "ada", "csr": Unit().csr}),
    ("POST", "devices/prod/d1/suspend", {"reason": "lost"}),
    ("POST", "devices/prod/d1/resume", {}),
    ("POST", "owners", {"name": "acme", "about": "a customer", "contacts": ["fleet@acme.example"]}),
    ("POST", "groups", {"name": "line1", "note": "the first"}),
    ("POST", "groups", {"name": "late", "query": "expires<30d"}),
    ("POST", "devices/marks", {"names": ["prod:d1"], "owner": "acme", "groups": ["line1"], "tags": ["x"]}),
    ("POST", "devices/marks", {"query": "tag=x", "attributes": {"site": "Graz"}, "without_tags": ["x"]}),
    ("POST", "suspensions", {"query": "id=d2", "reason": "lost"}),
    ("POST", "resumptions", {"query": "id=d2"}),
    ("POST", "renewals", {"query": "id=d1", "within_hours": 1}),
    ("POST", "moves/prod/d1/return", {"reason": "broken"}),
    ("POST", "moves/prod/d1/sent", {}),
    ("POST", "moves/prod/d1/readmit", {}),
    ("POST", "moves/prod/d1/transfer", {"to_domain": "lab", "days": 3}),
    ("POST", "moves/prod/d1/cancel", {}),
    ("POST", "groups/late/remove", {}),
    ("POST", "operators/ada/remove", {"reason": "left"}),
    ("POST", "claims/batches/revoke", {"domain": "prod", "batch": "b1"}),
    ("POST", "revocations", {"domain": "prod", "device_id": "d1", "reason": "keyCompromise"}),
    ("POST", "devices/prod/d2/retire", {}),
    ("POST", "devices/prod/d2/decommission", {}),
    ("POST", "rollovers", {"name": "prod", "rehearse": True}),
    ("POST", "rollovers", {"name": "prod/device-1"}),
    ("POST", "rollovers/prod/switch", {"rehearse": True}),
    ("POST", "rollovers/prod/abandon", {}),
    ("POST", "authorities/prod%2Fdevice-1/give-up", {"loss": "lost", "rehearse": True}),
    ("POST", "devices", {"domain": "moon", "device_id": "d1"}),
)
"""Enough of a life that every list has something in it; the last one is refused."""


@pytest.fixture(scope="session")
def fleet_home(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    return make_home(tmp_path_factory.mktemp("homes") / "home")


@pytest.fixture
async def opened(fleet_home: FleetHome, tmp_path: Path) -> AsyncIterator[OpenApi]:
    async with open_api(fleet_home, tmp_path) as found:
        yield found


def strictly(schema: object) -> object:
    """Return a schema in which no object has a member that is not promised."""
    match schema:
        case {"properties": dict() as members}:
            closed = {name: strictly(member) for name, member in members.items()}
            return {**schema, "properties": closed, "additionalProperties": False}
        case dict():
            return {name: strictly(member) for name, member in schema.items()}
        case list():
            return [strictly(item) for item in schema]
        case _:
            return schema


def check(method: str, template: str, status: int, answered: object) -> None:
    """Hold an answer against what the document says of it."""
    promised = DOCUMENT["paths"][f"/api/v1/{template}"][method.lower()]["responses"]
    told = promised.get(str(status), promised["default"])
    ((_, content),) = told["content"].items()
    closed = strictly({**content["schema"], "components": DOCUMENT["components"]})
    assert isinstance(closed, dict)
    assert [str(error) for error in Draft202012Validator(closed).iter_errors(answered)] == []


def test_the_document_is_openapi() -> None:
    validate(DOCUMENT)


def test_every_route_is_described_and_every_name_is_used() -> None:
    described = {(path, method) for path, methods in DOCUMENT["paths"].items() for method in methods}
    for route in api.table():
        assert (f"/api/v1/{route.path}", route.method.lower()) in described
    said = json.dumps(DOCUMENT["paths"])
    assert [name for name in TERMS if f'"{name}"' not in said] == []
    everything = json.dumps(DOCUMENT)
    shapes = DOCUMENT["components"]["schemas"]
    assert [name for name in shapes if f'schemas/{name}"' not in everything] == []


def test_the_reference_is_what_the_table_says() -> None:
    assert (ROOT / "docs/reference/http-api.md").read_text() == reference.text()


async def test_everybody_may_read_it(opened: OpenApi) -> None:
    status, kind, found = await opened.remote("GET", "openapi.json")
    assert (status, kind, found) == (200, "application/json", DOCUMENT)


def template_of(path: str) -> str:
    """Return the path of the table that a POST's path is of."""
    for route in api.table():
        pattern = re.sub(r"\{[a-z_]+\}", "[^/]+", route.path)
        if route.method == "POST" and re.fullmatch(pattern, path):
            return route.path
    raise AssertionError(path)


async def proposed(opened: OpenApi) -> str:
    """Ask for more than one operator may do alone, and return the proposal that it became."""
    for number in range(12):
        device = {"domain": "prod", "device_id": f"m{number}", "batch": "many"}
        await opened.local("POST", "devices", json.dumps(device).encode())
    act = {"domain": "prod", "batch": "many", "reason": "superseded"}
    status, _, answered = await opened.local("POST", "revocations", json.dumps(act).encode())
    assert (status, answered["exit"]) == (403, 3)
    check("POST", "revocations", status, answered)
    found = (await opened.local("GET", "proposals"))[2]["items"]
    assert isinstance(found, list)
    proposal = str(found[0]["proposal"])
    status, _, answered = await opened.local("POST", f"proposals/{proposal}/withdraw", b"{}")
    check("POST", "proposals/{proposal}/withdraw", status, answered)
    return proposal


async def notified(opened: OpenApi) -> str:
    """Have people told of something, and return the notification that it became; acknowledge and test it."""
    people = told(opened.desk, rule(Matter.BACKUP_OLD))
    people.forward(days=30)
    await people.all()
    (delivery,) = await people.deliveries()
    number = str(delivery.notification)
    for path in ("notifications/{notification}/ack", "notifications/test"):
        status, _, answered = await opened.local("POST", path.format(notification=number), b"{}")
        assert status == 200, answered
        check("POST", path, status, answered)
    return number


async def test_answers_are_what_it_promises(opened: OpenApi) -> None:
    for method, path, body in LIFE:
        status, _, answered = await opened.local(method, path, json.dumps(body).encode())
        assert status < 400 or body.get("domain") == "moon", answered
        check(method, template_of(path), status, answered)
    certificates = (await opened.local("GET", "certificates"))[2]["items"]
    assert isinstance(certificates, list)
    names = {"domain": "prod", "device_id": "d1", "serial": certificates[0]["serial"], "name": "line1"}
    names["realm"] = "prod"
    names["proposal"] = await proposed(opened)
    names["notification"] = await notified(opened)
    for route in api.table():
        if route.method == "GET" and not isinstance(route.answer, Document):
            status, _, answered = await opened.local("GET", route.path.format(**names))
            check("GET", route.path, status, answered)
