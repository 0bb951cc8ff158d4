"""EST's serverkeygen over the real use cases: who is sent a key, who is not, and that nobody else has it."""

import base64
import email
import email.policy
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_der_private_key
from cryptography.hazmat.primitives.serialization.pkcs7 import load_der_pkcs7_certificates
from cryptography.x509.name import _ASN1Type

from device_agent.wire.secret import Secret
from fleet.ca import der
from fleet.ca.cms import key_identifier
from fleet.exchange import HttpAnswer, HttpRequest
from fleet.ra.people.batches import BatchOrder, create_batch
from tests.desk import Desk, at_desk
from tests.est import EstUnit, basic, leaf
from tests.homes import FleetHome
from tests.unit.fleet.channels.test_est import ask, code_for, enrollment

SERVER_KEYS = """
[fleet]
name = "acme"
[domains.prod]
[domains.prod.profiles.weak]
server_key = true
by_label = true
[domains.prod.profiles.weak-approved]
server_key = true
by_label = true
approval = true
"""
DECRYPT_WITH = x509.ObjectIdentifier("1.2.840.113549.1.9.16.2.54")


@pytest.fixture
async def makes_keys(fleet_home: FleetHome, tmp_path: Path) -> AsyncIterator[Desk]:
    """A domain with a profile for devices that cannot make keys."""
    async with at_desk(fleet_home, tmp_path, toml=SERVER_KEYS) as opened:
        yield opened


def wanting_key(unit: EstUnit, shown: x509.Certificate, *, label: str = "prod.weak") -> HttpRequest:
    """A request for a key, encrypted to the certificate's."""
    try:
        names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = None
    builder = x509.CertificateSigningRequestBuilder().subject_name(shown.subject)
    if names is not None:
        builder = builder.add_extension(names, critical=False)
    builder = builder.add_attribute(DECRYPT_WITH, key_identifier(shown), _tag=_ASN1Type.OctetString)
    csr = builder.sign(unit.key, hashes.SHA256()).public_bytes(Encoding.DER)
    return HttpRequest(
        method="POST",
        path=f"{label}/serverkeygen",
        content_type="application/pkcs10",
        body=base64.encodebytes(csr),
        certificate=shown.public_bytes(Encoding.DER),
        address="192.0.2.1",
    )


def parts_of(answer: HttpAnswer) -> tuple[bytes, x509.Certificate]:
    """Return the sealed key and the certificate of an answer."""
    whole = f"Content-Type: {answer.content_type}\r\n\r\n".encode() + answer.body
    key, certificate = email.message_from_bytes(whole, policy=email.policy.HTTP).iter_parts()
    (found,) = load_der_pkcs7_certificates(base64.b64decode(certificate.get_payload()))
    return base64.b64decode(key.get_payload()), found


def opened_key(folder: Path, sealed: bytes, unit: EstUnit) -> ec.EllipticCurvePrivateKey:
    """Open a sealed key with the unit's own, as OpenSSL does."""
    (folder / "sealed").write_bytes(sealed)
    (folder / "own.key").write_bytes(unit.key_pem)
    command = ["openssl", "cms", "-decrypt", "-inform", "DER", "-in", folder / "sealed", "-binary"]
    opened = subprocess.run([*command, "-inkey", folder / "own.key"], check=True, capture_output=True).stdout
    _, _, encapsulated, *_ = der.elements(opened)
    package = der.content(der.content(der.elements(encapsulated)[1]))
    (key_info,) = der.elements(package)
    key = load_der_private_key(key_info, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


async def enrolled(desk: Desk, unit: EstUnit) -> x509.Certificate:
    code = await code_for(desk, unit.device_id)
    return leaf((await ask(desk, enrollment(unit, code, label="prod.weak"))).body)


@pytest.mark.needs("openssl")
async def test_a_device_is_sent_its_next_key_and_certificate(makes_keys: Desk, tmp_path: Path) -> None:
    unit = EstUnit(device_id="d1")
    held = await enrolled(makes_keys, unit)
    answer = await ask(makes_keys, wanting_key(unit, held))
    assert answer.status is HTTPStatus.OK, answer.body
    sealed, certificate = parts_of(answer)
    key = opened_key(tmp_path, sealed, unit)
    assert certificate.public_key() == key.public_key()
    assert certificate.subject == held.subject
    secret = key.private_numbers().private_value.to_bytes(32, "big")
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("fleet.db*"))
    assert stored
    assert secret not in stored


async def test_keys_are_made_only_where_a_profile_says_so(desk: Desk) -> None:
    unit = EstUnit(device_id="d1")
    held = leaf((await ask(desk, enrollment(unit, await code_for(desk, "d1")))).body)
    answer = await ask(desk, wanting_key(unit, held, label="prod"))
    assert answer.status is HTTPStatus.NOT_IMPLEMENTED


async def test_a_claim_certificate_s_key_opens_no_device_s_key(makes_keys: Desk) -> None:
    order = BatchOrder(
        domain="prod", name="b1", uses=2, lifetime=makes_keys.context.config.policy.code_lifetime, actor="x"
    )
    new = await create_batch(makes_keys.context, order)
    shown = x509.load_pem_x509_certificate(new.own.certificate_pem.encode())
    unit = EstUnit(device_id="d1")
    code = Secret(basic("d1", await code_for(makes_keys, "d1")))
    answer = await ask(makes_keys, replace(wanting_key(unit, shown), authorization=code))
    assert answer.status is HTTPStatus.FORBIDDEN
    assert b"many share" in answer.body


async def test_a_key_that_would_wait_for_approval_is_not_made(makes_keys: Desk) -> None:
    unit = EstUnit(device_id="d1")
    held = await enrolled(makes_keys, unit)
    code = Secret(basic("d2", await code_for(makes_keys, "d2")))
    request = replace(wanting_key(unit, held, label="prod.weak-approved"), authorization=code)
    answer = await ask(makes_keys, request)
    assert answer.status is HTTPStatus.FORBIDDEN
    assert b"approves" in answer.body
