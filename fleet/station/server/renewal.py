"""Renews a station's certificate, each time with another key, long before its end and until it succeeds.

A renewal is a few steps, each of which can be repeated: the next key is made, certified, put in force, shown
to the server, which ends the one before, and the key before is done away with. It signs nothing else.
"""

import asyncio
import secrets
from collections.abc import Callable
from datetime import datetime, timedelta

from cryptography import x509

from device_agent.wire.problems import ProblemCode
from fleet.core.due import is_due
from fleet.core.profile import DEFAULT_PROFILES
from fleet.core.station_renewal import encode_renewal, encode_used, parse_ended, parse_next
from fleet.errors import BadInputError, RefusedError
from fleet.home import KeyPairFiles
from fleet.model import Purpose
from fleet.pair_files import in_force
from fleet.station.own.identity import StationIdentity, name_of
from fleet.station.own.next_key import (
    LABEL_RANDOMNESS,
    NextKey,
    begin,
    finish,
    give_up,
    is_begun,
    put_in_force,
)
from fleet.station.server.way import Server, Way, read

RETRY = timedelta(minutes=5)
"""A renewal that failed, because the server is away for instance, is tried again so much later."""
_HOPELESS = frozenset({ProblemCode.KEY_IN_USE, ProblemCode.BAD_KEY})
"""Refusals of the key itself: the next try is with another one."""


class Renewal:
    """The renewals of one station, as long as it works."""

    def __init__(
        self,
        way: Way,
        identity: StationIdentity,
        *,
        files: KeyPairFiles,
        server: Callable[[], Server],
        clock: Callable[[], datetime],
    ) -> None:
        """`server` returns where the server is, and what to show it, by the files in force."""
        self.identity = identity
        self.way = way
        self._files = files
        self._server = server
        self._clock = clock
        self._wait_until: datetime | None = None

    async def look(self, take: Callable[[StationIdentity], None]) -> bool:
        """Renew where it is time, or was begun; `take` is given the identity as soon as it is in force.

        Returns whether another certificate came into use. One that was put in force by somebody else, such
        as by hand, is taken too.

        Raises:
            FleetError: it did not succeed; it is tried again after `RETRY`.
        """
        now = self._clock()
        if self._wait_until is not None and now < self._wait_until <= now + RETRY:
            return False
        self._wait_until = now + RETRY
        before = self.identity.serial
        found = await asyncio.to_thread(load_in_force, self._files)
        if found.serial != before:
            await self._change(found, take)
        if self._is_needed(now):
            await self.renew(take)
        self._wait_until = None
        return self.identity.serial != before

    async def renew(self, take: Callable[[StationIdentity], None]) -> StationIdentity:
        """Renew now, or end a renewal that was begun; raises as `look`."""
        name, files = self.identity.name, self._files
        key = await asyncio.to_thread(begin, files, name, randomness=secrets.token_bytes(LABEL_RANDOMNESS))
        if key.signer.public_key != (await asyncio.to_thread(load_in_force, files)).signer.public_key:
            certificate = await self._certified(key)
            await asyncio.to_thread(put_in_force, files, key, certificate)
        found = await asyncio.to_thread(load_in_force, files)
        await self._change(found, take)
        read(parse_ended, await self.way.ask("renewed", encode_used(found.serial)))
        await asyncio.to_thread(finish, files)
        return found

    def _is_needed(self, now: datetime) -> bool:
        certificate = x509.load_der_x509_certificate(self.identity.chain[0])
        return is_begun(self._files) or is_due(certificate, DEFAULT_PROFILES[Purpose.STATION], now=now)

    async def _certified(self, key: NextKey) -> str:
        csr = await asyncio.to_thread(key.csr, self.identity.name)
        try:
            found = read(parse_next, await self.way.ask("renew", encode_renewal(csr)))
        except RefusedError as error:
            if error.code in _HOPELESS:
                await asyncio.to_thread(give_up, self._files)
            raise
        require_for(key, found.certificate_pem, station=self.identity.name)
        return found.certificate_pem

    async def _change(self, found: StationIdentity, take: Callable[[StationIdentity], None]) -> None:
        take(found)
        await self.way.take(await asyncio.to_thread(self._server))
        self.identity = found


def load_in_force(files: KeyPairFiles) -> StationIdentity:
    """Return who the station is now, by both files of one generation; raises as `StationIdentity.load`."""
    pair = in_force(files)
    return StationIdentity.load(pair.certificate, pair.key)


def require_for(key: NextKey, certificate_pem: str, *, station: str) -> None:
    """Raise `BadInputError` for a certificate that is not this key's and this station's."""
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
    except ValueError as error:
        raise BadInputError("this is no certificate", hint="fleet station certify makes one") from error
    if certificate.public_key() != key.signer.public_key or name_of(certificate) != station:
        raise BadInputError(
            f"the certificate is not for the request of station {station}", hint="nothing was changed"
        )


def require_in_date(identity: StationIdentity, *, now: datetime) -> None:
    """Raise `RefusedError` where a certificate has ended: no server takes it, and nobody can renew by it."""
    if now >= identity.ends:
        raise RefusedError(
            f"the certificate of station {identity.name} ended {identity.ends:%Y-%m-%d}, by this clock",
            hint=f"fleet station renew --request {identity.name}.csr makes what fleet station certify takes",
        )
