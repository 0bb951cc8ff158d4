"""The station's own CA: signs for units while the server is away, under a lease and nothing beyond it.

What it makes is worth nothing to brokers before the server has the journal that tells of it.
"""

import base64
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from device_agent.wire.identity import Identity
from device_agent.wire.problems import MalformedMessageError
from device_agent.wire.replies import BrokerAddress
from fleet.ca.crl import make_crl
from fleet.ca.issuer import Issuer, fingerprint_of
from fleet.ca.signers import Signer, is_signed
from fleet.ca.station_ca import station_issuer
from fleet.core.csr import read_csr
from fleet.core.goodkey import certified_key
from fleet.core.lease import Lease, SignedLease, parse_lease, signed_text
from fleet.core.profile import OFFLINE_PROFILE, station_applicant
from fleet.core.serial import leased_serial
from fleet.core.unreadable import UNREADABLE
from fleet.errors import RefusedError
from fleet.station.keeping.package import Issuance, IssueOrder, Package, pack
from fleet.station.own.identity import StationIdentity

_UNREADABLE: tuple[type[Exception], ...] = (MalformedMessageError, IndexError, *UNREADABLE)
_HINT = "ask for a lease of this station: fleet station lease grant"


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What was signed for a unit, and what the journal tells of it."""

    package: Package
    details: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """A lease that was found right, and the CA that signs under it."""

    lease: Lease
    issuer: Issuer
    servers: tuple[bytes, ...]
    """The anchors (DER) by which devices trust servers and stations."""

    @classmethod
    def opened(
        cls, signed: SignedLease, *, identity: StationIdentity, signer: Signer, servers: tuple[bytes, ...]
    ) -> Self:
        """Verify a lease, and take the station's CA to work.

        Raises:
            RefusedError: nobody of ours signed it, or it is another station's, or for another key.
        """
        lease = verified(signed, identity)
        certificate = x509.load_der_x509_certificate(lease.authority)
        if certificate.public_key() != signer.public_key:
            raise RefusedError(f"lease {lease.lease} is for another key of this station's CA", hint=_HINT)
        issuer = station_issuer(
            certificate,
            signer,
            fleet=lease.fleet,
            domain=lease.domain,
            station=lease.station,
            anchor=fingerprint_of(x509.load_der_x509_certificate(lease.anchors[-1])),
        )
        return cls(lease=lease, issuer=issuer, servers=servers)

    def crl(self) -> bytes:
        """Return the CA's revocation list, which is empty: brokers want one of every CA."""
        return make_crl(
            self.issuer,
            (),
            number=1,
            this_update=self.lease.issued_at,
            next_update=self.issuer.not_after - timedelta(seconds=1),
        )

    def make(self, order: IssueOrder, *, number: int, now: datetime, randomness: bytes) -> Made:
        """Sign for a unit's key under a number of the lease.

        Raises:
            RefusedError: the request is not fit. FleetError: the key of the CA cannot be used.
        """
        lease, now = self.lease, now.replace(microsecond=0)
        identity = Identity(domain=lease.domain, device_id=order.device_id)
        csr = read_csr(x509.load_der_x509_csr(order.csr).public_bytes(Encoding.PEM).decode())
        applicant = station_applicant(identity, station=lease.station, fleet=lease.fleet)
        template = OFFLINE_PROFILE.template(
            applicant, csr.public_key, now=now, issuer=self.issuer.facts("http://localhost")
        )
        serial = leased_serial(now=now, number=number, randomness=randomness)
        leaf = self.issuer.issue(template, serial=serial)
        package = pack(order, self._issuance(identity, serial, leaf.der, now=now))
        details = {
            "lease": lease.lease,
            "number": str(number),
            "certificate": base64.b64encode(leaf.der).decode(),
            "replaces": order.replaces or "",
        }
        return Made(package=package, details=details)

    def _issuance(self, identity: Identity, serial: str, leaf: bytes, *, now: datetime) -> Issuance:
        lease = self.lease
        return Issuance(
            serial=serial,
            chain=(leaf, lease.authority),
            anchors=lease.anchors,
            servers=self.servers,
            # At its first connection: the server's own CA certifies it then.
            renew_after=now,
            broker=BrokerAddress(host=lease.broker_host, port=lease.broker_port, name=identity.name),
            recovery=lease.recovery if lease.recovery.port else None,
        )


def verified(signed: SignedLease, identity: StationIdentity) -> Lease:
    """Return a lease that the CA which certified this station has signed for it.

    Raises:
        RefusedError: it did not, it is another station's, or it is no lease at all.
    """
    try:
        certifier = certified_key(x509.load_der_x509_certificate(identity.chain[1]).public_key())
        is_right = is_signed(certifier, signed.signature, signed_text(signed.octets))
        lease = parse_lease(signed.octets)
    except _UNREADABLE as error:
        raise RefusedError("this is no lease that can be read", hint=_HINT) from error
    if not is_right:
        raise RefusedError("the lease is not signed by the CA that certified this station", hint=_HINT)
    if lease.station != identity.name:
        raise RefusedError(f"the lease is for station {lease.station}, this is {identity.name}", hint=_HINT)
    return lease
