"""Mail (RFC 5321, RFC 5322): one message to one mailbox, over TLS unless the configuration says otherwise.

The Message-ID is made of the notification's id, so that a message that came twice can be told. SMTP knows no
more than that: where a server took a message and the connection broke before it said so, it is sent again.
"""

import asyncio
import ssl
from contextlib import suppress
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from pathlib import Path

import aiosmtplib

from device_agent.wire.secret import Secret
from fleet.channel_sections import MailConfig, MailSecurity, is_mail_address
from fleet.core.letter import Letter
from fleet.core.notification import line
from fleet.errors import RefusedError, UnreachableError
from fleet.files import read_secret
from fleet.outbound import client_tls, connected, require_public

ID_HEADER = "Fleet-Notification"
_GOOD_BYE_SECONDS = 2.0
_LOGIN_WANTED = 530
"""RFC 4954 6: about who we are, and not about the message."""


class MailCarrier:
    """`ra.carrier.Carrier` by SMTP; each message is a connection of its own."""

    def __init__(self, settings: MailConfig, *, root: Path) -> None:
        self._settings, self._root = settings, root

    async def carry(self, letter: Letter, address: str) -> str:
        """Return what the mail server said; raises as `Carrier` says."""
        message = message_of(letter, sender=self._settings.sender, to=address)
        tls = client_tls(self._settings.trust, root=self._root)
        password = self._password()
        try:
            return await self._send(message, address, tls, password)
        except aiosmtplib.SMTPRecipientsRefused as error:
            raise _refusal(error.recipients[0]) from error
        except aiosmtplib.SMTPResponseException as error:
            raise _refusal(error) from error
        except TimeoutError as error:
            seconds = self._settings.timeout.total_seconds()
            raise UnreachableError(f"the mail server did not take it within {seconds:.0f} s") from error
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            raise UnreachableError(f"the mail server cannot be used: {_words(error)}") from error

    async def _send(self, message: bytes, to: str, tls: ssl.SSLContext, password: Secret | None) -> str:
        client: aiosmtplib.SMTP | None = None
        try:
            async with asyncio.timeout(self._settings.timeout.total_seconds()):
                client = await self._client(tls)
                await client.connect()
                if password is not None:
                    await client.login(self._settings.user, password.reveal())
                _, said = await client.sendmail(self._settings.sender, [to], message)
            # What was taken stays taken, however the server says good-bye.
            with suppress(aiosmtplib.SMTPException, OSError):
                await client.quit(timeout=_GOOD_BYE_SECONDS)
            return said
        finally:
            if client is not None and isinstance(client.transport, asyncio.Transport):
                client.transport.abort()

    async def _client(self, tls: ssl.SSLContext) -> aiosmtplib.SMTP:
        settings = self._settings
        return aiosmtplib.SMTP(
            hostname=settings.host,
            sock=await connected(settings.host, settings.port, allowed=settings.private_hosts),
            use_tls=settings.security is MailSecurity.TLS,
            start_tls=settings.security is MailSecurity.STARTTLS,
            tls_context=None if settings.security is MailSecurity.NONE else tls,
            local_hostname=settings.sender.partition("@")[2],
        )

    def check(self) -> None:
        """Read the password and the roots, and look at an address that is literal; raises `FleetError`."""
        require_public(self._settings.host, allowed=self._settings.private_hosts)
        client_tls(self._settings.trust, root=self._root)
        self._password()

    def _password(self) -> Secret | None:
        file = self._settings.password_file
        return None if file is None else read_secret(self._root / file)


def message_of(letter: Letter, *, sender: str, to: str) -> bytes:
    """Return a notification as a mail, in ASCII; the same bytes at each attempt.

    Raises:
        RefusedError: an address is none that could stand in a header.
    """
    if not is_mail_address(to) or not is_mail_address(sender):
        raise RefusedError("an address of the mail is not a plain mail address")
    message = EmailMessage(policy=SMTP_POLICY.clone(cte_type="7bit"))
    message["From"], message["To"] = sender, to
    message["Subject"] = letter.title
    message["Date"] = letter.at
    message["Message-ID"] = f"<{letter.id}@{sender.partition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834 5: nobody's absence note comes back
    message[ID_HEADER] = letter.id
    message.set_content(letter.text())
    return message.as_bytes()


def _refusal(error: aiosmtplib.SMTPResponseException) -> RefusedError | UnreachableError:
    """Return what a reply means: RFC 5321 4.2.1 has 5xx for what must not be tried again as it is.

    Only a reply about the message counts as such: what is wrong with the login or the server can be mended.
    """
    said = f"{error.code} {line(error.message)}"
    about_it = (aiosmtplib.SMTPRecipientRefused, aiosmtplib.SMTPSenderRefused, aiosmtplib.SMTPDataError)
    if isinstance(error, about_it) and error.code // 100 == 5 and error.code != _LOGIN_WANTED:
        return RefusedError(f"the mail server refuses it: {said}")
    return UnreachableError(f"the mail server does not take it now: {said}")


def _words(error: Exception) -> str:
    return line(str(error)) or type(error).__name__
