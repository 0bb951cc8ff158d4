"""Renews a station that proves itself: over HTTPS by its certificate, in its home by the socket.

What it asks is judged as an operator's renewal is; it can ask for itself alone.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from device_agent.wire.problems import ProblemCode
from fleet.core.station_renewal import NextCertificate
from fleet.errors import RefusedError
from fleet.model import Purpose
from fleet.ra.context import Asker, Context
from fleet.ra.own.own_requests import Bearer, certificate_pem, end_earlier, renew_for
from fleet.ra.refusals import record_station_refusal
from fleet.ra.requests.applicants import StationProof
from fleet.ra.requests.station_word import require_station

_Answer = TypeVar("_Answer")


async def renew_station(context: Context, asker: Asker, csr_pem: str) -> NextCertificate:
    """Issue the next certificate of the station that asks; the same key gets the same one again.

    Raises:
        RefusedError: it is no station, was closed, or its request is not fit.
    """

    async def act(bearer: Bearer) -> NextCertificate:
        record = await renew_for(context, bearer, csr_pem)
        return NextCertificate(serial=record.serial, certificate_pem=certificate_pem(context, record))

    return await _as_station(context, asker, act)


async def note_used(context: Context, asker: Asker, serial: str) -> tuple[str, ...]:
    """End what a station had before a certificate that it shows; return the serials.

    Raises:
        RefusedError: it is no station, was closed, or shows another certificate.
        NotFoundError: it has no such certificate in force.
    """

    async def act(bearer: Bearer) -> tuple[str, ...]:
        if asker.certificate is not None and asker.certificate.serial != serial:
            raise RefusedError(
                "a certificate is proved by a connection that shows it", code=ProblemCode.NOT_ALLOWED
            )
        return await end_earlier(context, bearer, serial)

    return await _as_station(context, asker, act)


async def certify_again(context: Context, name: str, csr_pem: str, *, actor: str) -> NextCertificate:
    """Certify another key of a station, by the word of an operator who knows whose request it is.

    For one whose certificate has ended. What it had ends when the station uses the new one.

    Raises:
        NotFoundError: there is no such station. RefusedError: the request is not fit.
    """
    bearer = Bearer(purpose=Purpose.STATION, name=name, actor=actor)
    record = await renew_for(context, bearer, csr_pem)
    return NextCertificate(serial=record.serial, certificate_pem=certificate_pem(context, record))


async def _as_station(context: Context, asker: Asker, act: Callable[[Bearer], Awaitable[_Answer]]) -> _Answer:
    proof = StationProof(shown=asker.certificate, name=asker.station)
    try:
        station = await context.store.read(require_station, proof)
        bearer = Bearer(purpose=Purpose.STATION, name=station.name, actor=f"station:{station.name}")
        return await act(bearer)
    except RefusedError as error:
        await record_station_refusal(context, asker, "renew", error)
        raise
