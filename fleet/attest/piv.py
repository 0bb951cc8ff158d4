"""A key made in a YubiKey's PIV applet: its attestation says so, and by what rules the key signs.

The attestation is a certificate for that very key, signed inside by the key of slot f9, whose own certificate
the maker signed (developers.yubico.com, PIV attestation). The request is signed by the key itself: so no
challenge is needed. These certificates follow no profile of the web's: each signature is checked here.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import NameOID, ObjectIdentifier

from device_agent.wire.evidence import PivEvidence
from fleet.attest.chains import Anchors, read_chain, read_one
from fleet.attest.proof import Proven, Statement, refusal
from fleet.core.piv_rules import PinPolicy, PivRules, TouchPolicy
from fleet.core.things import certificate_thing, key_thing, public_key_der
from fleet.core.unreadable import UNREADABLE
from fleet.model import Assurance

_BASE = "1.3.6.1.4.1.41482.3"
_FIRMWARE = ObjectIdentifier(f"{_BASE}.3")
_SERIAL = ObjectIdentifier(f"{_BASE}.7")
_POLICY = ObjectIdentifier(f"{_BASE}.8")
_FORM = ObjectIdentifier(f"{_BASE}.9")
_SLOT = re.compile(r"YubiKey PIV Attestation (9[acde]|8[2-9a-f]|9[0-5])")
_LONGEST_SERIAL = 8


class Form(IntEnum):
    """What the key is built as; the upper bits say for which use it was certified."""

    UNKNOWN = 0
    USB_A_KEYCHAIN = 1
    USB_A_NANO = 2
    USB_C_KEYCHAIN = 3
    USB_C_NANO = 4
    USB_C_LIGHTNING = 5
    USB_A_BIO = 6
    USB_C_BIO = 7


_FORM_BITS = 0x0F


@dataclass(frozen=True, slots=True, kw_only=True)
class PivMaker:
    """Whose attestations a domain believes, and which of them are enough."""

    anchors: Anchors
    rules: PivRules = field(default_factory=PivRules)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attested:
    """What an attestation says of its key."""

    slot: str
    firmware: tuple[int, int, int]
    serial: int | None
    pin: PinPolicy
    touch: TouchPolicy
    form: Form

    @property
    def words(self) -> str:
        """For people."""
        number = "without a serial number" if self.serial is None else str(self.serial)
        firmware = ".".join(map(str, self.firmware))
        return (
            f"YubiKey {number}, firmware {firmware}, slot {self.slot}, PIN {self.pin.word}, "
            f"touch {self.touch.word}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PivVerifier:
    """An attestation and the certificates above it."""

    evidence: PivEvidence
    makers: Sequence[PivMaker]

    def verify(self, statement: Statement) -> Proven:
        """Return what the attestation proves; raises `RefusedError`."""
        attestation, chain = read_one(self.evidence.certificate), read_chain(self.evidence.chain)
        try:
            maker = _maker_of(attestation, chain, self.makers, at=statement.at)
            if key_thing(public_key_der(attestation)).value != statement.key_hash:
                raise refusal("the attested key is not the key of the request")
            found = read_attested(attestation)
        except UNREADABLE as error:
            raise refusal("the attestation cannot be read") from error
        _require_enough(found, maker.rules)
        return Proven(
            assurance=Assurance.HARDWARE,
            evidence=f"{found.words}, {maker.anchors.name} vouches for it",
            tells_apart=found.serial is not None,
            things=(key_thing(public_key_der(attestation)), certificate_thing(attestation)),
        )


def read_attested(attestation: x509.Certificate) -> Attested:
    """Return what an attestation says; who signed it is not looked at.

    Raises:
        RefusedError: it lacks something, or says what has no meaning here.
    """
    names = attestation.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    slot = _SLOT.fullmatch(str(names[0].value)) if len(names) == 1 else None
    if slot is None:
        raise refusal("the attestation is of no slot that holds a key of a device")
    firmware, policy = _octets(attestation, _FIRMWARE, length=3), _octets(attestation, _POLICY, length=2)
    if firmware is None or policy is None:
        raise refusal("the attestation says no firmware, or no policy of its key")
    form = _octets(attestation, _FORM, length=1) or b"\0"
    try:
        return Attested(
            slot=slot[1],
            firmware=(firmware[0], firmware[1], firmware[2]),
            serial=_serial(attestation),
            pin=PinPolicy(policy[0]),
            touch=TouchPolicy(policy[1]),
            form=Form(form[0] & _FORM_BITS),
        )
    except ValueError as error:
        raise refusal("the attestation says what nobody knows the meaning of") from error


def _maker_of(
    leaf: x509.Certificate, chain: Sequence[x509.Certificate], makers: Sequence[PivMaker], *, at: datetime
) -> PivMaker:
    for maker in makers:
        if leaf not in maker.anchors.certificates and _reaches(leaf, chain, maker.anchors, at=at):
            return maker
    raise refusal("no maker that this domain believes vouches for the attestation")


def _reaches(
    leaf: x509.Certificate, chain: Sequence[x509.Certificate], anchors: Anchors, *, at: datetime
) -> bool:
    """Tell whether signatures of CAs, in their time, lead from an attestation to an anchor (RFC 5280 6.1)."""
    below = leaf
    for depth in range(len(chain) + 1):
        if not _is_in_time(below, at) or (depth > 0 and not _may_sign(below, above=depth - 1)):
            return False
        for anchor in anchors.certificates:
            if _is_in_time(anchor, at) and _may_sign(anchor, above=depth) and _has_signed(anchor, below):
                return True
        if depth == len(chain) or not _has_signed(chain[depth], below):
            return False
        below = chain[depth]
    return False


def _is_in_time(certificate: x509.Certificate, at: datetime) -> bool:
    return certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc


def _may_sign(issuer: x509.Certificate, *, above: int) -> bool:
    """Tell whether a CA may have so many CAs below it; a key usage, where there is one, must say so too."""
    values = {type(each.value): each.value for each in issuer.extensions}
    basic, usage = values.get(x509.BasicConstraints), values.get(x509.KeyUsage)
    if not isinstance(basic, x509.BasicConstraints) or not basic.ca:
        return False
    if isinstance(usage, x509.KeyUsage) and not usage.key_cert_sign:
        return False
    return basic.path_length is None or above <= basic.path_length


def _has_signed(issuer: x509.Certificate, below: x509.Certificate) -> bool:
    try:
        below.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _require_enough(found: Attested, rules: PivRules) -> None:
    if found.slot not in rules.slots:
        raise refusal(f"the key is in slot {found.slot}, and {', '.join(sorted(rules.slots))} are allowed")
    if found.firmware < rules.minimum_firmware:
        wanted = ".".join(map(str, rules.minimum_firmware))
        raise refusal(f"its firmware is {'.'.join(map(str, found.firmware))}, and {wanted} is the least")
    if found.pin not in rules.pin:
        raise refusal(f"the key's PIN policy is {found.pin.word}, which is not allowed")
    if found.touch not in rules.touch:
        raise refusal(f"the key's touch policy is {found.touch.word}, and nobody is there to touch it")


def _octets(certificate: x509.Certificate, oid: ObjectIdentifier, *, length: int) -> bytes | None:
    """Return an extension of the maker's, None where there is none; raises `RefusedError`."""
    for extension in certificate.extensions:
        if extension.oid == oid and isinstance(extension.value, x509.UnrecognizedExtension):
            if len(extension.value.value) != length:
                raise refusal("an extension of the attestation has a wrong length")
            return extension.value.value
    return None


def _serial(certificate: x509.Certificate) -> int | None:
    """Return the serial number, a DER INTEGER; none where the YubiKey keeps it to itself."""
    for extension in certificate.extensions:
        if extension.oid == _SERIAL and isinstance(extension.value, x509.UnrecognizedExtension):
            der = extension.value.value
            if not 3 <= len(der) <= 2 + _LONGEST_SERIAL or der[0] != 0x02 or der[1] != len(der) - 2:
                raise refusal("the serial number of the attestation cannot be read")
            return int.from_bytes(der[2:])
    return None
