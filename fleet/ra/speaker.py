"""Finds out which device's certificate speaks, from what the channel proved and the certificate's row.

A row that is not a device's speaks for nobody here; whether its state still lets it speak, the core says.
"""

from dataclasses import dataclass

from device_agent.wire.identity import Identity
from device_agent.wire.problems import ProblemCode
from fleet.core import events
from fleet.errors import RefusedError
from fleet.model import Purpose
from fleet.ra.context import Asker, Context, Listener
from fleet.store.certificates import load_certificate


@dataclass(frozen=True, slots=True, kw_only=True)
class Speaker:
    """A device, by one certificate of its own."""

    identity: Identity
    serial: str
    via: events.Via
    asker: Asker
    """By what way it speaks."""

    @property
    def address(self) -> str:
        return self.asker.address


async def speaker_of(context: Context, asker: Asker) -> Speaker:
    """Return the device that asks.

    Raises:
        RefusedError: the channel proved none.
    """
    via = events.Via.RECOVERY if asker.listener is Listener.RECOVERY else events.Via.ADMITTED
    if asker.listener is Listener.OPERATIONAL and asker.identity is not None:
        # The guard lets a certificate publish under its own name and serial alone.
        return Speaker(identity=asker.identity, serial=asker.serial, via=via, asker=asker)
    if asker.certificate is None:
        raise RefusedError("this needs the certificate of a device")
    row = await context.store.read(load_certificate, asker.certificate.serial)
    if (
        row is None
        or row.purpose is not Purpose.DEVICE
        or row.signed is None
        or row.identity is None
        or row.issuer != asker.certificate.issuer
        or row.signed.fingerprint != asker.certificate.fingerprint
    ):
        raise RefusedError(
            "the certificate shown is no device's of this fleet", code=ProblemCode.UNKNOWN_DEVICE
        )
    if asker.domain not in {"", row.identity.domain}:
        raise RefusedError("the certificate shown is of another domain")
    return Speaker(identity=row.identity, serial=row.serial, via=via, asker=asker)
