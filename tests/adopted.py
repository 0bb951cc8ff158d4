"""A fleet of another authority for tests: its CAs, its revocation list, and devices of its own."""

from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from device_agent.wire.identity import Identity, serial_hex
from device_agent.wire.topics import OperationalTopics
from fleet.ra.adopted.adoption import Opening
from fleet.ra.adopted.foreign_list import ListedLeaf
from tests.pki import Authority, Pair, pem_of

OPERATOR = "operator:test"


@dataclass(kw_only=True)
class OtherFleet:
    """Root, issuing CA, and leaves with names and serial numbers of its own."""

    root: Authority = field(default_factory=lambda: Authority.root("Old IoT root"))
    issuing: Authority = field(init=False)

    def __post_init__(self) -> None:
        self.issuing = self.root.issuing("Old IoT devices")

    @property
    def authorities(self) -> str:
        return (pem_of(self.root.certificate) + pem_of(self.issuing.certificate)).decode()

    @property
    def crls(self) -> str:
        crl = x509.load_der_x509_crl(self.issuing.crl())
        return crl.public_bytes(Encoding.PEM).decode()

    def opening(self, name: str = "old", domain: str = "prod") -> Opening:
        return Opening(
            name=name,
            domain=domain,
            authorities_pem=self.authorities,
            crls_pem=self.crls,
            actor=OPERATOR,
        )

    def device(self, name: str = "thing-0001", *, serial: int | None = None) -> Pair:
        return self.issuing.leaf(name, serial=serial)


def row(device_id: str, pair: Pair, *, by: str = "certificate") -> ListedLeaf:
    """Return the row of a list that names a leaf by what `by` says: serial, fingerprint, certificate."""
    return ListedLeaf(
        place="line 2",
        device_id=device_id,
        serial=shown_serial(pair) if "serial" in by else "",
        fingerprint=pair.fingerprint if "fingerprint" in by else "",
        certificate=pair.certificate if "certificate" in by else None,
    )


def shown_serial(pair: Pair) -> str:
    return serial_hex(pair.certificate.serial_number)


def topics(device_id: str, pair: Pair, *, domain: str = "prod") -> OperationalTopics:
    """Return where a device publishes that only has its old certificate."""
    identity = Identity(domain=domain, device_id=device_id)
    return OperationalTopics(identity=identity, serial=shown_serial(pair))
