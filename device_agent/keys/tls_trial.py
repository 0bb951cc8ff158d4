"""A TLS handshake of this process with itself: shows that a context can authenticate, before it is used.

Nothing leaves the process. Each version of TLS that is spoken is tried, as they sign in different ways.
"""

import ssl
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from device_agent.errors import KeyStoreError
from device_agent.keys.chains import readable

_NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME of OpenSSL's x509_vfy.h: the clock may be wrong, and it is not what is tried."""
_VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
_MOST_TURNS = 10


def require_handshake(client: ssl.SSLContext, *, chain_pem: str) -> None:
    """Have a client context authenticate with its key and this chain, leaf first, in each version of TLS.

    Raises:
        KeyStoreError: it cannot.
    """
    end = "-----END CERTIFICATE-----\n"
    leaf = chain_pem.partition(end)[0] + end
    server = _server(leaf)
    for version in (each for each in _VERSIONS if _speaks(client, each)):
        server.minimum_version = server.maximum_version = version
        try:
            _shake(client, server)
        except ssl.SSLError as error:
            raise KeyStoreError(
                f"a trial of the key in {version.name} failed", hint="device-agent doctor"
            ) from error


def _speaks(context: ssl.SSLContext, version: ssl.TLSVersion) -> bool:
    """Tell whether a context speaks a version: the machine's configuration may bound what OpenSSL does."""
    most = context.maximum_version
    return context.minimum_version <= version and (
        most is ssl.TLSVersion.MAXIMUM_SUPPORTED or version <= most
    )


def _server(leaf_pem: str) -> ssl.SSLContext:
    """Return a context of a server that wants this very certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME
    context.load_verify_locations(cadata=leaf_pem)
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    with readable(_certificate(key) + pem) as both:
        context.load_cert_chain(both)
    return context


def _certificate(key: ec.EllipticCurvePrivateKey) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "trial")])
    begins = datetime(2020, 1, 1, tzinfo=UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(Encoding.PEM).decode()


def _shake(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    """Bring two contexts together; raises `ssl.SSLError`, and also where they come to no end."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(down, up), server.wrap_bio(up, down, server_side=True)]
    for _ in range(_MOST_TURNS):
        ends = [end for end in ends if not _is_done(end)]
        if not ends:
            return
    raise ssl.SSLError("the handshake has no end")


def _is_done(end: ssl.SSLObject) -> bool:
    try:
        end.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True
