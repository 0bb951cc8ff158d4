"""What the agent needs of the world, as protocols beside their user: keys, and ways to the server.

No protocol hands out a private key: a signer signs, and arms a TLS context; where its key lives is its
own affair.
"""

import ssl
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Protocol, TypeAlias

from device_agent.core.clock import Moment
from device_agent.core.est import EstServer, Place
from device_agent.wire.evidence import TpmIdentity
from device_agent.wire.identity import Identity
from device_agent.wire.replies import Challenge, Pending, Problem, Reply
from device_agent.wire.requests import Evidence, Request
from device_agent.wire.secret import Secret


class Linked(Enum):
    """Whether a request of EST is tied to the TLS connection that it goes over."""

    NO = "no"
    WHERE_TLS_CAN = "where TLS can"


class Tunnel(Protocol):
    """TLS to one server, made by another process of this device."""

    @property
    def socket(self) -> Path:
        """Where it is entered; for its owner alone."""
        ...

    async def require_tls(self) -> None:
        """Return where TLS came about; raises `ChannelError` where it did not."""
        ...


class Sidecar(Protocol):
    """Makes TLS with a key that this process cannot use for it."""

    def running(self, host: str, port: int) -> AbstractAsyncContextManager[Tunnel]:
        """Run for one server; raises `KeyStoreError` where it does not start."""
        ...


class Signer(Protocol):
    """One key of this device."""

    @property
    def name(self) -> str:
        """The generation by which the key store knows the key."""
        ...

    @property
    def public_key_der(self) -> bytes:
        """SubjectPublicKeyInfo (RFC 5280 4.1.2.7)."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Sign with SHA-256: ECDSA in DER (RFC 3279 2.2.3), or PKCS#1 v1.5 for RSA.

        Raises:
            KeyStoreError: the key cannot be used.
        """
        ...

    def arm(self, context: ssl.SSLContext, *, chain_pem: str) -> Sidecar | None:
        """Make a TLS client context authenticate with this key and its certificate chain, leaf first.

        Where this process cannot, return who does it instead, as strict as the context.

        Raises:
            KeyStoreError: key and leaf do not fit, or the key cannot be used.
        """
        ...


class KeyStore(Protocol):
    """The keys of this device, each under the name of its generation."""

    def create(self, name: str) -> Signer:
        """Make a key that is durable when this returns; `KeyStoreError` where the name is taken."""
        ...

    def open(self, name: str) -> Signer:
        """Return a key that exists; `KeyStoreError` where it does not, or cannot be used."""
        ...

    def destroy(self, name: str) -> None:
        """Make a key unusable for ever; no error where there is none."""
        ...

    def names(self) -> tuple[str, ...]:
        """Return the generations that exist."""
        ...

    def reference(self, name: str) -> Path | str:
        """Return what other programs of this device find the key by.

        It is a file, a PKCS#11 URI (RFC 7512), or `tpm:` and the file of a key that a TPM has wrapped.
        """
        ...


class Clock(Protocol):
    """What time it is to this device."""

    def __call__(self) -> datetime:
        """Return the time that is believed now."""
        ...

    def moment(self) -> Moment:
        """Return that, and how it is known."""
        ...

    def is_due(self) -> bool:
        """Tell whether the server is to be asked."""
        ...

    def hear(self, told: datetime) -> None:
        """Take a time whose signature was found right; raises `UntrustedTimeError` below the floor."""
        ...

    def at_least(self, floor: datetime) -> None:
        """Know that it is so late: a certificate that was accepted begins then."""
        ...


