"""Operators over HTTPS on a real service: who is let in, how far, and that being let in ends at once."""

import asyncio
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from uuid import uuid4

import aiohttp
import pytest

from fleet.home import KeyPairFiles
from fleet.model import RevocationReason, Role
from fleet.ra.issue_own import write_pair
from fleet.ra.people.operators import add_operator, remove_operator
from fleet.ra.selection import BySerial
from fleet.ra.status.revoke import revoke
from fleet.web import api
from tests.homes import FleetHome
from tests.live import LiveFleet, live, make_live_home
from tests.mqtt import client_context

SECURITY_ALONE = {
    "GET audit/export",
    "GET audit/syslog",
    "POST audit/archives",
    "POST backups",
    "POST drills",
    "POST unfreeze",
    "POST authorities/{name}/room",
    "POST claims/batches",
    "POST claims/batches/revoke",
    "POST devices/{domain}/{device_id}/approve",
    "POST devices/{domain}/{device_id}/reject",
    "POST devices/{domain}/{device_id}/resume",
    "POST devices/{domain}/{device_id}/retire",
    "POST operators",
    "POST operators/{name}/remove",
    "POST revocations",
    "POST resumptions",
    "POST second-factors/{name}/reset",
    "POST readmissions/vouch",
    "POST readmissions/{readmission}/deny",
    "POST stations",
    "POST stations/{name}/rules",
    "POST stations/{name}/revoke",
    "POST stations/{name}/journal",
    "POST stations/{name}/lease",
    "POST stations/leases/{lease}/close",
    "POST units/{unit}/release",
    "POST stations/{name}/certify",
    "POST adoptions",
    "POST adoptions/{name}/leaves",
    "POST adoptions/{name}/crls",
    "POST adoptions/{name}/close",
    "POST own/renew",
    "POST own/reload",
    "POST waiting/{short_code}/approve",
    "POST waiting/{short_code}/reject",
    "POST templates/{name}",
    "POST templates/{name}/remove",
    "POST domains",
    "POST authorities",
    "POST authorities/{name}/certificate",
    "POST authorities/{name}/list",
    "POST authorities/{name}/crl",
    "POST authorities/{name}/activate",
    "POST authorities/{name}/stop",
    "POST authorities/{name}/give-up",
    "POST authorities/{name}/retire",
    "POST rollovers",
    "POST rollovers/{realm}/material",
    "POST rollovers/{realm}/publish",
    "POST rollovers/{realm}/switch",
    "POST rollovers/{realm}/retire",
    "POST rollovers/{realm}/abandon",
    "POST profiles/assign",
    "POST policy/apply",
    "POST access/apply",
    "POST access/rollback",
    "POST services",
    "POST services/{name}/renew",
    "POST services/{name}/revoke",
    "POST keys/block",
    "POST moves/{domain}/{device_id}/transfer",
    "POST moves/{domain}/{device_id}/replacement",
    "POST moves/{domain}/{device_id}/readmit",
    "POST moves/{domain}/{device_id}/replace",
    "POST moves/{domain}/{device_id}/code",
    "POST moves/{domain}/{device_id}/cancel",
    "POST devices/{domain}/{device_id}/decommission",
}
NOBODY = {
    "readmission": "nobody",
    "proposal": "nobody",
    "notification": "999",
    "operator": "nobody",
    "unit": "nobody",
    "lease": "0" * 32,
    "domain": "prod",
    "device_id": "nobody",
    "serial": "0" * 32,
    "name": "nobody",
    "realm": "nobody",
    "short_code": "NONE-NONE",
}
VIEWERS_POST = {
    "POST certificates/verify",
    "POST operators/{name}/renew",
    "POST operators/{name}/renewed",
    "POST readmissions",  # open to everybody
    "POST second-factors",
    "POST second-factors/confirm",
    "POST second-factors/remove",
}


@dataclass(kw_only=True)
class People:
    """A service with an operator of each role."""

    fleet: LiveFleet
    files: dict[Role, KeyPairFiles] = field(default_factory=dict)
    serials: dict[Role, str] = field(default_factory=dict)

    async def add(self, name: str, role: Role) -> None:
        new = await add_operator(self.fleet.context, name, role=role, actor="operator:test")
        files = KeyPairFiles(
            certificate=self.fleet.folder / f"{name}.crt", key=self.fleet.folder / f"{name}.key"
        )
        write_pair(files, new.own)
        self.files[role], self.serials[role] = files, new.own.issued.serial

    def tls(self, pair: KeyPairFiles | None) -> ssl.SSLContext:
        trust = self.fleet.home.home.server_trust
        if pair is None:
            return client_context(trust=trust)
        return client_context(trust=trust, certificate=pair.certificate, key=pair.key)

    @asynccontextmanager
    async def session(self, pair: KeyPairFiles | None) -> AsyncIterator[aiohttp.ClientSession]:
        base = f"https://localhost:{self.fleet.context.endpoints.https_port}/api/v1/"
        connector = aiohttp.TCPConnector(ssl=self.tls(pair))
        async with aiohttp.ClientSession(base, connector=connector) as session:
            yield session


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    return make_live_home(tmp_path_factory.mktemp("operators") / "home", driver="embedded")


