"""A manufacturer's certificate in the device (IDevID, IEEE 802.1AR): whose it is, and that its key is here.

Which device it names is read by a rule of the domain, from the subject's serialNumber attribute (802.1AR 8.6)
or from hardwareModuleName (RFC 4108 5) in the subjectAltName; what it does not name, a list may.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from device_agent.wire.evidence import IdevidEvidence
from device_agent.wire.identity import parse_device_id
from device_agent.wire.problems import MalformedMessageError, ProblemCode
from device_agent.wire.proofs import idevid_text
from fleet.attest.chains import Anchors, reaches, read_chain, read_one
from fleet.attest.proof import Proven, Statement, refusal
from fleet.core.things import NameRule, certificate_thing, serial_thing
from fleet.core.unreadable import UNREADABLE
from fleet.errors import RefusedError
from fleet.model import Assurance

_HARDWARE_MODULE_NAME = ObjectIdentifier("1.3.6.1.5.5.7.8.4")
_LONGEST_SERIAL = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Maker:
    """A manufacturer as a domain knows it; `prefix` goes before what its certificates say."""

    anchors: Anchors
    rule: NameRule
    prefix: str = ""
    may_register: bool = False
    """Devices that nobody has registered come in by its certificates alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdevidVerifier:
    """A certificate with a fresh signature by its key."""

    evidence: IdevidEvidence
    makers: Sequence[Maker]
    is_listed: bool = False
    """A list has this very certificate, whoever issued it."""

    def verify(self, statement: Statement) -> Proven:
        """Return what the certificate proves; raises `RefusedError`."""
        certificate = read_one(self.evidence.certificate)
        chain = read_chain(self.evidence.chain)
        maker = maker_of(certificate, chain, self.makers, at=statement.at)
        if maker is None and not self.is_listed:
            raise _unknown()
        text = idevid_text(
            fleet=statement.fleet,
            domain=statement.domain,
            device_id=statement.device_id,
            nonce=self.evidence.nonce,
            key_hash=statement.key_hash,
        )
        if not _has_signed(certificate, self.evidence.signature, text):
            raise refusal("the signature is not by the manufacturer's certificate's key, for this request")
        return _proven(certificate, maker)


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsIdevidVerifier:
    """A certificate whose key TLS has proved to be at the other end."""

    certificate: bytes
    """DER."""
    makers: Sequence[Maker]

    def verify(self, statement: Statement) -> Proven:
        """Return what the certificate proves; raises `RefusedError`."""
        try:
            certificate = x509.load_der_x509_certificate(self.certificate)
        except UNREADABLE as error:
            raise refusal("the client certificate cannot be read") from error
        maker = maker_of(certificate, (), self.makers, at=statement.at)
        if maker is None:
            raise _unknown()
        return _proven(certificate, maker)


def maker_of(
    certificate: x509.Certificate, chain: Sequence[x509.Certificate], makers: Sequence[Maker], *, at: datetime
) -> Maker | None:
    """Return the manufacturer who vouches for a certificate."""
    return next((each for each in makers if reaches(certificate, chain, each.anchors, at=at)), None)


def _proven(certificate: x509.Certificate, maker: Maker | None) -> Proven:
    try:
        _require_leaf(certificate)
        names = "" if maker is None else _named(certificate, maker)
    except UNREADABLE as error:
        raise refusal("the manufacturer's certificate cannot be read") from error
    things = [certificate_thing(certificate)]
    if maker is not None:
        things.append(serial_thing(maker.anchors.name, certificate))
    whose = "on a list" if maker is None else f"of manufacturer {maker.anchors.name}"
    return Proven(
        assurance=Assurance.MANUFACTURER,
        evidence=f"certificate {certificate.serial_number:x} {whose}",
        names=names,
        things=tuple(things),
        may_register=maker is not None and maker.may_register,
    )


def _unknown() -> RefusedError:
    return refusal("no manufacturer of this domain vouches for the certificate")


def _require_leaf(certificate: x509.Certificate) -> None:
    """Refuse a CA's certificate, and one that is for other purposes than to show who somebody is."""
    found = {type(each.value): each.value for each in certificate.extensions}
    basic, usage = found.get(x509.BasicConstraints), found.get(x509.ExtendedKeyUsage)
    if isinstance(basic, x509.BasicConstraints) and basic.ca:
        raise refusal("the manufacturer's certificate is a CA's, not a device's")
    wanted = {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
    if isinstance(usage, x509.ExtendedKeyUsage) and not wanted & set(usage):
        raise refusal("the manufacturer's certificate is not for client authentication")


def _named(certificate: x509.Certificate, maker: Maker) -> str:
    """Return the device id that a certificate gives; empty where the rule is that it gives none."""
    if maker.rule is NameRule.LIST:
        return ""
    found = _said(certificate, maker.rule)
    if len(found) != 1:
        raise refusal(f"the certificate has {len(found)} {maker.rule}, and one is wanted")
    try:
        return parse_device_id(maker.prefix + found[0])
    except MalformedMessageError as error:
        raise refusal(f"the certificate's {maker.rule} is no device id", ProblemCode.BAD_IDENTITY) from error


def _said(certificate: x509.Certificate, rule: NameRule) -> list[str]:
    if rule is NameRule.HARDWARE_MODULE:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        others = [name for name in names if isinstance(name, x509.OtherName)]
        return [_module_serial(each.value) for each in others if each.type_id == _HARDWARE_MODULE_NAME]
    oid = NameOID.SERIAL_NUMBER if rule is NameRule.SERIAL_NUMBER else NameOID.COMMON_NAME
    return [str(attribute.value) for attribute in certificate.subject.get_attributes_for_oid(oid)]


def _module_serial(der: bytes) -> str:
    """Return hwSerialNum of SEQUENCE { hwType OBJECT IDENTIFIER, hwSerialNum OCTET STRING }, as hex."""
    # The few octets of it are read by hand: all lengths are short forms (X.690 8.1.3.4).
    if len(der) < 6 or der[0] != 0x30 or der[1] != len(der) - 2 or der[2] != 0x06:
        raise ValueError("no hardwareModuleName")
    at = 4 + der[3]
    serial = der[at + 2 :]
    if len(der) < at + 2 or der[at] != 0x04 or der[at + 1] != len(serial) or len(serial) > _LONGEST_SERIAL:
        raise ValueError("no hwSerialNum")
    return serial.hex()


def _has_signed(certificate: x509.Certificate, signature: bytes, text: bytes) -> bool:
    """Verify with SHA-256: ECDSA in DER, PKCS#1 v1.5, or Ed25519, as the certificate's key is."""
    try:
        match certificate.public_key():
            case ec.EllipticCurvePublicKey() as key:
                key.verify(signature, text, ec.ECDSA(hashes.SHA256()))
            case rsa.RSAPublicKey() as key:
                key.verify(signature, text, padding.PKCS1v15(), hashes.SHA256())
            case ed25519.Ed25519PublicKey() as key:
                key.verify(signature, text)
            case _:
                return False
    except InvalidSignature:
        return False
    return True
