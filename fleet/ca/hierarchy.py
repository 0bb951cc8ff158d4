"""The authorities of one fleet: roots, issuing CAs, and who speaks for them, each with where it stands.

A value: what changes, changes by another one in its place. A root's key is never opened here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509

from fleet.ca.issuer import Issuer, fingerprint_of, issuer_id_of, pem_bundle
from fleet.ca.ocsp import Responder
from fleet.ca.ocsp_request import Question
from fleet.ca.signers import Signer
from fleet.core.authority import ADMITTED, ISSUES, LISTED, AuthorityRecord, AuthorityState
from fleet.errors import NotFoundError
from fleet.model import Purpose

FLEET_REALM = "fleet"
"""The root of servers, services, operators and stations."""
BOOTSTRAP_REALM = "bootstrap"
"""The root of claim certificates."""
OWN_REALMS = frozenset({FLEET_REALM, BOOTSTRAP_REALM})
RESERVED_DOMAINS = frozenset({*OWN_REALMS, *(purpose.value for purpose in Purpose)})
"""No domain has these names: realms of our own, and `<label>.<purpose>.<fleet>` is no device's dNSName."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """A trust anchor. Its key stays where it is; its CRL was made when the key was last at hand."""

    record: AuthorityRecord
    certificate: x509.Certificate
    crl: bytes | None
    """DER; None where somebody else's root has given none yet."""
    link: x509.Certificate | None = None
    """By which the root before it vouches for its key; None for the first one of a realm."""

    @property
    def realm(self) -> str:
        return self.record.realm

    @property
    def state(self) -> AuthorityState:
        return self.record.state

    @property
    def anchor(self) -> str:
        """Hex SHA-256 of the DER, as trust anchors are named."""
        return fingerprint_of(self.certificate)

    @property
    def issuer_id(self) -> str:
        return issuer_id_of(self.certificate)

    @property
    def pem(self) -> str:
        return pem_bundle([self.certificate])


