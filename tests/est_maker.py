"""An EST server of another maker, over real HTTPS: CAs and habits of its own, and the manners a test wants.

It wraps its base64, sends its CAs beside the leaf, may answer in chunks, and knows nothing of fleets.
"""

import base64
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs7 import serialize_certificates
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.est import basic
from tests.pki import Authority, pem_of

CODE = "ABCD-EFGH-JKMN-PQRS"
CERTS = {"Content-Type": "application/pkcs7-mime; smime-type=certs-only"}
CHALLENGE_PASSWORD = x509.ObjectIdentifier("1.2.840.113549.1.9.7")
CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH


@dataclass(frozen=True, kw_only=True)
class Said:
    """One answer."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    is_endless: bool = False
    is_chunked: bool = False


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request, as the server sees it."""

    operation: str
    authorization: str
    body: bytes
    shown: x509.Certificate | None
    tls_unique: bytes

    @property
    def csr(self) -> x509.CertificateSigningRequest:
        return x509.load_der_x509_csr(base64.b64decode(self.body))

    @property
    def linked(self) -> bytes:
        """What the request says tls-unique is (RFC 7030 3.5)."""
        return base64.b64decode(self.csr.attributes.get_attribute_for_oid(CHALLENGE_PASSWORD).value)


def certs(*certificates: x509.Certificate) -> Said:
    return Said(
        headers=CERTS, body=base64.encodebytes(serialize_certificates(list(certificates), Encoding.DER))
    )


@dataclass(kw_only=True)
class OtherMaker:
    """The server; `manners` answers an operation in another way than it does by itself."""

    folder: Path
    tls: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    root: Authority = field(default_factory=lambda: Authority.root("Other Root"))
    manners: dict[str, Callable[[Asked], Said]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    port: int = 0

    def __post_init__(self) -> None:
        self.servers = self.root
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.issuing = self.root.issuing("Other Issuing CA")

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}/.well-known/est/plant"

    @property
    def trust_pem(self) -> str:
        return pem_of(self.servers.certificate).decode()

    def roll(self) -> None:
        """Issue below another root from now on; the server's own certificate stays below the old one."""
        self.root = Authority.root("Newer Root")
        self.issuing = self.root.issuing("Newer Issuing CA")
        self.context.load_verify_locations(cadata=pem_of(self.root.certificate).decode())

    def answer(self, asked: Asked) -> Said:
        self.asked.append(asked)
        if asked.operation in self.manners:
            return self.manners[asked.operation](asked)
        match asked.operation:
            case "cacerts":
                return certs(self.root.certificate, self.issuing.certificate)
            case "simpleenroll" if asked.authorization != basic("d1", CODE):
                return Said(status=401, headers={"WWW-Authenticate": 'Basic realm="plant"'})
            case "simplereenroll" if asked.shown is None:
                return Said(status=403, body=b"no certificate\n")
            case "simpleenroll" | "simplereenroll":
                return self.issued(asked)
            case _:
                return Said(status=404, body=b"not here\n")

    def issued(self, asked: Asked, **unlike: Any) -> Said:
        """Issue for the request; `unlike` as in `certificate`."""
        issuer = unlike.get("issuer", self.issuing)
        return certs(certificate(asked.csr, **{"issuer": issuer, **unlike}), issuer.certificate)


def certificate(
    csr: x509.CertificateSigningRequest,
    *,
    issuer: Authority,
    name: str = "d1",
    key: ec.EllipticCurvePrivateKey | None = None,
    is_ca: bool = False,
    life: tuple[timedelta, timedelta] = (timedelta(hours=-1), timedelta(days=9)),
    usages: tuple[x509.ObjectIdentifier, ...] = (CLIENT, ExtendedKeyUsageOID.EMAIL_PROTECTION),
) -> x509.Certificate:
    """Return a leaf as such a CA makes it: a serial of 20 octets, names of its own, more than one use."""
    organization = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Other")
    names = [organization, x509.NameAttribute(NameOID.COMMON_NAME, name)]
    now = datetime.now(UTC).replace(microsecond=0)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(names))
        .issuer_name(issuer.certificate.subject)
        .public_key(csr.public_key() if key is None else key.public_key())
        .serial_number(x509.random_serial_number() | 1 << 152)
        .not_valid_before(now + life[0])
        .not_valid_after(now + life[1])
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("d1.plant.example")]), critical=False)
    )
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    return builder.sign(issuer.key, hashes.SHA256())


def _handler(maker: OtherMaker) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout: ClassVar[float] = 10

        def do_GET(self) -> None:
            _say(self, maker.answer(_heard(self)))

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_args: object) -> None:
            """Say nothing."""

    return Handler


def _heard(handler: BaseHTTPRequestHandler) -> Asked:
    connection = handler.connection
    assert isinstance(connection, ssl.SSLSocket)
    shown = connection.getpeercert(binary_form=True)
    is_old = connection.version() == "TLSv1.2"
    return Asked(
        operation=handler.path.rpartition("/")[2],
        authorization=handler.headers.get("Authorization", ""),
        body=handler.rfile.read(int(handler.headers.get("Content-Length", "0"))),
        shown=None if shown is None else x509.load_der_x509_certificate(shown),
        tls_unique=(connection.get_channel_binding("tls-unique") or b"") if is_old else b"",
    )


def _say(handler: BaseHTTPRequestHandler, said: Said) -> None:
    handler.send_response(said.status)
    for name, value in said.headers.items():
        handler.send_header(name, value)
    is_chunked = said.is_chunked or said.is_endless
    name, value = ("Transfer-Encoding", "chunked") if is_chunked else ("Content-Length", str(len(said.body)))
    handler.send_header(name, value)
    handler.end_headers()
    try:
        for part in _parts(said) if is_chunked else [said.body]:
            handler.wfile.write(part)
    except OSError:
        handler.close_connection = True


def _parts(said: Said) -> Iterator[bytes]:
    """Give the chunks of a body (RFC 9112 7.1)."""
    while said.is_endless:
        yield b"400\r\n" + b"A" * 1024 + b"\r\n"
    for at in range(0, len(said.body), 100):
        part = said.body[at : at + 100]
        yield b"%x\r\n%b\r\n" % (len(part), part)
    yield b"0\r\n\r\n"


@contextmanager
def serving(maker: OtherMaker) -> Iterator[OtherMaker]:
    """Serve on a free port of loopback while the body runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(maker))
    server.daemon_threads = True
    context = maker.context
    context.maximum_version = maker.tls
    pair = maker.servers.leaf("localhost", hosts=["localhost"], usages=[ExtendedKeyUsageOID.SERVER_AUTH])
    context.load_cert_chain(*pair.write(maker.folder, "est-server"))
    context.load_verify_locations(cadata=maker.trust_pem)
    context.verify_mode = ssl.CERT_OPTIONAL
    server.socket = context.wrap_socket(server.socket, server_side=True)
    maker.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield maker
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
