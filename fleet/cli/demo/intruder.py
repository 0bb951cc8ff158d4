"""An MQTT client that tries what it must not, and tells how it was refused."""

import asyncio
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiomqtt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from fleet.errors import FleetError
from fleet.files import write_file

_SECONDS = 10.0
_CONNACK = b"\x20"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a client shows, and what it trusts the broker by."""

    trust: Path
    certificate: Path | None = None
    chain: Path | None = None
    key: Path | None = None

    def context(self) -> ssl.SSLContext:
        """Return the TLS context of a client."""
        context = ssl.create_default_context(cafile=str(self.trust))
        # RFC 8446 4.4.2.4: in TLS 1.3 the refusal comes after the handshake, and is lost in what follows.
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        if self.certificate is not None and self.key is not None:
            together = self.certificate
            if self.chain is not None:
                together = self.key.with_name("shown.pem")
                write_file(together, self.certificate.read_bytes() + self.chain.read_bytes())
            context.load_cert_chain(together, self.key)
        return context


def of_device(current: Path, *, trust: Path, scratch: Path) -> Credentials:
    """Return the credentials that lie in a device's state folder, copied out of it."""
    scratch.mkdir(parents=True, exist_ok=True)
    for name in ("cert.pem", "chain.pem", "key.pem"):
        write_file(scratch / name, (current / name).read_bytes())
    return Credentials(
        trust=trust,
        certificate=scratch / "cert.pem",
        chain=scratch / "chain.pem",
        key=scratch / "key.pem",
    )


def self_signed(name: str, *, trust: Path, scratch: Path, now: datetime) -> Credentials:
    """Return credentials that look like a device's, signed by nobody but themselves."""
    scratch.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_file(scratch / "key.pem", plain)
    write_file(scratch / "cert.pem", certificate.public_bytes(Encoding.PEM))
    return Credentials(trust=trust, certificate=scratch / "cert.pem", key=scratch / "key.pem")


async def refused(credentials: Credentials, port: int, *, client_id: str) -> str:
    """Try to connect; return how that was refused.

    Raises:
        FleetError: it was let in, or nobody answered, which is no refusal.
    """
    how = await _try(credentials, port, client_id)
    if how is None:
        raise FleetError(f"{client_id} was let in")
    return how


async def let_in(credentials: Credentials, port: int, *, client_id: str) -> None:
    """Connect in the same way as who one is: what is refused otherwise is not refused for the way of asking.

    Raises:
        FleetError: it was refused.
    """
    how = await _try(credentials, port, client_id)
    if how is not None:
        raise FleetError(f"{client_id} was refused as itself: {how}")


async def _try(credentials: Credentials, port: int, client_id: str) -> str | None:
    """Connect; return how that was refused, or None."""
    try:
        async with asyncio.timeout(_SECONDS):
            answer = await _connect(credentials, port, client_id)
    except TimeoutError as error:
        raise FleetError(f"{client_id} was neither let in nor refused") from error
    except ssl.SSLError as error:
        return (error.reason or str(error)).lower().replace("_", " ")
    except ConnectionResetError:
        return "connection reset"
    if answer[:1] != _CONNACK:
        return "connection closed"
    return None if answer[3] == 0 else f"connection refused, code {answer[3]}"


async def _connect(credentials: Credentials, port: int, client_id: str) -> bytes:
    """Return the first four bytes that the broker answers to CONNECT (MQTT 3.1.1 3.1, 3.2), or fewer."""
    reader, writer = await asyncio.open_connection("localhost", port, ssl=credentials.context())
    try:
        name = client_id.encode()
        variable = b"\0\4MQTT\4\0\0\x3c" + len(name).to_bytes(2, "big") + name
        writer.write(b"\x10" + len(variable).to_bytes(1, "big") + variable)
        await writer.drain()
        return await reader.readexactly(4)
    except asyncio.IncompleteReadError as error:
        return error.partial
    finally:
        writer.transport.abort()


async def overstep(credentials: Credentials, port: int, *, client_id: str, foreign: str, own: str) -> str:
    """Connect as who one is, then listen and speak on a foreign topic; end with a word on an own one.

    Returns how the subscription was refused. The broker takes messages of one connection in their order:
    when the last one was delivered, the first one was judged before it.

    Raises:
        FleetError: the subscription was granted.
    """
    async with asyncio.timeout(_SECONDS), _client(credentials, port, client_id) as client:
        granted = await _granted(client, foreign)
        if granted:
            raise FleetError(f"{client_id} may listen to {foreign}")
        await client.publish(foreign, b"let me in", qos=1)
        await client.publish(own, b"my own", qos=1)
    return "subscription refused, publication dropped"


async def _granted(client: aiomqtt.Client, topic: str) -> bool:
    """MQTT 3.1.1 3.9.3: 0x80 in a SUBACK is a refusal; the library says so by the codes or by an error."""
    try:
        codes = await client.subscribe(topic, qos=1)
    except aiomqtt.MqttError:
        return False
    return any((code if isinstance(code, int) else code.value) < 0x80 for code in codes)


def _client(credentials: Credentials, port: int, client_id: str) -> aiomqtt.Client:
    return aiomqtt.Client(
        "localhost",
        port,
        identifier=client_id,
        tls_context=credentials.context(),
        clean_session=False,
        timeout=_SECONDS,
    )


def utc_now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)
