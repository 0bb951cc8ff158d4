"""EST as a client reads it (RFC 7030, RFC 8951): where a server is, and what its answers hold.

Every byte is a stranger's. Reading is not trusting: `acceptance` and `est_acceptance` judge what was read.
"""

import base64
import binascii
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs7 import load_der_pkcs7_certificates

from device_agent.core.certificates import UNREADABLE, load, public_key_der
from device_agent.core.est_request import CHALLENGE_PASSWORD
from device_agent.core.issuing import is_issued_by
from device_agent.wire.fields import MAX_BODY_BYTES, Fields, parse_object
from device_agent.wire.problems import MalformedMessageError
from device_agent.wire.replies import BrokerAddress, HttpsAddress

MAX_CERTIFICATES = 16
LONGEST_RETRY = timedelta(hours=1)
SHORTEST_RETRY = timedelta(seconds=1)
DEFAULT_RETRY_SECONDS = 60
ISSUED_HEADER = "x-fleet-issued"
"""What a fleet's server says beside a certificate: where to use it, and when to renew it."""

_WELL_KNOWN = "/.well-known/est"
_LABEL = re.compile(r"[A-Za-z0-9._~-]{1,128}", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9.:-]{1,253}", re.ASCII)
_LONGEST_PATH = 4096
_MAX_PATH = 8
_SPACE = b" \t\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class EstServer:
    """Where EST is spoken; the files, if any, are what TLS shows for the first certificate."""

    host: str
    port: int
    label: str = ""
    certificate: str = ""
    key: str = ""

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read `https://HOST[:PORT][/[.well-known/est/]LABEL]` (RFC 7030 3.2.2).

        Raises:
            MalformedMessageError: it is anything else.
        """
        try:
            parts = urlsplit(url)
            port = parts.port or 443
        except ValueError as error:
            raise MalformedMessageError("the URL cannot be read") from error
        label = parts.path.removeprefix(_WELL_KNOWN).strip("/")
        is_plain = not (parts.query or parts.fragment or parts.username or parts.password)
        if parts.scheme != "https" or not _HOST.fullmatch(parts.hostname or "") or not is_plain:
            raise MalformedMessageError("the URL must be https://HOST[:PORT]/[LABEL]")
        if label and not _LABEL.fullmatch(label):
            raise MalformedMessageError("the URL must end in one label, or in none")
        return cls(host=parts.hostname or "", port=port, label=label)

    def path(self, operation: str) -> str:
        """Return where an operation is asked for."""
        return "/".join(filter(None, (_WELL_KNOWN, self.label, operation)))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"https://{host}:{self.port}" + (f"/{self.label}" if self.label else "")

    def members(self) -> dict[str, object]:
        """Return what the record holds."""
        return {
            "host": self.host,
            "port": self.port,
            "label": self.label or None,
            "certificate": self.certificate or None,
            "key": self.key or None,
        }

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Read what the record holds; raises `MalformedMessageError`."""

        def text(name: str, longest: int) -> str:
            return fields.text(name, longest=longest) if name in fields else ""

        return cls(
            host=fields.text("host", longest=253),
            port=fields.integer("port", lowest=1, highest=65535),
            label=text("label", 128),
            certificate=text("certificate", _LONGEST_PATH),
            key=text("key", _LONGEST_PATH),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a fleet's server says in `ISSUED_HEADER`."""

    broker: BrokerAddress
    renew_after: datetime
    recovery: HttpsAddress | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the header; raises `MalformedMessageError`."""
        fields = parse_object(text.encode())
        return cls(
            broker=BrokerAddress.read(fields.object("broker")),
            renew_after=fields.time("renew_after"),
            recovery=HttpsAddress.read(fields.object("recovery")) if "recovery" in fields else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A leaf with what leads from it to a root, DER; `links` are the root's key signed by other roots."""

    leaf: bytes
    above: tuple[bytes, ...]
    """From the leaf's issuer up, without the root."""
    roots: tuple[bytes, ...]
    links: tuple[bytes, ...]


def certificates_in(body: bytes) -> tuple[bytes, ...]:
    """Return the certificates of a certs-only answer, DER, in no order (RFC 7030 4.1.3, 4.2.3).

    Raises:
        MalformedMessageError: it is no base64, no PKCS#7, or holds none or too many.
    """
    content = decoded(body)
    try:
        with warnings.catch_warnings():
            # Servers are about whose sets are not in DER's order; each certificate is read strictly below.
            warnings.simplefilter("ignore")
            ders = tuple(dict.fromkeys(map(_der, load_der_pkcs7_certificates(content))))
    except UNREADABLE as error:
        raise MalformedMessageError("the answer holds no certificates in PKCS#7 (RFC 7030 4.1.3)") from error
    if not 1 <= len(ders) <= MAX_CERTIFICATES:
        raise MalformedMessageError(f"the answer holds none, or more than {MAX_CERTIFICATES} certificates")
    for der in ders:
        load(der)
    return ders


def decoded(body: bytes) -> bytes:
    """Return the DER of a body, base64 whatever its header says (RFC 8951 3.1).

    Raises:
        MalformedMessageError: it is not, or too large.
    """
    if len(body) > MAX_BODY_BYTES:
        raise MalformedMessageError(f"the answer must not exceed {MAX_BODY_BYTES} bytes")
    try:
        # RFC 4648 3.3: nothing but the alphabet, though lines may be broken as they like.
        return base64.b64decode(body.translate(None, _SPACE), validate=True)
    except binascii.Error as error:
        raise MalformedMessageError("the answer is not base64 (RFC 8951 3)") from error


def wants_link(body: bytes) -> bool:
    """Tell whether CSR attributes ask for a link to the TLS connection (RFC 7030 3.5, 4.5.2)."""
    try:
        return CHALLENGE_PASSWORD in decoded(body)
    except MalformedMessageError:
        return False


def retry_seconds(text: str, *, date: str) -> int:
    """Return how long a server wants us to wait (RFC 9110 10.2.3), within bounds of our own.

    A wish that is a date counts from the server's own `date`, for clocks may differ.
    """
    if re.fullmatch(r"\d+", text, re.ASCII):
        wanted = timedelta(seconds=int(text[:9]))
    else:
        until, now = _http_date(text), _http_date(date)
        wanted = timedelta(seconds=DEFAULT_RETRY_SECONDS) if until is None or now is None else until - now
    return int(min(max(wanted, SHORTEST_RETRY), LONGEST_RETRY).total_seconds())


def _http_date(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)
    except ValueError:
        return None


def chain_of(issued: Sequence[bytes], known: Sequence[bytes], *, key: bytes) -> Chain:
    """Return the certificate for a key, SubjectPublicKeyInfo, with the way up from it.

    Args:
        issued: what came for the request: the leaf, and with some servers its CAs.
        known: what `cacerts` holds.
        key: the key that waits.

    Raises:
        MalformedMessageError: there is no certificate for this key.
    """
    leaf = next((der for der in issued if public_key_der(load(der)) == key), None)
    if leaf is None:
        raise MalformedMessageError("the answer holds no certificate for the key that waits")
    pool = [load(der) for der in dict.fromkeys((*known, *issued)) if der != leaf]
    path = _walk(load(leaf), pool)
    roots = [one for one in pool if _is_root(one) and is_issued_by(path[-1], one)]
    if not roots:
        raise MalformedMessageError("the server's cacerts lead to no root (RFC 7030 4.1.3)")
    links = [one for one in pool if any(_stands_for(one, root) for root in pool if _is_root(root))]
    return Chain(
        leaf=leaf,
        above=tuple(_der(one) for one in path[1:]),
        roots=tuple(map(_der, roots)),
        links=tuple(map(_der, links)),
    )


def _walk(leaf: x509.Certificate, pool: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """Return the way from a leaf up to below the nearest root; further up, links would lead to older ones."""
    path = [leaf]
    while len(path) < _MAX_PATH:
        above = [one for one in pool if one not in path and is_issued_by(path[-1], one)]
        if not above or any(map(_is_root, above)):
            break
        path.append(above[0])
    return path


def _is_root(certificate: x509.Certificate) -> bool:
    return is_issued_by(certificate, certificate)


def _stands_for(link: x509.Certificate, root: x509.Certificate) -> bool:
    """Tell whether a certificate is the root's key signed by another (RFC 7030 4.1.3, NewWithOld)."""
    return (
        link.subject == root.subject and public_key_der(link) == public_key_der(root) and not _is_root(link)
    )


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)
