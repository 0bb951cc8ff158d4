"""Finds out which device's certificate speaks, from what the channel proved and the certificate's row.

A row that is not a device's speaks for nobody here; whether its state still lets it speak, the core says.
"""

from dataclasses import dataclass

from device_agent.wire.identity import Identity
from device_agent.wire.problems import ProblemCode
from fleet.core import events
from fleet.errors import RefusedError
from fleet.model import Purpose
from fleet.ra.adopted.adopting import meet
from fleet.ra.context import Asker, Context, Listener
from fleet.ra.shown import ShownCertificate
from fleet.store.adopted import Shown, load_shown, record_at
from fleet.store.certificates import CertificateRecord


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


async def find_shown(context: Context, shown: ShownCertificate) -> CertificateRecord | None:
    """Return the record of a certificate; one of an adopted fleet's list is admitted as it shows itself."""
    named = Shown(issuer=shown.issuer, serial=shown.serial)
    return await context.store.read(load_shown, named) or await meet(context, shown)


async def speaker_of(context: Context, asker: Asker) -> Speaker:
    """Return the device that asks.

    Raises:
        RefusedError: the channel proved none.
    """
    via = events.Via.RECOVERY if asker.listener is Listener.RECOVERY else events.Via.ADMITTED
    if asker.listener is Listener.OPERATIONAL and asker.identity is not None:
        # The guard lets a certificate publish under its own name and serial alone.
        serial = await context.store.read(record_at, (asker.identity, asker.serial))
        return Speaker(identity=asker.identity, serial=serial, via=via, asker=asker)
    if asker.certificate is None:
        raise RefusedError("this needs the certificate of a device")
    row = await find_shown(context, asker.certificate)
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
