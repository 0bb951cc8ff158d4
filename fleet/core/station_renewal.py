"""What a station and its server say when it renews: a request goes up, its next certificate comes down.

Then, over a connection that shows the next one: that it is used, so that those before it may end.
"""

from dataclasses import dataclass

from fleet.core.station_body import encoded, versioned


@dataclass(frozen=True, slots=True, kw_only=True)
class NextCertificate:
    """A certificate with its chain (PEM, leaf first), for the key of the request."""

    serial: str
    certificate_pem: str

    def encode(self) -> bytes:
        """Return the body of the answer."""
        return encoded({"serial": self.serial, "certificate": self.certificate_pem})


def parse_next(body: bytes) -> NextCertificate:
    """Return what was issued. Raises `MalformedMessageError`."""
    members = versioned(body)
    return NextCertificate(serial=members.serial("serial"), certificate_pem=members.pem("certificate"))


def encode_renewal(csr_pem: str) -> bytes:
    """Return the request for the next certificate of the station that asks."""
    return encoded({"csr": csr_pem})


def parse_renewal(body: bytes) -> str:
    """Return the CSR, PEM. Raises `MalformedMessageError`."""
    return versioned(body).pem("csr")


def encode_used(serial: str) -> bytes:
    """Return the word that a certificate is used now."""
    return encoded({"serial": serial})


def parse_used(body: bytes) -> str:
    """Return which one. Raises `MalformedMessageError`."""
    return versioned(body).serial("serial")


def encode_ended(serials: tuple[str, ...]) -> bytes:
    """Return the answer: which certificates ended because of it."""
    return encoded({"superseded": list(serials)})


def parse_ended(body: bytes) -> tuple[str, ...]:
    """Return them. Raises `MalformedMessageError`."""
    return versioned(body).texts("superseded", longest=32)
