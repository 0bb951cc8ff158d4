"""Webhooks: a notification as a CloudEvent 1.0 (structured JSON), posted over HTTPS and signed.

`Fleet-Signature: t=SECONDS,v1=HEX`: HMAC-SHA-256 over `SECONDS.BODY` with the secret's text as the key. Any
2xx is a yes, whatever stands in it; nothing of an answer's body is read, and no redirect followed.
"""

import hashlib
import hmac
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from device_agent.wire.secret import Secret
from fleet.channel_sections import HookConfig
from fleet.core.letter import CLOUD_EVENTS, Letter
from fleet.errors import RefusedError, UnreachableError
from fleet.outbound import HttpsPoster, Target, client_tls, read_shared_secret, require_public
from fleet.ports import Clock

SIGNATURE = "Fleet-Signature"


class HookCarrier:
    """`ra.carrier.Carrier` by HTTPS."""

    def __init__(self, settings: HookConfig, *, root: Path, clock: Clock) -> None:
        self._settings, self._root, self._clock = settings, root, clock

    async def carry(self, letter: Letter, address: str) -> str:
        """Return the status; raises as `Carrier` says. There is one receiver: `address` is empty."""
        settings, body = self._settings, letter.cloud_event()
        secret = read_shared_secret(settings.secret_file, root=self._root)
        headers = {
            "Content-Type": CLOUD_EVENTS,
            SIGNATURE: signature_of(secret, at=int(self._clock().timestamp()), body=body),
        }
        target = Target(
            url=settings.url,
            timeout=settings.timeout,
            trust=settings.trust,
            private_hosts=settings.private_hosts,
        )
        answered = await HttpsPoster(target, root=self._root).post(body, headers, most=0)
        return _judged(answered.status)

    def check(self) -> None:
        """Read the secret and the roots, and look at an address that is literal; raises `FleetError`."""
        require_public(urlsplit(self._settings.url).hostname or "", allowed=self._settings.private_hosts)
        client_tls(self._settings.trust, root=self._root)
        read_shared_secret(self._settings.secret_file, root=self._root)


def signature_of(secret: Secret, *, at: int, body: bytes) -> str:
    """Return the signature header of a body, signed so many seconds after 1970."""
    mac = hmac.digest(secret.reveal().encode(), f"{at}.".encode() + body, hashlib.sha256)
    return f"t={at},v1={mac.hex()}"


def _judged(status: int) -> str:
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return f"status {status}"
    if status == HTTPStatus.GONE:
        # CloudEvents' HTTP webhooks, 4.1: whoever says so is to be left alone.
        raise RefusedError("the webhook answers 410: it wants nothing any more")
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        raise UnreachableError(f"the webhook answers {status}: redirects are not followed, name its new url")
    raise UnreachableError(f"the webhook answers {status}")
