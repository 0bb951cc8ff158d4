"""Lends the device's key for signing: a 0600 unix socket of its own, one JSON line each way.

For programs that can speak neither PKCS#11 nor read a key file. It never gives the key away, and never
signs what would speak to a server as the device.
"""

import base64
from collections.abc import Callable, Mapping

from device_agent.control import Act
from device_agent.core.lending import reason_against
from device_agent.core.rate import Rate
from device_agent.errors import RefusedError
from device_agent.life import Life
from device_agent.wire.fields import Fields
from device_agent.wire.identity import parse_name
from device_agent.wire.problems import MalformedMessageError, ProblemCode, Retry

MAX_MESSAGE_BYTES = 32 * 1024
_PER_SECOND = 10.0
_BURST = 50


class LentSigner:
    """Acts of the socket. `seconds` is a clock that never goes back."""

    def __init__(self, life: Life, *, seconds: Callable[[], float]) -> None:
        self._life, self._seconds = life, seconds
        self._rate = Rate(per_second=_PER_SECOND, burst=_BURST)

    @property
    def acts(self) -> Mapping[str, Act]:
        """What can be asked."""
        return {"identity": self.identity, "sign": self.sign}

    async def identity(self, _fields: Fields) -> Mapping[str, object]:
        """Tell whose key it is; raises `NotEnrolledError`."""
        active = self._life.active
        identity = parse_name(active.broker.name)
        return {
            "name": identity.name,
            "domain": identity.domain,
            "device_id": identity.device_id,
            "serial": active.serial,
            "certificate": active.certificate,
            "chain": active.chain,
        }

    async def sign(self, fields: Fields) -> Mapping[str, object]:
        """Sign `message`, base64, as `ports.Signer` does; tell which certificate it is checked with.

        Raises:
            RefusedError: such a message is not signed, or not so often.
            MalformedMessageError: there is no message of at most 32 KiB.
            NotEnrolledError, KeyStoreError: there is no key to sign with.
        """
        message = fields.base64("message", longest=MAX_MESSAGE_BYTES)
        if len(message) > MAX_MESSAGE_BYTES:
            raise MalformedMessageError(f"message must not exceed {MAX_MESSAGE_BYTES} bytes")
        reason = reason_against(message)
        if reason is not None:
            raise RefusedError(
                f"this message is not signed: {reason}", code=ProblemCode.NOT_ALLOWED, retry=Retry.NEVER
            )
        if not self._rate.allow(self._seconds()):
            raise RefusedError(
                "too many signatures are asked for",
                code=ProblemCode.RATE_LIMITED,
                retry=Retry.LATER,
                hint=f"at most {_PER_SECOND:.0f} a second",
            )
        active = self._life.active
        signature = self._life.signer(active.key).sign(message)
        return {"serial": active.serial, "signature": base64.b64encode(signature).decode()}