class Attestor(Protocol):
    """What proves which device this is, and where its key lives: a TPM, or a manufacturer's certificate."""

    def identity(self) -> TpmIdentity | None:
        """Return which TPM would answer, None where it is none; raises `KeyStoreError`."""
        ...

    def answer(self, challenge: Challenge, *, device_id: str, key: str, key_hash: str) -> Evidence:
        """Return the evidence for a key of this device, by its name and its hash; raises `KeyStoreError`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimLogin:
    """How the bootstrap listener is reached. `client` is the hex SHA-256 of the CSR's public key."""

    host: str
    port: int
    client: str
    tls: ssl.SSLContext = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationalLogin:
    """How the operational listener is reached with the certificate of this serial."""

    host: str
    port: int
    identity: Identity
    serial: str
    tls: ssl.SSLContext = field(repr=False)
    via: Sidecar | None = None
    """Who makes TLS instead, where there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpsLogin:
    """How the HTTPS listener is reached, with the certificate of this serial; empty: with none."""

    host: str
    port: int
    serial: str
    tls: ssl.SSLContext = field(repr=False)
    via: Sidecar | None = None
    """As of `OperationalLogin`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EstLogin:
    """How an EST server is reached; `tls` shows a certificate where there is one to show."""

    server: EstServer
    tls: ssl.SSLContext = field(repr=False)
    user: str = ""
    password: Secret | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EstIssued:
    """What an EST server issued: certificates, DER, in no order, and what a fleet's server says beside it."""

    certificates: tuple[bytes, ...]
    place: Place | None = None


EstReply: TypeAlias = EstIssued | Pending | Problem


class EstClient(Protocol):
    """An EST server, asked (RFC 7030). Every method raises `ChannelError`."""

    async def cacerts(self) -> tuple[bytes, ...]:
        """Return the server's CAs, DER.

        Raises:
            NotAdmittedError: it closed the connection on our certificate.
        """
        ...

    async def wants_link(self) -> bool:
        """Tell whether it asks for a link between a request and its TLS connection (RFC 7030 3.5)."""
        ...

    async def enroll(self, request: Callable[[bytes], bytes], *, linked: Linked) -> EstReply:
        """Ask for the first certificate.

        Args:
            request: makes the PKCS#10 request, DER, for the link of the connection; empty for none.
            linked: whether the server asks for the link.
        """
        ...

    async def reenroll(self, request: Callable[[bytes], bytes], *, linked: Linked) -> EstReply:
        """Ask for the next certificate, as `enroll`; raises as `cacerts`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryLogin:
    """How a device is heard whose certificate no longer opens a listener: by a signature of its key."""

    host: str
    port: int
    fleet: str
    domain: str
    certificate: str
    """The leaf in question, PEM."""
    sign: Callable[[bytes], bytes]
    tls: ssl.SSLContext = field(repr=False)


class Asker(Protocol):
    """A way to the server that is open now."""

    async def ask(self, request: Request) -> Reply:
        """Return the reply to this very request.

        Raises:
            ChannelError: it did not come in time, or the way was lost. The request may have been done.
        """
        ...


class Link(Asker, Protocol):
    """The operational connection: requests, and messages beside them."""

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Return once the broker has the message (QoS 1); raises `ChannelError`."""
        ...

    async def subscribe(self, topic_filter: str) -> None:
        """Return once the subscription stands (QoS 1); raises `ChannelError`."""
        ...


class Listener(Protocol):
    """Hears what a connection has to say by itself. Must neither wait nor raise."""

    def message(self, topic: str, payload: bytes) -> None:
        """Take a message that is no reply."""
        ...

    def lost(self, why: str) -> None:
        """Hear that the connection has ended, whoever ended it."""
        ...


class Ways(Protocol):
    """The ways to the server. Entering raises `ChannelError`, `NotAdmittedError` when turned away."""

    def claim(self, login: ClaimLogin) -> AbstractAsyncContextManager[Asker]:
        """Open the bootstrap listener."""
        ...

    def operational(self, login: OperationalLogin, listener: Listener) -> AbstractAsyncContextManager[Link]:
        """Open the operational listener; the session there outlives the connection."""
        ...

    def https(self, login: HttpsLogin) -> AbstractAsyncContextManager[Asker]:
        """Open the HTTPS listener, by the certificate; asking there may raise `NotAdmittedError`, too."""
        ...

    def recovery(self, login: RecoveryLogin) -> AbstractAsyncContextManager[Asker]:
        """Open the recovery listener."""
        ...

    def est(self, login: EstLogin) -> EstClient:
        """Return who asks an EST server; nothing is connected before it is asked."""
        ...
