"""What a device without our agent gets of a package, as PEM: its chain, and the anchors of the servers."""

import hashlib
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from device_agent.wire.objects import Configuration, parse_certificates
from fleet.station.keeping.package import Package


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """PEM, each certificate after the other, without a newline at the end."""

    leaf: str
    signer: str
    """The issuing CA of the leaf; empty where that is a root."""
    servers: str
    """Anchors by which the device knows its servers."""

    @property
    def chain(self) -> str:
        """The leaf, then its issuing CA."""
        return "\n".join(filter(None, (self.leaf, self.signer)))


def credentials_of(package: Package) -> Credentials:
    """Return what the device's TLS needs."""
    leaf, *signers = parse_certificates(package.chain)
    trusted = Configuration.parse(package.configuration).servers
    anchors = parse_certificates(package.anchors)
    servers = [one for one in anchors if hashlib.sha256(one).hexdigest() in trusted]
    return Credentials(leaf=_pem(leaf), signer=_pem(*signers), servers=_pem(*servers))


def _pem(*certificates: bytes) -> str:
    pems = (x509.load_der_x509_certificate(one).public_bytes(Encoding.PEM) for one in certificates)
    return b"".join(pems).decode().rstrip()
