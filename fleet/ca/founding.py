"""Makes the authorities of a new fleet: roots, issuing CAs below them, and who speaks for those.

The only place where a root signs. Keys are written encrypted, each file whole or not there.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from device_agent.wire.secret import Secret
from device_agent.wire.token_uri import TokenUri
from fleet.ca.crl import make_crl
from fleet.ca.issuer import IssuedCertificate, Issuer, fingerprint_of, self_sign
from fleet.ca.signers import KeySigner, Signer, encrypted_pem, make_authority_key, rehearsal_key
from fleet.ca.token_keys import TokenKeys
from fleet.core.authority import LABEL_RANDOMNESS, authority_name, key_label
from fleet.core.goodkey import KeyType, key_hash
from fleet.core.profile import (
    ISSUING_PROFILE,
    OCSP_PROFILE,
    ROOT_PROFILE,
    STATION_ISSUING_PROFILE,
    TIME_PROFILE,
    Profile,
    authority_applicant,
)
from fleet.core.serial import SERIAL_RANDOMNESS, new_serial
from fleet.files import PUBLIC_MODE, make_folder, write_file
from fleet.home import AuthorityFiles, KeyPairFiles
from fleet.model import Purpose

_ROOT_CRL_LIFETIME = timedelta(days=366)
_KEY_FILE_RANDOMNESS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Founded:
    """A certificate that was made with an authority, for the records."""

    issued: IssuedCertificate
    name: str
    profile: str
    purpose: Purpose
    domain: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Founder:
    """Makes authorities at one moment, under one pair of passphrases."""

    fleet: str
    now: datetime
    randomness: Callable[[int], bytes]
    status_url: str
    root_passphrase: Secret
    issuing_passphrase: Secret
    work_factor: int
    """scrypt's N is 2 to this power."""
    ca_keys: Mapping[str, KeyType] = field(default_factory=dict)
    """What the authorities of a realm are made with, where that is not P-256."""
    token: TokenUri | None = None
    """Where the keys of roots and issuing CAs are made, where they are not to be files."""
    tokens: TokenKeys = field(default_factory=TokenKeys)

    def root(self, files: AuthorityFiles, *, realm: str) -> tuple[Issuer, Founded]:
        """Make the root of a realm; the issuer that is returned holds its key, open."""
        folder = f"{realm}/{files.folder.name}" if _which(files) else realm
        signer = self._authority_key(
            files, folder, key_type=self._key_type(realm), passphrase=self.root_passphrase
        )
        name = self._name(f"{realm} root{_which(files)}")
        template = ROOT_PROFILE.template(
            authority_applicant(name, fleet=self.fleet), signer.public_key, now=self.now, issuer=None
        )
        serial = self._serial()
        certificate = self_sign(template, signer, serial=serial, fleet=self.fleet, domain=realm)
        anchor = fingerprint_of(certificate)
        write_file(files.ca.certificate, certificate.public_bytes(Encoding.PEM), mode=PUBLIC_MODE)
        issuer = self._issuer(certificate, signer, purpose=Purpose.AUTHORITY, domain="", anchor=anchor)
        issued = IssuedCertificate(
            der=certificate.public_bytes(Encoding.DER),
            serial=serial,
            issuer_id=issuer.issuer_id,
            fingerprint=anchor,
            key_hash=key_hash(signer.public_key),
            anchor=anchor,
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
        )
        return issuer, self._founded(issued, name, ROOT_PROFILE, realm)

    def root_crl(self, files: AuthorityFiles, root: Issuer) -> bytes:
        """Make the first CRL of a root, which revokes nothing, and write it beside its certificate."""
        crl = make_crl(root, (), number=1, this_update=self.now, next_update=self.now + _ROOT_CRL_LIFETIME)
        write_file(files.crl, crl, mode=PUBLIC_MODE)
        return crl

    def issuing(
        self, files: AuthorityFiles, root: Issuer, *, purpose: Purpose, domain: str
    ) -> tuple[Issuer, tuple[Founded, ...]]:
        """Make an issuing CA with its OCSP responder; one for devices gets the domain's time key too."""
        number = files.folder.name.rpartition("-")[2]
        name = self._name(f"{domain} {purpose} issuing CA {number}".lstrip())
        profile = STATION_ISSUING_PROFILE if purpose is Purpose.STATION else ISSUING_PROFILE
        folder = f"{files.folder.parent.name}/{files.folder.name}"
        own = self._authority_key(
            files, folder, key_type=self._key_type(domain), passphrase=self.issuing_passphrase
        )
        issued = self._certify(files.ca, root, profile, name=name, signer=own)
        certificate = x509.load_der_x509_certificate(issued.der)
        issuer = self._issuer(certificate, own, purpose=purpose, domain=domain, anchor=root.anchor)
        made = [self._founded(issued, name, profile, domain)]
        signers = [(files.ocsp, OCSP_PROFILE, self._key_type(domain))]
        if purpose is Purpose.DEVICE:
            # Time is signed for agents, which verify ECDSA.
            signers.append((files.time, TIME_PROFILE, KeyType.P256))
        for pair, profile, key_type in signers:
            name = self._name(f"{domain} {purpose} {profile.name} {number}".lstrip())
            signer = self._file_key(pair, key_type, self.issuing_passphrase)
            signed = self._certify(pair, issuer, profile, name=name, signer=signer)
            made.append(self._founded(signed, name, profile, domain))
        return issuer, tuple(made)

    def _certify(
        self, files: KeyPairFiles, issuer: Issuer, profile: Profile, *, name: str, signer: Signer
    ) -> IssuedCertificate:
        template = profile.template(
            authority_applicant(name, fleet=self.fleet),
            signer.public_key,
            now=self.now,
            issuer=issuer.facts(self.status_url),
        )
        issued = issuer.issue(template, serial=self._serial())
        write_file(files.certificate, issued.pem.encode(), mode=PUBLIC_MODE)
        return issued

    def _authority_key(
        self, files: AuthorityFiles, folder: str, *, key_type: KeyType, passphrase: Secret
    ) -> Signer:
        """Make the key of a root or an issuing CA, in the token if there is one."""
        if self.token is None:
            return self._file_key(files.ca, key_type, passphrase)
        label = key_label(folder, fleet=self.fleet, randomness=self.randomness(LABEL_RANDOMNESS))
        return self.tokens.make(files.token, self.token, label=label, key_type=key_type)

    def _file_key(self, files: KeyPairFiles, key_type: KeyType, passphrase: Secret) -> Signer:
        key = make_authority_key(key_type)
        make_folder(files.key.parent)
        sealed = encrypted_pem(
            key, passphrase, randomness=self.randomness(_KEY_FILE_RANDOMNESS), work_factor=self.work_factor
        )
        write_file(files.key, sealed)
        return KeySigner(key)

    def _issuer(
        self, certificate: x509.Certificate, signer: Signer, *, purpose: Purpose, domain: str, anchor: str
    ) -> Issuer:
        return Issuer(
            certificate=certificate,
            signer=signer,
            purpose=purpose,
            fleet=self.fleet,
            domain=domain,
            anchor=anchor,
            rehearsal=rehearsal_key(signer.public_key),
        )

    def _founded(self, issued: IssuedCertificate, name: str, profile: Profile, domain: str) -> Founded:
        return Founded(issued=issued, name=name, profile=profile.name, purpose=profile.purpose, domain=domain)

    def _key_type(self, realm: str) -> KeyType:
        return self.ca_keys.get(realm, KeyType.P256)

    def _serial(self) -> str:
        return new_serial(now=self.now, randomness=self.randomness(SERIAL_RANDOMNESS))

    def _name(self, rest: str) -> str:
        return authority_name(self.fleet, rest)


def _which(files: AuthorityFiles) -> str:
    """Return which root of its realm this is: a later one stands in a folder `root-<number>`."""
    name, _, number = files.folder.name.rpartition("-")
    return f" {number}" if name == "root" and number.isdecimal() else ""
