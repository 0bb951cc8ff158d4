"""What is told of a CA's certificate."""

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fleet.ca.described import describe
from fleet.model import Purpose
from tests.homes import FleetHome
from tests.pki import utc_now


def a_certificate(*extensions: x509.ExtensionType) -> x509.Certificate:
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "company")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(10).not_valid_before(utc_now()).not_valid_after(utc_now())
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(key, hashes.SHA256())


def test_our_own_cas_say_key_bounds_and_where_their_status_is_told(fleet_home: FleetHome) -> None:
    issuer = fleet_home.authority.issuer(Purpose.DEVICE, "prod")
    found = describe(issuer.certificate)
    assert found.key.startswith("EC secp")
    assert found.signature.startswith("ecdsa-with-SHA")
    assert (found.path_length, int(found.serial, 16)) == (0, issuer.certificate.serial_number)
    assert [url.partition("://")[0] for url in found.lists_at] == ["http"]
    assert all(one.startswith(("OCSP http://", "issuer http://")) for one in found.status_at)


def test_a_certificate_that_says_little_is_described_all_the_same() -> None:
    found = describe(a_certificate())
    assert (found.key, found.serial, found.signature) == ("RSA 2048", f"{10:032x}", "sha256WithRSAEncryption")
    assert (found.path_length, found.uses, found.constraints, found.lists_at) == (None, (), (), ())


def test_constraints_and_usages_are_told_in_words() -> None:
    names = x509.NameConstraints([x509.DNSName("prod.example")], [x509.DNSName("lab.example")])
    uses = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, x509.ObjectIdentifier("1.2.3")])
    found = describe(a_certificate(names, uses))
    assert found.constraints == ("only prod.example", "not lab.example")
    assert found.uses == ("client auth", "1.2.3")
