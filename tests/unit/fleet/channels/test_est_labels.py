"""EST labels: they name a domain, and a profile that may be chosen by them, and nothing that is not there."""

from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path

import pytest
from cryptography import x509

from device_agent.wire.identity import Identity
from device_agent.wire.secret import Secret
from fleet.channels.est import answerer
from fleet.exchange import HttpAnswer, HttpRequest
from fleet.store.devices import load_record
from tests.desk import Desk, at_desk
from tests.est import EstUnit, basic, leaf
from tests.homes import FleetHome

TOML = """
[fleet]
name = "acme"
[domains.prod]
[domains.prod.profiles.gateway]
usages = ["clientAuth", "serverAuth"]
by_label = true
[domains.prod.profiles.inside]
key_types = ["p384"]
"""
D1 = Identity(domain="prod", device_id="d1")


@pytest.fixture
async def desk(fleet_home: FleetHome, tmp_path: Path) -> AsyncIterator[Desk]:
    async with at_desk(fleet_home, tmp_path, toml=TOML) as opened:
        yield opened


async def enroll(desk: Desk, label: str) -> HttpAnswer:
    unit = EstUnit(device_id=D1.device_id)
    code = (await desk.code_for(await desk.register(D1.device_id))).code
    assert code is not None
    request = HttpRequest(
        method="POST",
        path=f"{label}/simpleenroll",
        content_type="application/pkcs10",
        authorization=Secret(basic(unit.device_id, code.reveal())),
        body=unit.csr,
        address="192.0.2.1",
    )
    return await answerer(desk.context)(request)


def usages(certificate: x509.Certificate) -> int:
    return len(list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value))


async def test_a_label_gets_the_profile_that_it_names_and_it_is_remembered(desk: Desk) -> None:
    assert usages(leaf((await enroll(desk, "prod.gateway")).body)) == 2

    record = await desk.context.store.read(load_record, D1)
    assert record is not None
    assert record.profile == "gateway"


@pytest.mark.parametrize("label", ["prod", "prod.device", ""])
async def test_without_one_the_domains_own_profile_is_meant(desk: Desk, label: str) -> None:
    assert usages(leaf((await enroll(desk, label)).body)) == 1


async def test_a_profile_that_labels_may_not_choose_is_forbidden(desk: Desk) -> None:
    answer = await enroll(desk, "prod.inside")

    assert answer.status is HTTPStatus.FORBIDDEN
    assert b"not for prod:d1 to choose" in answer.body


@pytest.mark.parametrize("label", ["prod.gone", "gone", "gone.device", "prod.", "prod.gateway.x"])
async def test_a_label_of_nothing_is_not_found(desk: Desk, label: str) -> None:
    assert (await enroll(desk, label)).status is HTTPStatus.NOT_FOUND


async def test_the_wish_is_that_of_the_profile_that_the_label_names(desk: Desk) -> None:
    ask = answerer(desk.context)
    own = await ask(HttpRequest(method="GET", path="prod/csrattrs"))
    inside = await ask(HttpRequest(method="GET", path="prod.inside/csrattrs"))

    assert own.status == inside.status == HTTPStatus.OK
    assert own.body != inside.body
