"""Makers' certificates: whose they are, which device they name, and that their key is here, now."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from device_agent.wire.evidence import IdevidEvidence
from device_agent.wire.proofs import idevid_text
from fleet.attest.chains import Anchors
from fleet.attest.idevid import IdevidVerifier, Maker, TlsIdevidVerifier
from fleet.attest.proof import Proven, Statement
from fleet.core.things import NameRule, ThingKind
from fleet.errors import RefusedError
from fleet.model import Assurance
from tests.makers import TestMaker, pem_text
from tests.pki import Pair, pem_of

NOW = datetime.now(UTC)
NONCE = "5a" * 32
MAKER = TestMaker()
STATEMENT = Statement(
    fleet="acme", domain="prod", device_id="0042", key_hash=hashlib.sha256(b"key").hexdigest(), at=NOW
)


def known(rule: NameRule = NameRule.SERIAL_NUMBER, *, maker: TestMaker = MAKER, prefix: str = "") -> Maker:
    anchors = Anchors(name="acme", certificates=(maker.root.certificate,))
    return Maker(anchors=anchors, rule=rule, prefix=prefix)


def shown(pair: Pair, statement: Statement = STATEMENT, *, nonce: str = NONCE) -> IdevidEvidence:
    text = idevid_text(
        fleet=statement.fleet,
        domain=statement.domain,
        device_id=statement.device_id,
        nonce=nonce,
        key_hash=statement.key_hash,
    )
    return IdevidEvidence(
        certificate=pem_text(pair),
        chain=b"".join(pem_of(each) for each in pair.chain).decode() or None,
        nonce=NONCE,
        signature=pair.key.sign(text, ec.ECDSA(hashes.SHA256())),
    )


def verify(evidence: IdevidEvidence, maker: Maker | None = None, *, listed: bool = False) -> Proven:
    makers = (known(),) if maker is None else (maker,)
    return IdevidVerifier(evidence=evidence, makers=makers, is_listed=listed).verify(STATEMENT)


def test_a_certificate_below_the_makers_root_proves_the_device_that_it_names() -> None:
    proven = verify(shown(MAKER.idevid("0042")))
    assert (proven.assurance, proven.names) == (Assurance.MANUFACTURER, "0042")
    assert {thing.kind for thing in proven.things} == {ThingKind.CERTIFICATE, ThingKind.SERIAL}


@pytest.mark.parametrize(
    ("rule", "names"),
    [
        (NameRule.SERIAL_NUMBER, "x-0042"),
        (NameRule.COMMON_NAME, "x-device"),
        (NameRule.HARDWARE_MODULE, "x-0a1b2c"),
        (NameRule.LIST, ""),
    ],
)
def test_the_rule_of_the_domain_says_where_the_name_stands(rule: NameRule, names: str) -> None:
    pair = MAKER.idevid("0042", module=bytes.fromhex("0a1b2c"))
    assert verify(shown(pair), known(rule, prefix="x-")).names == names


@pytest.mark.parametrize(
    "other",
    [
        replace(STATEMENT, fleet="other"),
        replace(STATEMENT, domain="lab"),
        replace(STATEMENT, device_id="0043"),
        replace(STATEMENT, key_hash=hashlib.sha256(b"thief").hexdigest()),
    ],
)
def test_a_signature_for_anything_else_proves_nothing(other: Statement) -> None:
    with pytest.raises(RefusedError, match="not by the manufacturer's certificate's key"):
        verify(shown(MAKER.idevid("0042"), other))


def test_a_signature_for_another_challenge_proves_nothing() -> None:
    with pytest.raises(RefusedError, match="not by the manufacturer's"):
        verify(shown(MAKER.idevid("0042"), nonce="77" * 32))


def test_a_certificate_that_somebody_else_shows_proves_nothing() -> None:
    stolen = replace(shown(TestMaker().idevid("0042")), certificate=pem_text(MAKER.idevid("0042")))
    with pytest.raises(RefusedError):
        verify(stolen)


def ca(builder: x509.CertificateBuilder) -> x509.CertificateBuilder:
    return builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)


def server(builder: x509.CertificateBuilder) -> x509.CertificateBuilder:
    return builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)


def strange(builder: x509.CertificateBuilder) -> x509.CertificateBuilder:
    oid = x509.ObjectIdentifier("1.3.6.1.4.1.99999.1")
    return builder.add_extension(x509.UnrecognizedExtension(oid, b"\x05\x00"), critical=True)


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        (TestMaker().idevid("0042"), "no manufacturer of this domain"),
        (MAKER.idevid("0042", ends=NOW - timedelta(days=1)), "no manufacturer of this domain"),
        (MAKER.idevid("0042", begins=NOW + timedelta(days=1)), "no manufacturer of this domain"),
        (MAKER.idevid("0042", change=strange), "no manufacturer of this domain"),
        (MAKER.idevid("0042", change=ca), "no manufacturer|is a CA's"),
        (MAKER.idevid("0042", change=server), "not for client authentication"),
        (MAKER.idevid("00 42"), "is no device id"),
        (Pair(key=MAKER.issuing.key, certificate=MAKER.issuing.certificate), "is a CA's|no manufacturer"),
        (Pair(key=MAKER.root.key, certificate=MAKER.root.certificate), "no manufacturer"),
    ],
)  # fmt: skip
def test_a_certificate_that_is_no_devices_of_this_maker_proves_nothing(pair: Pair, said: str) -> None:
    with pytest.raises(RefusedError, match=said):
        verify(shown(pair))


def test_a_certificate_that_a_list_has_needs_no_anchor_but_still_its_key() -> None:
    unknown = TestMaker().idevid("0042")
    assert verify(shown(unknown), listed=True).names == ""
    with pytest.raises(RefusedError, match="not by the manufacturer's"):
        verify(shown(unknown, nonce="77" * 32), listed=True)


def test_over_tls_the_path_needs_what_stands_between_in_the_anchors_file() -> None:
    pair = MAKER.idevid("0042")
    der = pair.certificate.public_bytes(Encoding.DER)
    both = replace(
        known(),
        anchors=Anchors(name="acme", certificates=(MAKER.root.certificate, MAKER.issuing.certificate)),
    )
    assert TlsIdevidVerifier(certificate=der, makers=(both,)).verify(STATEMENT).names == "0042"
    with pytest.raises(RefusedError, match="no manufacturer"):
        TlsIdevidVerifier(certificate=der, makers=(known(),)).verify(STATEMENT)


@given(st.binary(max_size=60))
def test_no_bytes_in_place_of_a_hardware_module_name_name_a_device(content: bytes) -> None:
    body = b"\x0c" + bytes([len(content)]) + content

    def with_name(builder: x509.CertificateBuilder) -> x509.CertificateBuilder:
        name = x509.OtherName(x509.ObjectIdentifier("1.3.6.1.5.5.7.8.4"), body)
        return builder.add_extension(x509.SubjectAlternativeName([name]), critical=False)

    with pytest.raises(RefusedError, match="cannot be read"):
        verify(shown(MAKER.idevid("0042", change=with_name)), known(NameRule.HARDWARE_MODULE))


@given(st.text(max_size=400))
def test_no_text_in_place_of_a_certificate_breaks_the_verifier(text: str) -> None:
    evidence = replace(shown(PAIR), certificate=text, chain=text)
    with pytest.raises(RefusedError):
        verify(evidence)


PAIR = MAKER.idevid("0042")
