"""The lint: what we make passes, and each rule catches a certificate that breaks it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import cryptography_vectors
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from device_agent.wire.identity import Identity
from fleet.ca import lint
from fleet.ca.building import builder_of
from fleet.ca.hierarchy import Authority
from fleet.ca.lint import Case, faults_of, require_clean
from fleet.core.profile import (
    DEFAULT_PROFILES,
    ISSUING_PROFILE,
    ROOT_PROFILE,
    Applicant,
    Template,
    authority_applicant,
    device_applicant,
)
from fleet.errors import FleetError
from fleet.model import Purpose
from tests.homes import STATUS_URL, FleetHome, utc_now

SERIAL = "41" + "00" * 14 + "07"
KEY = ec.generate_private_key(ec.SECP256R1()).public_key()
SIGNING_KEY = ec.generate_private_key(ec.SECP256R1())
V1 = Path(cryptography_vectors.__file__).parent / "x509" / "v1_cert.pem"
NO_CA: dict[x509.ExtensionType, bool] = {x509.BasicConstraints(ca=False, path_length=None): True}
IDENTITY = Identity(domain="prod", device_id="d1")


def device_template(authority: Authority) -> Template:
    issuer = authority.issuer(Purpose.DEVICE, "prod")
    return DEFAULT_PROFILES[Purpose.DEVICE].template(
        device_applicant(IDENTITY, fleet="acme"), KEY, now=utc_now(), issuer=issuer.facts(STATUS_URL)
    )


def case_of(authority: Authority, template: Template, **changes: object) -> Case:
    issuer = authority.issuer(Purpose.DEVICE, "prod")
    certificate = builder_of(template, serial=SERIAL, issuer=issuer.certificate)
    case = Case(
        certificate=certificate.sign(SIGNING_KEY, hashes.SHA256()),
        template=template,
        serial=SERIAL,
        issuer=issuer.certificate,
        fleet="acme",
        domain="prod",
    )
    return replace(case, **changes)


@pytest.fixture
def good(fleet_home: FleetHome) -> Case:
    return case_of(fleet_home.authority, device_template(fleet_home.authority))


def remade(
    case: Case,
    *,
    subject: x509.Name | None = None,
    issuer: x509.Name | None = None,
    serial: int | None = None,
    starts: timedelta = timedelta(),
    ends: timedelta = timedelta(),
    key: object = None,
    without: tuple[type[x509.ExtensionType], ...] = (),
    extensions: Mapping[x509.ExtensionType, bool] | None = None,
    algorithm: hashes.HashAlgorithm | None = None,
) -> Case:
    """Return the case with a certificate that differs in what is named."""
    old = case.certificate
    builder = (
        x509.CertificateBuilder()
        .subject_name(old.subject if subject is None else subject)
        .issuer_name(issuer or old.issuer)
        .serial_number(serial or old.serial_number)
        .not_valid_before(old.not_valid_before_utc + starts)
        .not_valid_after(old.not_valid_after_utc + ends)
        .public_key(key or old.public_key())
    )
    added = extensions or {}
    replaced = (*without, *(type(extension) for extension in added))
    for extension in old.extensions:
        if not isinstance(extension.value, replaced):
            builder = builder.add_extension(extension.value, critical=extension.critical)
    for value, critical in added.items():
        builder = builder.add_extension(value, critical=critical)
    return replace(case, certificate=builder.sign(SIGNING_KEY, algorithm or hashes.SHA256()))


def name(*common_names: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, one) for one in common_names])


def key_usage(**granted: bool) -> x509.KeyUsage:
    usages = dict.fromkeys(
        (
            "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
            "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
        ),
        False,
    )  # fmt: skip
    return x509.KeyUsage(**(usages | granted))


def alternative(*names: str, **others: list[x509.GeneralName]) -> dict[x509.ExtensionType, bool]:
    found: list[x509.GeneralName] = [x509.DNSName(one) for one in names]
    return {x509.SubjectAlternativeName(found + others.get("others", [])): False}


def points(url: str) -> dict[x509.ExtensionType, bool]:
    point = x509.DistributionPoint([x509.UniformResourceIdentifier(url)], None, None, None)
    return {x509.CRLDistributionPoints([point]): False}


def access(*urls: str) -> dict[x509.ExtensionType, bool]:
    methods = (AuthorityInformationAccessOID.CA_ISSUERS, AuthorityInformationAccessOID.OCSP)
    return {
        x509.AuthorityInformationAccess(
            [
                x509.AccessDescription(method, x509.UniformResourceIdentifier(url))
                for method, url in zip(methods, urls, strict=False)
            ]
        ): False
    }


DEFECTS: dict[str, tuple[str, Callable[[Case], Case]]] = {
    "serial of another": ("4.1.2.2", lambda case: remade(case, serial=(0x41 << 120) + 8)),
    "serial of 15 octets": ("4.1.2.2", lambda case: replace(remade(case, serial=7), serial="0" * 31 + "7")),
    "serial with the top bit": ("4.1.2.2", lambda case: remade(case, serial=0x91 << 120)),
    "issuer by another name": ("4.1.2.4", lambda case: remade(case, issuer=name("somebody"))),
    "starts later": ("4.1.2.5", lambda case: remade(case, starts=timedelta(seconds=1))),
    "ends later": ("4.1.2.5", lambda case: remade(case, ends=timedelta(seconds=1))),
    "subject of another": ("4.1.2.6", lambda case: remade(case, subject=name("d2"))),
    "subject empty": ("4.1.2.6", lambda case: remade(case, subject=x509.Name([]))),
    "two common names": ("4.1.2.6", lambda case: remade(case, subject=name("d1", "d1"))),
    "key of another": ("4.1.2.7", lambda case: remade(case, key=SIGNING_KEY.public_key())),
    "weak key": (
        "4.1.2.7",
        lambda case: remade(
            case, key=rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key()
        ),
    ),
    "unknown extension": (
        "RFC 5280 4.2:",
        lambda case: remade(
            case,
            extensions={x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"): False},
        ),
    ),
    "key usage not critical": (
        "RFC 5280 4.2:",
        lambda case: remade(case, extensions={key_usage(digital_signature=True): False}),
    ),
    "critical alternative name": (
        "RFC 5280 4.2:",
        lambda case: remade(
            case, extensions={x509.SubjectAlternativeName([x509.DNSName("d1.prod.acme")]): True}
        ),
    ),
    "no authority key": ("4.2.1.1", lambda case: remade(case, without=(x509.AuthorityKeyIdentifier,))),
    "another authority key": (
        "4.2.1.1",
        lambda case: remade(case, extensions={x509.AuthorityKeyIdentifier(b"x" * 20, None, None): False}),
    ),
    "no subject key": ("4.2.1.2", lambda case: remade(case, without=(x509.SubjectKeyIdentifier,))),
    "another subject key": (
        "4.2.1.2",
        lambda case: remade(case, extensions={x509.SubjectKeyIdentifier(b"x" * 20): False}),
    ),
    "no key usage": ("4.2.1.3", lambda case: remade(case, without=(x509.KeyUsage,))),
    "leaf that signs certificates": (
        "4.2.1.3",
        lambda case: remade(case, extensions={key_usage(digital_signature=True, key_cert_sign=True): True}),
    ),
    "leaf that agrees keys": (
        "4.2.1.3",
        lambda case: remade(case, extensions={key_usage(digital_signature=True, key_agreement=True): True}),
    ),
    "no alternative name": ("4.2.1.6", lambda case: remade(case, without=(x509.SubjectAlternativeName,))),
    "alternative name of another": (
        "4.2.1.6",
        lambda case: remade(case, extensions=alternative("d2.prod.acme")),
    ),
    "a second alternative name": (
        "4.2.1.6",
        lambda case: remade(case, extensions=alternative("d1.prod.acme", "d2.prod.acme")),
    ),
    "a mail address": (
        "4.2.1.6",
        lambda case: remade(case, extensions=alternative("d1.prod.acme", others=[x509.RFC822Name("a@b")])),
    ),
    "leaf with basic constraints": (
        "4.2.1.9",
        lambda case: remade(case, extensions={x509.BasicConstraints(ca=True, path_length=None): True}),
    ),
    "name constraints in a leaf": (
        "4.2.1.10",
        lambda case: remade(
            case, extensions={x509.NameConstraints([x509.DNSName("d1.prod.acme")], None): True}
        ),
    ),
    "a limited CA that does not say so": (
        "4.2.1.10",
        lambda case: replace(case, template=replace(case.template, permitted_names=("line3.prod.acme",))),
    ),
    "no extended key usage": ("4.2.1.12", lambda case: remade(case, without=(x509.ExtendedKeyUsage,))),
    "device that is a server": (
        "4.2.1.12",
        lambda case: remade(
            case,
            extensions={
                x509.ExtendedKeyUsage(
                    [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
                ): False
            },
        ),
    ),
    "device that is anything": (
        "4.2.1.12",
        lambda case: remade(
            case, extensions={x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]): False}
        ),
    ),
    "nocheck in a leaf": ("4.2.2.2.1", lambda case: remade(case, extensions={x509.OCSPNoCheck(): False})),
    "no crl point": ("4.2.1.13", lambda case: remade(case, without=(x509.CRLDistributionPoints,))),
    "crl of another": ("4.2.1.13", lambda case: remade(case, extensions=points("http://localhost/x.crl"))),
    "no access": ("4.2.2.1", lambda case: remade(case, without=(x509.AuthorityInformationAccess,))),
    "access of another": (
        "4.2.2.1",
        lambda case: remade(case, extensions=access("http://localhost/a", "http://localhost/b")),
    ),
    "signed with SHA-224": ("9155", lambda case: remade(case, algorithm=hashes.SHA224())),
    "version 1": (
        "4.1.2.1",
        lambda case: replace(case, certificate=x509.load_pem_x509_certificate(V1.read_bytes())),
    ),
    "issued by a leaf": (
        "the issuer is no CA",
        lambda case: replace(case, issuer=remade(case, extensions=NO_CA).certificate),
    ),
    "operator under a device's name": (
        "identity: dNSName",
        lambda case: replace(case, template=replace(case.template, purpose=Purpose.OPERATOR)),
    ),
    "of another domain": ("identity", lambda case: replace(case, domain="lab")),
    "of another fleet": ("identity", lambda case: replace(case, fleet="other")),
}


def test_a_device_certificate_of_ours_passes(good: Case) -> None:
    assert faults_of(good) == ()
    require_clean(good)


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_is_told_with_its_clause(defect: str, good: Case) -> None:
    clause, spoil = DEFECTS[defect]
    faults = faults_of(spoil(good))
    assert any(clause in fault for fault in faults), faults


def spoiled_template(case: Case, authority: Authority, **changes: object) -> Case:
    return case_of(authority, replace(case.template, **changes))


def test_a_leaf_that_outlives_its_ca_is_caught(good: Case, fleet_home: FleetHome) -> None:
    end = fleet_home.authority.issuer(Purpose.DEVICE, "prod").not_after + timedelta(seconds=1)
    faults = faults_of(spoiled_template(good, fleet_home.authority, not_after=end))
    assert "RFC 5280 4.1.2.5: validity ends after the issuing CA's" in faults


def test_a_lifetime_beyond_all_bounds_is_caught(good: Case, fleet_home: FleetHome) -> None:
    early = good.template.not_before - timedelta(days=3652)
    faults = faults_of(spoiled_template(good, fleet_home.authority, not_before=early))
    assert any("longer than" in fault for fault in faults)


def test_a_ca_below_an_issuing_ca_is_caught(fleet_home: FleetHome) -> None:
    issuer = fleet_home.authority.issuer(Purpose.DEVICE, "prod")
    template = ISSUING_PROFILE.template(
        authority_applicant("acme rogue CA", fleet="acme"),
        KEY,
        now=utc_now(),
        issuer=issuer.facts(STATUS_URL),
    )
    faults = faults_of(case_of(fleet_home.authority, template))
    assert any("leaves no room" in fault for fault in faults)


@pytest.mark.parametrize("device_id", ["a/b", "", "d1\n"])
def test_a_common_name_that_is_no_device_id_is_caught(device_id: str, good: Case) -> None:
    case = remade(good, subject=x509.Name([]) if not device_id else name(device_id))
    assert any(fault.startswith("identity: device id") for fault in faults_of(case))


def test_a_dns_name_in_another_syntax_is_caught(fleet_home: FleetHome) -> None:
    issuer = fleet_home.authority.issuer(Purpose.SERVER)
    template = DEFAULT_PROFILES[Purpose.SERVER].template(
        Applicant(common_name="x", dns_names=("*.example.org", "under_score")),
        KEY,
        now=utc_now(),
        issuer=issuer.facts(STATUS_URL),
    )
    assert any(
        "preferred name syntax" in fault for fault in faults_of(case_of(fleet_home.authority, template))
    )


def test_status_over_anything_but_plain_http_is_caught(fleet_home: FleetHome) -> None:
    issuer = fleet_home.authority.issuer(Purpose.DEVICE, "prod")
    template = DEFAULT_PROFILES[Purpose.DEVICE].template(
        device_applicant(IDENTITY, fleet="acme"), KEY, now=utc_now(), issuer=issuer.facts("https://localhost")
    )
    faults = faults_of(case_of(fleet_home.authority, template))
    assert sum("plain http" in fault for fault in faults) == 2


@pytest.mark.parametrize(
    ("further", "is_fine"),
    [
        ("d1.gateways.example.org", True),
        ("broker.d1.prod.acme", True),
        ("d2.prod.acme", False),
        ("d1.lab.acme", False),
        ("broker.d2.prod.acme", False),
    ],
)
def test_a_further_name_that_could_be_anothers_is_caught(
    fleet_home: FleetHome, further: str, *, is_fine: bool
) -> None:
    template = device_template(fleet_home.authority)
    names = (*template.applicant.dns_names, further)
    template = replace(template, applicant=replace(template.applicant, dns_names=names))

    faults = faults_of(case_of(fleet_home.authority, template))
    assert any(fault.startswith("identity: a further dNSName") for fault in faults) != is_fine
    assert not faults or not is_fine


def test_an_operator_named_by_another_label_is_caught(fleet_home: FleetHome) -> None:
    issuer = fleet_home.authority.issuer(Purpose.OPERATOR)
    template = DEFAULT_PROFILES[Purpose.OPERATOR].template(
        Applicant(common_name="alice", dns_names=("bob.operator.acme",)),
        KEY,
        now=utc_now(),
        issuer=issuer.facts(STATUS_URL),
    )
    assert any(
        fault.startswith("identity: dNSName") for fault in faults_of(case_of(fleet_home.authority, template))
    )


def test_an_extension_that_stands_twice_is_caught(good: Case) -> None:
    usage = key_usage(digital_signature=True).public_bytes()
    case = remade(
        good, extensions={x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.99"), usage): True}
    )
    # The same encoding as the key usage extension's identifier, put in by hand: no builder would.
    der = case.certificate.public_bytes(Encoding.DER).replace(
        bytes.fromhex("0603551d63"), bytes.fromhex("0603551d0f")
    )
    faults = faults_of(replace(case, certificate=x509.load_der_x509_certificate(der)))
    assert faults == ("RFC 5280 4.2: extensions cannot be read: Duplicate 2.5.29.15 extension found",)


def test_a_root_that_names_another_key_or_status_is_caught(fleet_home: FleetHome) -> None:
    key = SIGNING_KEY.public_key()
    template = ROOT_PROFILE.template(authority_applicant("r", fleet="acme"), key, now=utc_now(), issuer=None)
    certificate = builder_of(template, serial=SERIAL, issuer=None).sign(SIGNING_KEY, hashes.SHA256())
    root = Case(
        certificate=certificate, template=template, serial=SERIAL, issuer=None, fleet="acme", domain="prod"
    )
    spoiled = remade(
        root,
        extensions={
            x509.AuthorityKeyIdentifier(b"x" * 20, None, None): False,
            **points("http://localhost/x"),
            **access("http://localhost/x"),
        },
    )
    assert faults_of(root) == ()
    assert [fault.split(":")[0] for fault in faults_of(spoiled)] == [
        "RFC 5280 4.2.1.1", "RFC 5280 4.2.1.13", "RFC 5280 4.2.2.1",
    ]  # fmt: skip


def test_a_ca_without_its_path_length_is_caught(fleet_home: FleetHome) -> None:
    root = fleet_home.authority.root("prod").certificate
    key = SIGNING_KEY.public_key()
    template = ISSUING_PROFILE.template(
        authority_applicant("acme CA", fleet="acme"),
        key,
        now=utc_now(),
        issuer=replace(fleet_home.authority.issuer(Purpose.DEVICE, "prod").facts(STATUS_URL), has_ocsp=False),
    )
    certificate = builder_of(template, serial=SERIAL, issuer=root).sign(SIGNING_KEY, hashes.SHA256())
    case = Case(
        certificate=certificate, template=template, serial=SERIAL, issuer=root, fleet="acme", domain="prod"
    )
    spoiled = remade(case, extensions={x509.BasicConstraints(ca=True, path_length=None): True})
    assert faults_of(case) == ()
    assert faults_of(spoiled) == ("RFC 5280 4.2.1.9: basic constraints are not those of this CA",)


def test_each_rule_has_a_failing_example(good: Case) -> None:
    spoiled = [spoil(good) for _, spoil in DEFECTS.values()]
    broken = {rule for case in spoiled for rule in lint.RULES if rule(case) is not None}
    assert broken == set(lint.RULES)


def test_what_is_not_clean_is_not_let_through(good: Case) -> None:
    with pytest.raises(FleetError, match=r"4\.1\.2\.2") as caught:
        require_clean(remade(good, serial=5))
    assert caught.value.hint