@pytest.fixture
async def people(home: FleetHome, tmp_path: Path) -> AsyncIterator[People]:
    async with live(home, tmp_path) as fleet:
        found = People(fleet=fleet)
        for role in Role:
            await found.add(f"{role.value[:3]}-{uuid4().hex[:8]}", role)
        yield found


async def told(
    session: aiohttp.ClientSession,
    method: str,
    path: str,
    body: object = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, dict[str, object]]:
    async with session.request(method, path, json=body, headers=headers) as response:
        found = await response.json(content_type=None) if "json" in response.content_type else {}
        return response.status, found if isinstance(found, dict) else {}


@pytest.mark.parametrize("role", list(Role))
async def test_each_route_is_open_to_whom_the_table_of_this_test_says(people: People, role: Role) -> None:
    async with people.session(people.files[role]) as session:
        for route in api.table():
            name = f"{route.method} {route.path}"
            if route.method == "GET":
                allowed = role is Role.SECURITY or name not in SECURITY_ALONE
            elif name in SECURITY_ALONE:
                allowed = role is Role.SECURITY
            else:
                allowed = role is not Role.VIEWER or name in VIEWERS_POST
            path = route.path.format_map(NOBODY)
            body = None if route.method == "GET" else {}
            if route.path in {"audit/export", "audit/syslog"}:
                path += "?unknown=1"  # refused after the role was looked at: the trail itself is not wanted
            status, found = await told(session, route.method, path, body)
            refused = status == HTTPStatus.FORBIDDEN and "has the role" in str(found["detail"])
            assert refused is not allowed, (name, role, status, found)
            assert status < HTTPStatus.INTERNAL_SERVER_ERROR, (name, found)


async def test_who_shows_no_certificate_is_told_to(people: People) -> None:
    async with people.session(None) as session, session.get("devices") as response:
        found = await response.json(content_type="application/problem+json")
    assert response.status == HTTPStatus.UNAUTHORIZED
    assert "WWW-Authenticate" in response.headers
    assert (found["exit"], "certificate" in found["hint"]) == (3, True)


async def test_a_certificate_that_is_no_operator_s_is_refused(people: People) -> None:
    device = await people.fleet.enrolled(f"d-{uuid4().hex[:8]}")
    certificate, key = device.files()
    home = people.fleet.home.home
    pairs = {
        "device": KeyPairFiles(certificate=certificate, key=key),
        "station": home.station("local"),
        "service": home.service,
        "claim": home.public_claim("prod"),
    }
    for name, pair in pairs.items():
        async with people.session(pair) as session:
            status, found = await told(session, "GET", "devices")
        assert (name, status) == (name, HTTPStatus.FORBIDDEN)
        assert "no operator's" in str(found["detail"])


