"""A server certificate that somebody brings, such as a public CA's: looked at, judged, taken in while we run.

What is not fit is refused with its reason, and what was in use before stays in use.
"""

import asyncio
import ssl
import tempfile
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from fleet.config import ServerConfig
from fleet.core.unreadable import UNREADABLE
from fleet.errors import BadInputError, FleetError
from fleet.files import PUBLIC_MODE, read_secret_bytes, telling, write_file
from fleet.home import Home
from fleet.model import AuditEntry
from fleet.pair_files import Content, in_force, switch
from fleet.ra.context import Context
from fleet.store import audit

_GROUP_MAY_READ = 0o037
"""Mode bits that must be off: whoever fetches certificates often gives their keys to a group."""
_NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME: dates are judged by our clock, in a sentence of ours."""
_MOST_BYTES = 256 * 1024
_FLIGHTS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """The files as they were read."""

    certificate_pem: bytes
    """The leaf, then its chain."""
    key_pem: bytes = field(repr=False)


async def take_in(context: Context) -> bool:
    """Take a brought certificate into use if it is not the one in use; say whether it was another.

    Raises:
        BadInputError: it is not fit; what was in use stays.
        NeedsAttentionError: it is in use, but not everybody reads it yet.
    """
    server, home = context.config.server, context.home
    found = await asyncio.to_thread(read_brought, server)
    if found is None or found == await asyncio.to_thread(_in_use, home):
        return False
    trust = await asyncio.to_thread(home.server_trust.read_text)
    leaf = await asyncio.to_thread(judge, found, host=server.host, trust_pem=trust, now=context.clock())
    content = {
        home.server.key: Content(data=found.key_pem),
        home.server.certificate: Content(data=found.certificate_pem, mode=PUBLIC_MODE),
    }
    await asyncio.to_thread(switch, content, named=home.server.certificate)
    await context.store.write(audit.append, _entry(leaf, at=context.clock()))
    await context.tls_users.reload()
    return True


async def look(context: Context) -> None:
    """Take in what is new; remember why the newest is not in use, and raise each `FleetError` once."""
    known, context.tls_users.refused = context.tls_users.refused, ""
    try:
        await take_in(context)
    except FleetError as error:
        context.tls_users.refused = str(error)
        if known != str(error):
            raise


def ends_at(home: Home) -> datetime | None:
    """Return when the certificate in use ends, or None where it cannot be read."""
    in_use = _in_use(home)
    try:
        if in_use is not None:
            return x509.load_pem_x509_certificate(in_use.certificate_pem).not_valid_after_utc
    except UNREADABLE:
        pass
    return None


def read_brought(server: ServerConfig) -> Brought | None:
    """Return what the configuration names, or None where it names nothing. Raises `FleetError`."""
    if server.certificate is None or server.key is None:
        return None
    with telling(server.certificate):
        certificate_pem = server.certificate.read_bytes()
    # The client that fetches it may keep a link to the newest: what counts is where that leads.
    key_pem = read_secret_bytes(server.key.resolve(), closed=_GROUP_MAY_READ)
    if len(certificate_pem) > _MOST_BYTES:
        raise BadInputError(f"{server.certificate} is larger than {_MOST_BYTES} bytes")
    return Brought(certificate_pem=certificate_pem, key_pem=key_pem)


def judge(brought: Brought, *, host: str, trust_pem: str, now: datetime) -> x509.Certificate:
    """Return the leaf of a pair that devices would believe: they know `host`, and trust `trust_pem`.

    Raises:
        BadInputError: it is not fit, with what is wrong.
    """
    try:
        chain = x509.load_pem_x509_certificates(brought.certificate_pem)
        usage = chain[0].extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound as error:
        raise _unfit("it is not for servers (no extended key usage)") from error
    except UNREADABLE as error:
        raise _unfit("it cannot be read as PEM") from error
    if ExtendedKeyUsageOID.SERVER_AUTH not in usage:
        raise _unfit("it is not for servers (extended key usage serverAuth)")
    for one in chain:
        if not one.not_valid_before_utc <= now < one.not_valid_after_utc:
            times = f"{one.not_valid_before_utc:%Y-%m-%d} to {one.not_valid_after_utc:%Y-%m-%d}"
            raise _unfit(f"{one.subject.rfc4514_string()} is good from {times}, and not today")
    _shake_hands(_server_side(brought), _device_side(trust_pem), host)
    return chain[0]


def take_trust(home: Home, server: ServerConfig, *, own_pem: str) -> None:
    """Keep a copy of what devices are to trust servers by beside `own_pem`, the fleet's roots.

    What they trusted before stays as long as the certificate in use needs it: another one is on its way.

    Raises:
        BadInputError: the file holds no certificates.
    """
    wanted = b"" if server.trust is None else _read_trust(server.trust)
    before = home.brought_trust.read_bytes() if home.brought_trust.exists() else b""
    if before not in {b"", wanted} and not _is_believed(home, own_pem + wanted.decode(), server.host):
        wanted += before
    if wanted:
        write_file(home.brought_trust, wanted, mode=PUBLIC_MODE)
    else:
        home.brought_trust.unlink(missing_ok=True)


def _read_trust(path: Path) -> bytes:
    with telling(path):
        content = path.read_bytes()
    try:
        x509.load_pem_x509_certificates(content)
    except UNREADABLE as error:
        raise BadInputError(
            f"{path} holds no certificates", hint="name the CA's root, PEM: [server] trust"
        ) from error
    return content


def _is_believed(home: Home, trust_pem: str, host: str) -> bool:
    """Tell whether devices with this trust believe the certificate that is in use."""
    in_use = _in_use(home)
    try:
        if in_use is not None:
            _shake_hands(_server_side(in_use), _device_side(trust_pem), host)
    except BadInputError:
        return False
    return in_use is not None


def _in_use(home: Home) -> Brought | None:
    files = in_force(home.server)
    try:
        return Brought(certificate_pem=files.certificate.read_bytes(), key_pem=files.key.read_bytes())
    except OSError:
        return None


def _server_side(brought: Brought) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # The library takes them from files alone; this folder is nobody else's, and gone in a moment.
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = Path(folder) / "certificate", Path(folder) / "key"
        write_file(certificate, brought.certificate_pem)
        write_file(key, brought.key_pem)
        try:
            context.load_cert_chain(certificate, key, password=_no_password)
        except (OSError, ssl.SSLError) as error:
            raise _unfit("the key does not belong to it, or is encrypted") from error
    return context


def _no_password() -> str:
    """Keep OpenSSL from asking on the terminal."""
    return ""


def _device_side(trust_pem: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=trust_pem)
    context.verify_flags |= _NO_CHECK_TIME
    return context


def _shake_hands(server: ssl.SSLContext, device: ssl.SSLContext, host: str) -> None:
    """Let a device that has nothing but its trust meet the server, as it will in the field."""
    to_server, to_device = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = device.wrap_bio(to_device, to_server, server_hostname=host)
    other = server.wrap_bio(to_server, to_device, server_side=True)
    try:
        for side in (one, other) * _FLIGHTS:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    except ssl.SSLCertVerificationError as error:
        raise _unfit(f"devices would not believe it: {error.verify_message.rstrip('.').lower()}") from error
    except ssl.SSLError as error:
        raise _unfit(f"TLS does not work with it: {error.reason}") from error


def _unfit(why: str) -> BadInputError:
    return BadInputError(
        f"the server certificate that was brought is not fit: {why}",
        hint="see [server] in fleet.toml: certificate with its whole chain, key, trust; and host",
    )


def _entry(leaf: x509.Certificate, *, at: datetime) -> AuditEntry:
    details = (
        ("fingerprint", leaf.fingerprint(hashes.SHA256()).hex()),
        ("issuer", leaf.issuer.rfc4514_string()),
        ("until", f"{leaf.not_valid_after_utc:%Y-%m-%d}"),
    )
    return AuditEntry(at=at, action="certificate.brought", actor="server", details=details)