@dataclass(frozen=True, slots=True, kw_only=True)
class Above:
    """Somebody else's CA between a root and an issuing CA of ours."""

    certificate: x509.Certificate
    crl: bytes | None
    """DER; None where it was not handed in yet."""

    @property
    def issuer_id(self) -> str:
        return issuer_id_of(self.certificate)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeSigner:
    """The time key of a domain: what it signs is believed by the domain's devices."""

    certificate_pem: str
    """Its certificate, then the issuing CA's."""
    signer: Signer

    def sign(self, message: bytes) -> bytes:
        """Return the signature (ECDSA with SHA-256, DER). Raises `FleetError`."""
        return self.signer.sign(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """All roots and issuing CAs of a fleet, retired ones too; what waits for its certificate is not there."""

    fleet: str
    records: tuple[AuthorityRecord, ...]
    roots: tuple[Root, ...]
    issuers: tuple[Issuer, ...]
    responders: tuple[Responder, ...]
    time_signers: tuple[tuple[str, TimeSigner], ...]
    above: tuple[Above, ...] = ()
    """The CAs between roots and issuing CAs, each once."""

    def issuer(self, purpose: Purpose, domain: str = "") -> Issuer:
        """Return the active issuing CA, of several the first; only device CAs are of a domain.

        Raises:
            NotFoundError: there is none.
        """
        if found := self.active(purpose, domain):
            return found[0]
        where = f" in domain {domain}" if domain else ""
        raise NotFoundError(
            f"no issuing CA for {purpose} certificates{where} is active", hint="fleet ca list"
        )

    def active(self, purpose: Purpose, domain: str = "") -> tuple[Issuer, ...]:
        """Return the issuing CAs that sign for a purpose now, in their order."""
        return tuple(
            one
            for one in self.issuers
            if one.state in ISSUES and (one.purpose, one.domain) == (purpose, domain)
        )

    @property
    def admitted(self) -> tuple[Issuer, ...]:
        """The issuing CAs whose leaves are let in."""
        return tuple(one for one in self.issuers if one.state in ADMITTED)

    @property
    def listed(self) -> tuple[Issuer, ...]:
        """The issuing CAs that have a revocation list."""
        return tuple(one for one in self.issuers if one.state in LISTED)

    @property
    def elsewhere(self) -> tuple[Root | Above, ...]:
        """The CAs above the issuing ones: their keys are not here, nor are their lists made here."""
        return (*self.roots, *self.above)

    @property
    def anchors(self) -> tuple[Root, ...]:
        """The roots that are trusted."""
        return tuple(root for root in self.roots if root.state in ADMITTED)

    def issuer_by_id(self, issuer_id: str) -> Issuer:
        """Return an issuing CA by its hex subject key identifier.

        Raises:
            NotFoundError: there is none.
        """
        for issuer in self.issuers:
            if issuer.issuer_id == issuer_id:
                return issuer
        raise NotFoundError("there is no such issuing CA", hint="fleet ca list")

    def root(self, realm: str) -> Root:
        """Return the active root of a domain, of `bootstrap` or of `fleet`; of several the first.

        Raises:
            NotFoundError: there is none.
        """
        for root in self.roots:
            if root.realm == realm and root.state in ISSUES:
                return root
        raise NotFoundError(f"there is no domain {realm}", hint="fleet domain list")

    @property
    def domains(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(root.realm for root in self.anchors if root.realm not in OWN_REALMS))

    def trust_pem(self, realm: str) -> str:
        """Return the trust anchors of a domain, or of a realm of our own. Raises `NotFoundError`."""
        self.root(realm)
        return pem_bundle([root.certificate for root in self.anchors if root.realm == realm])

    @property
    def server_trust_pem(self) -> str:
        """What servers, operators, stations and services are trusted by."""
        return self.trust_pem(FLEET_REALM)

    def link(self, domain: str, held: Sequence[str]) -> str | None:
        """Return the certificates by which a root that is `held` vouches for the domain's, if any are needed.

        One after another, the newest first, where several roots followed each other since. `held` are
        names of anchors. Raises `NotFoundError` where there is no such domain.
        """
        anchor = self.root(domain).anchor
        links: list[x509.Certificate] = []
        for root in reversed([one for one in self.roots if one.realm == domain]):
            if root.anchor in held:
                return pem_bundle(links) if links else None
            if (root.anchor == anchor or links) and root.link is not None:
                links.append(root.link)
        return None

    def cross_pem(self, issuer: Issuer) -> str:
        """Return what a chain of this CA shows to those who hold only the root before its own.

        Nothing, once that root is believed no more.
        """
        root = next((one for one in self.roots if one.anchor == issuer.anchor), None)
        if root is None or root.link is None:
            return ""
        before = (one for one in self.anchors if one.certificate.subject == root.link.issuer)
        return pem_bundle([root.link]) if any(one.realm == root.realm for one in before) else ""

    def certificate(self, issuer_id: str) -> x509.Certificate:
        """Return the certificate of a CA of any kind, as AIA offers it. Raises `NotFoundError`."""
        for one in self.elsewhere:
            if one.issuer_id == issuer_id:
                return one.certificate
        return self.issuer_by_id(issuer_id).certificate

    def asked(self, question: Question) -> Responder | None:
        """Return who speaks for the CA that an OCSP question is about, or None."""
        return next((one for one in self.responders if one.speaks_for(question)), None)

    def time_signer(self, domain: str) -> TimeSigner:
        """Return the time key of a domain. Raises `NotFoundError`."""
        for name, signer in self.time_signers:
            if name == domain:
                return signer
        raise NotFoundError(f"domain {domain} has no time key", hint="fleet domain list")

    def unlock(self) -> None:
        """Open every key that is at work, so that a wrong passphrase shows before the first request.

        Raises:
            NotFoundError, BadInputError: a key cannot be opened.
        """
        needed = self.admitted
        certificates = {issuer.certificate for issuer in needed}
        signers = [issuer.signer for issuer in needed]
        signers += [one.signer for one in self.responders if one.issuer in certificates]
        signers += [time.signer for _, time in self.time_signers]
        for signer in signers:
            signer.unlock()