@pytest.mark.needs("openssl")
async def test_a_certificate_of_another_authority_opens_nothing(people: People, tmp_path: Path) -> None:
    pair = KeyPairFiles(certificate=tmp_path / "x.crt", key=tmp_path / "x.key")
    subject = ["-subj", "/CN=admin", "-days", "1", "-out", "x.crt", "-keyout", "x.key"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    subprocess.run(["openssl", "req", "-x509", *key, *subject], cwd=tmp_path, check=True, capture_output=True)
    async with people.session(pair) as session:
        with pytest.raises(aiohttp.ClientError):
            await told(session, "GET", "devices")


@pytest.mark.parametrize("how", ["revoked", "removed"])
async def test_who_was_let_in_is_refused_on_the_next_request_of_the_same_connection(
    people: People, how: str
) -> None:
    context, role = people.fleet.context, Role.OPERATOR
    async with people.session(people.files[role]) as session:
        before, who = await told(session, "GET", "whoami")
        if how == "removed":
            await remove_operator(context, str(who["operator"]), actor="operator:test")
        else:
            selection = BySerial(serial=people.serials[role])
            await revoke(context, selection, reason=RevocationReason.KEY_COMPROMISE, actor="operator:test")
        after, found = await told(session, "GET", "whoami")
    assert (before, after, found["code"]) == (HTTPStatus.OK, HTTPStatus.FORBIDDEN, "revoked")


async def test_a_resumed_session_does_not_outlive_the_certificate(people: People) -> None:
    tls, port = people.tls(people.files[Role.VIEWER]), people.fleet.context.endpoints.https_port
    tls.maximum_version = ssl.TLSVersion.TLSv1_2  # its session is there right after the handshake
    first, session = await asyncio.to_thread(_get, tls, port, None)
    selection = BySerial(serial=people.serials[Role.VIEWER])
    await revoke(people.fleet.context, selection, reason=RevocationReason.UNSPECIFIED, actor="operator:test")
    second, resumed = await asyncio.to_thread(_get, tls, port, session)
    assert (first, second) == (HTTPStatus.OK, HTTPStatus.FORBIDDEN)
    assert resumed is not None


def _get(tls: ssl.SSLContext, port: int, session: ssl.SSLSession | None) -> tuple[int, ssl.SSLSession | None]:
    with (
        socket.create_connection(("localhost", port), timeout=10) as plain,
        tls.wrap_socket(plain, server_hostname="localhost", session=session) as wrapped,
    ):
        wrapped.sendall(b"GET /api/v1/whoami HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        status = int(wrapped.makefile("rb").readline().split()[1])
        assert session is None or wrapped.session_reused
        return status, wrapped.session


async def test_acts_are_told_under_the_operator_s_name(people: People) -> None:
    device_id = f"d-{uuid4().hex[:8]}"
    async with people.session(people.files[Role.OPERATOR]) as session:
        _, who = await told(session, "GET", "whoami")
        await told(session, "POST", "devices", {"domain": "prod", "device_id": device_id})
        _, found = await told(session, "GET", f"audit?device_id={device_id}")
    (entry,) = found["items"]  # type: ignore[misc]  # JSON of the API
    assert entry["actor"] == f"operator:{who['operator']}"


async def test_a_code_that_replaces_needs_the_right_to_revoke(people: People) -> None:
    body = {"domain": "prod", "devices": ["d-replaced"], "replace": True}
    async with people.session(people.files[Role.OPERATOR]) as session:
        status, _ = await told(session, "POST", "claims/codes", body)
    assert status == HTTPStatus.FORBIDDEN


async def test_two_at_once_with_one_key_act_once(people: People) -> None:
    device_id = f"d-{uuid4().hex[:8]}"
    body = {"domain": "prod", "devices": [device_id]}
    headers = {"Idempotency-Key": str(uuid4())}
    async with people.session(people.files[Role.OPERATOR]) as session:
        answers = await asyncio.gather(
            *(told(session, "POST", "claims/codes", body, headers) for _ in range(4))
        )
        again = await told(session, "POST", "claims/codes", body, headers)
        other = await told(session, "POST", "claims/codes", body | {"days": 2}, headers)
        _, listed = await told(session, "GET", f"claims/codes?device_id={device_id}")
    codes = {str(found["items"]) for status, found in answers if status == HTTPStatus.OK}
    assert {status for status, _ in answers} <= {HTTPStatus.OK, HTTPStatus.CONFLICT}
    assert codes == {str(again[1]["items"])}
    assert other[0] == HTTPStatus.UNPROCESSABLE_ENTITY
    assert len(listed["items"]) == 1  # type: ignore[arg-type]  # JSON of the API


async def test_a_kept_answer_is_not_in_clear_in_the_store(people: People) -> None:
    headers = {"Idempotency-Key": "a-key"}
    body = {"domain": "prod", "devices": [f"d-{uuid4().hex[:8]}"]}
    async with people.session(people.files[Role.OPERATOR]) as session:
        _, found = await told(session, "POST", "claims/codes", body, headers)
    (new,) = found["items"]  # type: ignore[misc]  # JSON of the API
    home = people.fleet.home.home
    stored = b"".join(path.read_bytes() for path in home.root.glob("fleet.db*") if path.is_file())
    assert new["code"].encode() not in stored


async def test_a_refused_request_gives_its_key_back(people: People) -> None:
    device_id = f"d-{uuid4().hex[:8]}"
    headers = {"Idempotency-Key": str(uuid4())}
    async with people.session(people.files[Role.OPERATOR]) as session:
        first, _ = await told(session, "POST", f"devices/prod/{device_id}/suspend", {}, headers)
        body = {"domain": "prod", "device_id": device_id}
        second, _ = await told(session, "POST", "devices", body, headers)
    assert (first, second) == (HTTPStatus.NOT_FOUND, HTTPStatus.OK)
