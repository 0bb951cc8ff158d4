"""TLS contexts by which this device talks to its servers: its own roots only, never those of the system.

Where the system's clock is wrong, the library must not judge dates by it; they are judged here then, right
after the handshake and before anything is said.
"""

import ssl
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path

from device_agent.core.certificates import lifetime, load
from device_agent.core.clock import Moment, TimeSource
from device_agent.core.record import Anchor
from device_agent.errors import BadInputError
from device_agent.wire.problems import MalformedMessageError

_NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME of OpenSSL's x509_vfy.h; all other checks stay."""


def client_context(servers: Iterable[Anchor], *, moment: Moment | None = None) -> ssl.SSLContext:
    """Return a context that trusts servers by these roots alone, and shows no certificate yet.

    Host names are checked (RFC 9525 6); TLS 1.2 is the least (RFC 9325 3.1.1). Dates are judged by the
    system's clock, but by `moment` where that says that the system's clock is not believed.

    Raises:
        BadInputError: there is no root, or one cannot be read.
    """
    roots = "".join(anchor.pem for anchor in servers)
    if not roots:
        raise BadInputError(
            "nothing says which servers to trust", hint="give the roots with --trust trust/server.pem"
        )
    context = _context(moment)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cadata=roots)
    except ssl.SSLError as error:
        raise BadInputError("the roots to trust servers by cannot be read") from error
    return context


def show(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """Have a context show a certificate that is in a PEM file, its key in another.

    Raises:
        BadInputError: they cannot be used.
    """
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise BadInputError(
            f"the certificate {certificate} and its key cannot be used: {_reason(certificate, key)}",
            hint="give both files: --claim CERT,KEY; the shell leaves a ~ after the comma as it is",
        ) from error


def _reason(certificate: str, key: str) -> str:
    """Say why a pair of files cannot be used; what they hold is told to nobody."""
    missing = [path for path in (certificate, key) if not Path(path).is_file()]
    return f"there is no file {' and no '.join(missing)}" if missing else "no PEM files that fit each other"


def _context(moment: Moment | None) -> ssl.SSLContext:
    if moment is None or moment.source is TimeSource.SYSTEM:
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context = DatedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= _NO_CHECK_TIME
    context.moment = moment
    return context


class DatedSocket(ssl.SSLSocket):
    """A socket whose handshake ends with a look at the dates, where its context wants that."""

    def do_handshake(self, block: bool = False) -> None:
        super().do_handshake(block)
        _judge(self)


class DatedObject(ssl.SSLObject):
    """The same for asyncio."""

    def do_handshake(self) -> None:
        super().do_handshake()
        _judge(self)


class DatedContext(ssl.SSLContext):
    """Judges the dates of a server's chain by a moment that is believed."""

    sslsocket_class = DatedSocket
    sslobject_class = DatedObject
    moment: Moment | None = None
    ends: datetime | None = None
    """When the first certificate of the chain that passed last ends."""

    def judge(self, chain: Sequence[bytes]) -> None:
        """Let a verified chain pass, DER, the anchor with it.

        Raises:
            ssl.SSLCertVerificationError: a certificate is not valid at that moment, or none was verified.
        """
        if not chain or self.moment is None:
            raise _refusal("no chain was verified")
        lives = [_life(der) for der in chain]
        for begins, ends in lives:
            if not self.moment.covers(begins, ends):
                raise _refusal(
                    f"valid from {begins:%Y-%m-%d} to {ends:%Y-%m-%d}, and it is {self.moment.words}"
                )
        self.ends = min(ends for _, ends in lives)


def is_outdated(context: ssl.SSLContext, moment: Moment) -> bool:
    """Tell whether a chain that a context let pass has ended by a moment that is known better."""
    return isinstance(context, DatedContext) and context.ends is not None and context.ends < moment.now


def _life(der: bytes) -> tuple[datetime, datetime]:
    try:
        certificate = load(der)
    except MalformedMessageError as error:
        raise _refusal(str(error)) from error
    return lifetime(certificate)


def _judge(tls: ssl.SSLSocket | ssl.SSLObject) -> None:
    if isinstance(tls.context, DatedContext):
        tls.context.judge(_verified_chain(tls))


def _verified_chain(tls: ssl.SSLSocket | ssl.SSLObject) -> list[bytes]:
    public: Callable[[], list[bytes]] | None = getattr(tls, "get_verified_chain", None)
    if public is not None:  # Python 3.13
        return public()
    inner = getattr(tls, "_sslobj", None)
    if inner is None:
        return []
    return [ssl.PEM_cert_to_DER_cert(one.public_bytes()) for one in inner.get_verified_chain() or ()]


def _refusal(why: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, f"[SSL: CERTIFICATE_VERIFY_FAILED] {why}")
    error.verify_message = why
    return error
