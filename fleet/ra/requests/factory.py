"""What a station says of the units that it made: the unit has committed its certificate."""

from dataclasses import dataclass

from device_agent.wire.messages import Reply
from device_agent.wire.requests import Confirm
from fleet.core import events
from fleet.errors import RefusedError
from fleet.ports import Transaction
from fleet.ra.context import Asker, Context
from fleet.ra.issuing import answer_of, follow
from fleet.ra.judging import Case, Circumstances, Judged, judge
from fleet.ra.refusals import record_judged
from fleet.ra.requests.applicants import StationProof
from fleet.ra.requests.station_word import require_station
from fleet.ra.requests.takeover import is_of_batch
from fleet.store.certificates import load_certificate
from fleet.store.stations import StationUnit, record_unit


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitCase:
    """A unit's certificate, and the station that speaks for it."""

    proof: StationProof
    serial: str
    circumstances: Circumstances


async def confirm_unit(context: Context, asker: Asker, request: Confirm, *, serial: str) -> Reply:
    """COMMIT of a unit counts as its confirm (PROTOCOL.md 5).

    Raises:
        FleetError: the asker is no station, or the certificate is none that it enrolled.
    """
    proof = StationProof(shown=asker.certificate, name=asker.station)
    circumstances = Circumstances(at=context.clock(), actor="station", address=asker.address)
    case = UnitCase(proof=proof, serial=serial, circumstances=circumstances)
    judged = await context.store.write(judge_unit, case)
    await follow(context, judged)
    await record_judged(context, judged, circumstances)
    return await answer_of(context, judged, message_id=request.id)


async def judge_unit(tx: Transaction, case: UnitCase) -> Judged:
    """Let the core confirm the certificate, and keep what the station reported: one commit."""
    station = await require_station(tx, case.proof)
    row = await load_certificate(tx, case.serial)
    if row is None or row.identity is None or not await is_of_batch(tx, station, case.serial):
        raise RefusedError(f"no station of this batch has enrolled certificate {case.serial}")
    circumstances = Circumstances(
        at=case.circumstances.at, actor=f"station:{station.name}", address=case.circumstances.address
    )
    event = events.Confirm(serial=case.serial)
    judged = await judge(tx, Case(identity=row.identity, event=event, circumstances=circumstances))
    if isinstance(judged.verdict, events.Confirmed):
        unit = StationUnit(
            station=station.name,
            identity=row.identity,
            outcome="committed",
            serial=case.serial,
            note="",
            reported_at=case.circumstances.at,
        )
        await record_unit(tx, unit)
    return judged
