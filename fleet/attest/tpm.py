"""A key inside a TPM 2.0: the endorsement key says which TPM, the attestation key speaks for it.

In this order: the endorsement key is a vendor's or on a list; only the TPM that has it, and the attestation
key beside it, opens the challenge (credential activation); that key, which signs nothing that the
TPM did not make, certifies the device's key as one that never leaves; and that key is the request's.
"""

import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.x509.oid import ObjectIdentifier

from device_agent.wire.evidence import TpmEvidence, TpmIdentity
from device_agent.wire.proofs import tpm_qualifying_data
from fleet.attest.chains import Anchors, reaches, read_chain, read_one
from fleet.attest.octets import BrokenStructureError
from fleet.attest.proof import Proven, Statement, refusal
from fleet.attest.tpm_attest import read_certified, read_signature
from fleet.attest.tpm_credential import Credential, make_credential
from fleet.attest.tpm_public import BORN_INSIDE, Attribute, TpmPublic, read_public
from fleet.core.things import Thing, ThingKind, certificate_thing, key_thing, public_key_der
from fleet.core.unreadable import UNREADABLE
from fleet.model import Assurance

_EK_CERTIFICATE = ObjectIdentifier("2.23.133.8.1")
"""tcg-kp-EKCertificate (TCG EK Credential Profile 3.2.16)."""
_EK = BORN_INSIDE | Attribute.RESTRICTED | Attribute.DECRYPT
_AK = BORN_INSIDE | Attribute.RESTRICTED | Attribute.SIGN
_KEY = BORN_INSIDE | Attribute.SIGN


@dataclass(frozen=True, slots=True, kw_only=True)
class Tpm:
    """A TPM as it presents itself; its two keys have the attributes that their offices need."""

    ek: TpmPublic
    ak: TpmPublic
    certificate: x509.Certificate | None
    chain: tuple[x509.Certificate, ...]

    @property
    def things(self) -> tuple[Thing, ...]:
        """By what lists may know it."""
        found = (key_thing(self.ek.key_der, kind=ThingKind.EK),)
        return found if self.certificate is None else (*found, certificate_thing(self.certificate))


@dataclass(frozen=True, slots=True, kw_only=True)
class TpmVerifier:
    """`secret` is what the challenge held; `is_listed`: a list has the endorsement key, vendor or not."""

    evidence: TpmEvidence
    anchors: Sequence[Anchors]
    secret: bytes
    is_listed: bool

    def verify(self, statement: Statement) -> Proven:
        """Return what the TPM proves; raises `RefusedError`."""
        tpm = read_tpm(self.evidence.tpm)
        vendor = require_known(tpm, self.anchors, statement, is_listed=self.is_listed)
        if not hmac.compare_digest(self.evidence.secret, self.secret):
            raise refusal("the TPM did not open the challenge: the endorsement key is another TPM's")
        try:
            self._require_certified(tpm, statement)
        except BrokenStructureError as error:
            raise refusal(f"the TPM's certification of the key cannot be read: {error}") from error
        whose = f"the TPM of endorsement key {tpm.things[0].value}"
        return Proven(
            assurance=Assurance.HARDWARE,
            evidence=f"{whose}, {vendor} vouches for it",
            things=tpm.things,
        )

    def _require_certified(self, tpm: Tpm, statement: Statement) -> None:
        key, certified = read_public(self.evidence.key_public), read_certified(self.evidence.attest)
        wanted = tpm_qualifying_data(
            fleet=statement.fleet,
            domain=statement.domain,
            device_id=statement.device_id,
            nonce=self.evidence.nonce,
        )
        if not read_signature(self.evidence.signature).verify(tpm.ak.key, self.evidence.attest):
            raise refusal("the certification is not signed by the TPM's attestation key")
        if certified.extra_data != wanted:
            raise refusal("the certification does not answer this challenge")
        if certified.name != key.name:
            raise refusal("the certification is of another key")
        if key_thing(key.key_der).value != statement.key_hash:
            raise refusal("the key in the TPM is not the key of the request")
        if lacking := key.lacks(_KEY):
            raise refusal(f"the key may leave the TPM, or cannot sign: it lacks {lacking}")


def read_tpm(identity: TpmIdentity) -> Tpm:
    """Return a TPM whose keys are fit for their offices; who vouches for it is not looked at.

    Raises:
        RefusedError: a structure or a certificate cannot be read, or a key is not what it should be.
    """
    try:
        ek, ak = read_public(identity.ek_public), read_public(identity.ak_public)
    except BrokenStructureError as error:
        raise refusal(f"the public area of a TPM key cannot be read: {error}") from error
    if lacking := ek.lacks(_EK):
        raise refusal(f"the endorsement key is none: it lacks {lacking}")
    if ek.attributes & Attribute.SIGN or ek.symmetric_bits is None:
        raise refusal("the endorsement key is none: it signs, or is no storage key")
    if lacking := ak.lacks(_AK):
        raise refusal(f"the attestation key does not speak for its TPM: it lacks {lacking}")
    if ak.attributes & Attribute.DECRYPT:
        raise refusal("the attestation key does not speak for its TPM: it decrypts as well")
    has_certificate = identity.ek_certificate is not None
    certificate = read_one(identity.ek_certificate) if identity.ek_certificate is not None else None
    return Tpm(
        ek=ek,
        ak=ak,
        certificate=certificate,
        chain=read_chain(identity.ek_chain) if has_certificate else (),
    )


def require_known(tpm: Tpm, anchors: Sequence[Anchors], statement: Statement, *, is_listed: bool) -> str:
    """Return who vouches for a TPM, in words; raises `RefusedError` where nobody does."""
    if tpm.certificate is not None:
        _require_ek_certificate(tpm.certificate, tpm.ek)
        for each in anchors:
            if reaches(tpm.certificate, tpm.chain, each, at=statement.at):
                return each.name
    if is_listed:
        return "a list"
    known = "its certificate reaches no anchor" if tpm.certificate is not None else "it has no certificate"
    raise refusal(f"nobody vouches for the TPM: {known}, and no list has its endorsement key")


def challenge(tpm: Tpm, secret: bytes, *, randomness: Callable[[int], bytes]) -> Credential:
    """Wrap a secret for a TPM and its attestation key; raises `RefusedError`."""
    try:
        return make_credential(tpm.ek, secret, name=tpm.ak.name, randomness=randomness)
    except BrokenStructureError as error:
        raise refusal(f"the TPM cannot be challenged: {error}") from error


def _require_ek_certificate(certificate: x509.Certificate, ek: TpmPublic) -> None:
    try:
        same_key = public_key_der(certificate) == ek.key_der
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except UNREADABLE as error:
        raise refusal("the endorsement key's certificate cannot be read, or is for no purpose") from error
    if not same_key:
        raise refusal("the endorsement key's certificate is of another key")
    if _EK_CERTIFICATE not in usages:
        raise refusal("the certificate of the TPM is no endorsement key's")
