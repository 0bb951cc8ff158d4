"""The HTTP listeners against bad clients, and status as relying parties read it."""

import asyncio
import base64
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.x509 import ocsp

from fleet.core.partition import PARTITIONS
from fleet.model import Purpose
from tests.homes import FleetHome
from tests.live import LiveFleet, live, make_live_home, post
from tests.status import ocsp_request


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    return make_live_home(tmp_path_factory.mktemp("web") / "home", driver="embedded")


@pytest.fixture
async def fleet(home: FleetHome, tmp_path: Path) -> AsyncIterator[LiveFleet]:
    async with live(home, tmp_path) as running:
        yield running


async def test_a_body_that_never_ends_is_cut_off_at_its_cap(fleet: LiveFleet) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(1000):
            yield b"x" * 1024

    async with fleet.https() as session:
        async with session.post("/api/v1/enroll", data=b"x" * 70_000) as announced:
            pass
        async with session.post("/api/v1/enroll", data=endless()) as chunked:
            pass

    assert announced.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    assert announced.content_type == "application/problem+json"
    assert chunked.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE


async def test_a_client_that_dawdles_is_cut_off(fleet: LiveFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleet.web.gate.BODY_SECONDS", 0.05)

    async def dawdling() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async with fleet.https() as session, session.post("/api/v1/enroll", data=dawdling()) as response:
        status = response.status

    assert status == HTTPStatus.REQUEST_TIMEOUT


async def test_nobody_is_told_what_answers(fleet: LiveFleet) -> None:
    async with fleet.https() as session, session.get("/healthz") as response:
        assert "Server" not in response.headers


@pytest.mark.parametrize("path", ["/", "/api/v1/nothing", "/%ff", "/api/v1/" + "a" * 4000])
async def test_what_is_not_there_is_a_problem_document(fleet: LiveFleet, path: str) -> None:
    async with fleet.https() as session, session.get(path) as response:
        assert response.status == HTTPStatus.NOT_FOUND
        assert response.content_type == "application/problem+json"


async def test_a_wrong_method_says_which_one_is_right(fleet: LiveFleet) -> None:
    async with fleet.https() as session, session.get("/api/v1/enroll") as response:
        assert response.status == HTTPStatus.METHOD_NOT_ALLOWED
        assert response.headers["Allow"] == "POST"


@pytest.mark.parametrize("query", ["?replaces=zz", "?replaces=" + "0" * 31])
async def test_a_serial_in_a_query_must_be_one(fleet: LiveFleet, query: str) -> None:
    async with fleet.admin() as session:
        status, found = await post(session, "/api/v1/enroll" + query, b"{}")

    assert status == HTTPStatus.BAD_REQUEST
    assert found["code"] == "malformed"


@pytest.mark.parametrize("body", [b"", b"\x30", b"junk" * 10, b"\x30\x00", b"x" * 5000])
async def test_every_malformed_ocsp_request_gets_a_proper_answer(fleet: LiveFleet, body: bytes) -> None:
    async with fleet.http() as session, session.post("/ocsp", data=body) as response:
        if response.status == HTTPStatus.OK:
            answer = ocsp.load_der_ocsp_response(await response.read())
            assert answer.response_status is ocsp.OCSPResponseStatus.MALFORMED_REQUEST
        else:
            assert response.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE


async def test_ocsp_by_get_of_junk_is_malformed_too(fleet: LiveFleet) -> None:
    async with fleet.http() as session, session.get("/ocsp/not%20base64") as response:
        answer = ocsp.load_der_ocsp_response(await response.read())

    assert answer.response_status is ocsp.OCSPResponseStatus.MALFORMED_REQUEST


async def test_an_ocsp_answer_says_how_long_it_may_be_kept_and_is_not_sent_twice(fleet: LiveFleet) -> None:
    issuer = fleet.context.authority.issuer(Purpose.SERVICE)
    serial = x509.load_pem_x509_certificate(fleet.home.home.service.certificate.read_bytes()).serial_number
    path = "/ocsp/" + base64.b64encode(ocsp_request(issuer, f"{serial:032x}")).decode().replace("+", "%2B")
    async with fleet.http() as session:
        async with session.get(path) as first:
            answer = ocsp.load_der_ocsp_response(await first.read())
        tag = first.headers["ETag"]
        async with session.get(path, headers={"If-None-Match": tag}) as second:
            again = second.status

    assert answer.certificate_status is ocsp.OCSPCertStatus.GOOD
    assert first.headers["Cache-Control"] == "max-age=60, public, no-transform, must-revalidate"
    assert parsedate_to_datetime(first.headers["Last-Modified"]) == answer.this_update_utc
    assert answer.next_update_utc is not None
    assert parsedate_to_datetime(first.headers["Expires"]) < answer.next_update_utc
    assert again == HTTPStatus.NOT_MODIFIED


async def test_under_too_much_load_ocsp_says_try_later(
    fleet: LiveFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleet.web.status.MOST_AT_ONCE", 0)
    async with fleet.http() as session, session.post("/ocsp", data=b"anything") as response:
        answer = ocsp.load_der_ocsp_response(await response.read())
    assert answer.response_status is ocsp.OCSPResponseStatus.TRY_LATER


@pytest.mark.parametrize("name", ["ab-0", "ab-127", "ab-delta-1", "zz", "ab" * 20, "ab" * 20 + "-130"])
async def test_a_list_that_nobody_has_is_not_found(fleet: LiveFleet, name: str) -> None:
    async with fleet.http() as session, session.get(f"/crl/{name}.crl") as response:
        assert response.status == HTTPStatus.NOT_FOUND


async def test_every_part_of_every_list_is_served_and_names_itself(fleet: LiveFleet) -> None:
    issuer, url = fleet.context.authority.issuers[0], fleet.context.endpoints.status_url
    async with fleet.http() as session:
        for number in (PARTITIONS, 2 * PARTITIONS - 1):
            path = f"/crl/{issuer.issuer_id}-{number}.crl"
            async with session.get(path) as response:
                crl = x509.load_der_x509_crl(await response.read())
            point = crl.extensions.get_extension_for_class(x509.IssuingDistributionPoint).value
            assert f"{url}{path}" in [name.value for name in point.full_name or ()]


async def test_every_authority_and_its_list_are_served(fleet: LiveFleet) -> None:
    authority = fleet.context.authority
    ids = [issuer.issuer_id for issuer in authority.issuers] + [root.issuer_id for root in authority.roots]

    async with fleet.http() as session:
        for issuer in ids:
            async with session.get(f"/ca/{issuer}.cer") as response:
                certificate = x509.load_der_x509_certificate(await response.read())
            async with session.get(f"/crl/{issuer}.crl") as response:
                crl = x509.load_der_x509_crl(await response.read())
            assert crl.issuer == certificate.subject


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_long_list_comes_in_pieces_and_whole(
    fleet: LiveFleet, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr("fleet.web.status.PIECE", 7)
    issuer = fleet.context.authority.issuers[0].issuer_id
    async with fleet.http() as session, session.request(method, f"/crl/{issuer}.crl") as response:
        body = await response.read()
    found = fleet.context.crls.find(issuer)
    assert found is not None
    assert body == (found.der if method == "GET" else b"")
    assert response.headers["Content-Length"] == str(len(found.der))


@pytest.mark.parametrize("kind", ["issuers", "roots"])
async def test_a_crl_that_did_not_change_is_not_sent_twice(fleet: LiveFleet, kind: str) -> None:
    authority = fleet.context.authority
    issuer = (authority.issuers if kind == "issuers" else authority.roots)[0].issuer_id
    async with fleet.http() as session:
        async with session.get(f"/crl/{issuer}.crl") as first:
            tag = first.headers["ETag"]
        async with session.get(f"/crl/{issuer}.crl", headers={"If-None-Match": tag}) as second:
            status = second.status

    assert status == HTTPStatus.NOT_MODIFIED


async def test_nonces_are_limited_by_address(fleet: LiveFleet) -> None:
    allowed = fleet.context.config.policy.recover_per_minute
    async with fleet.https() as session:
        found = [await _status_of(session, "/api/v1/nonce") for _ in range(allowed + 1)]

    assert found[-1] == HTTPStatus.TOO_MANY_REQUESTS


async def _status_of(session: aiohttp.ClientSession, path: str) -> int:
    async with session.get(path) as response:
        return response.status
