"""A mail server for tests, a real one (aiosmtpd), that also does what none should."""

import asyncio
import ssl
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import SMTP as SMTP_POLICY
from pathlib import Path
from typing import cast

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.pki import Authority, pem_of

USER, PASSWORD = "fleet", "correct horse battery staple"


@dataclass(kw_only=True)
class PostOffice:
    """What it has taken, and how it behaves; aiosmtpd calls the methods `handle_...`."""

    port: int = 0
    ca: Path = Path()
    messages: list[EmailMessage] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    envelopes: list[tuple[str | None, list[str]]] = field(default_factory=list)
    users: list[str] = field(default_factory=list)
    tls: list[bool] = field(default_factory=list)
    says_to_recipient: str = "250 OK"
    says_to_data: str = "250 taken"
    hangs_in_data: bool = False
    closes_in_data: bool = False
    closes_after_data: bool = False
    hangs_at_the_end: bool = False
    greeted: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        envelope.rcpt_tos.append(address)
        return self.says_to_recipient

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        self.greeted.set()
        if self.hangs_in_data:
            await asyncio.Event().wait()
        if self.closes_in_data:
            cast("asyncio.Transport", server.transport).abort()
            return "421 never heard"
        if self.says_to_data.startswith("250"):
            content = cast("bytes", envelope.content)
            self.raw.append(content)
            message = BytesParser(policy=SMTP_POLICY).parsebytes(content)
            self.messages.append(cast("EmailMessage", message))
            self.envelopes.append((envelope.mail_from, list(envelope.rcpt_tos)))
            self.tls.append(session.ssl is not None)
        if self.closes_after_data:
            cast("asyncio.Transport", server.transport).abort()
        return self.says_to_data

    async def handle_QUIT(self, _server: SMTP, _session: Session, _envelope: Envelope) -> str:  # noqa: N802
        if self.hangs_at_the_end:
            await asyncio.Event().wait()
        return "221 Bye"

    def authenticate(
        self, _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: LoginPassword
    ) -> AuthResult:
        if (data.login, data.password) != (USER.encode(), PASSWORD.encode()):
            return AuthResult(success=False, handled=False)
        self.users.append(data.login.decode())
        return AuthResult(success=True)


@asynccontextmanager
async def post_office(
    folder: Path, *, implicit_tls: bool = False, starttls: bool = True, login: bool = False
) -> AsyncIterator[PostOffice]:
    """Run a mail server on a free port of loopback, under the name localhost."""
    root = Authority.root("Post Root")
    pair = root.leaf("localhost", usages=(ExtendedKeyUsageOID.SERVER_AUTH,), hosts=("localhost",))
    certificate, key = pair.write(folder, "post")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    office = PostOffice(ca=folder / "post-root.pem")
    office.ca.write_bytes(pem_of(root.certificate))
    loop = asyncio.get_running_loop()
    protocols: list[SMTP] = []

    def made() -> SMTP:
        with warnings.catch_warnings():
            # It does not see that its connections are in TLS from the first byte on.
            warnings.simplefilter("ignore")
            one = SMTP(
                office,
                hostname="localhost",
                tls_context=tls if starttls and not implicit_tls else None,
                auth_required=login,
                auth_require_tls=not implicit_tls,
                authenticator=office.authenticate if login else None,
                loop=loop,
            )
        protocols.append(one)
        return one

    server = await loop.create_server(made, "localhost", 0, ssl=tls if implicit_tls else None)
    office.port = server.sockets[0].getsockname()[1]
    try:
        yield office
    finally:
        server.close()
        for one in protocols:
            if one.transport is not None:
                cast("asyncio.Transport", one.transport).abort()
        await server.wait_closed()
