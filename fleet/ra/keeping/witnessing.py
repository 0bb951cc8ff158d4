"""Has second parties witness that the audit trail only grows: checkpoints go to them, cosignatures come back.

What a witness has cosigned nobody can take back, not even who holds the audit key and the database. One that
does not answer holds nothing up; one that knows another trail than ours is an alarm.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from http import HTTPStatus

from device_agent.wire.problems import MalformedMessageError
from fleet.ca.checkpointkey import CheckpointSigner, checkpoint_signer
from fleet.core.audit import TreeHead
from fleet.core.checkpoint import (
    Checkpoint,
    parse_cosignature,
    parse_known_size,
    signed_note,
    submission,
)
from fleet.errors import NotFoundError, UnreachableError
from fleet.model import AuditEntry
from fleet.ports import Transaction
from fleet.ra.context import Context
from fleet.ra.finding import Finding, bad, good
from fleet.ra.people.proofs import carries_on, head
from fleet.ra.witness import Witness
from fleet.store import audit, witnesses
from fleet.store.witnesses import WitnessRecord

_PAUSE = timedelta(minutes=10)
"""Between two checkpoints for one witness, or two tries."""
_STALE = timedelta(days=1)
"""A trail that stands still is cosigned anew so often: so a witness tells that it still looks."""
_CHECK = "witnesses"
CONTRADICTED = "it knows another trail than this one"

_log = logging.getLogger(__name__)


def signer_of(context: Context) -> CheckpointSigner:
    """Return what signs the fleet's checkpoints; raises `FleetError`."""
    home = context.home
    return checkpoint_signer(home.checkpoint_key, fleet=context.fleet, audit_public=home.audit_public_key)


async def ask_witnesses(context: Context) -> None:
    """Send the newest head to every witness whose turn it is; raises `FleetError` where we cannot sign."""
    if not context.witnesses:
        return
    known = {one.name: one for one in await context.store.read(witnesses.witnesses, None)}
    newest = (await head(context.store, context.fleet)).head
    for witness in context.witnesses:
        record = known.get(witness.settings.name)
        if _is_due(record, newest, context.clock()):
            await ask(context, witness, record)


def _is_due(record: WitnessRecord | None, newest: TreeHead, now: datetime) -> bool:
    if record is None:
        return True
    is_behind = record.problem or record.size < newest.size
    return now >= record.tried_at + (_PAUSE if is_behind else _STALE)


async def ask(context: Context, witness: Witness, record: WitnessRecord | None) -> WitnessRecord:
    """Ask one witness now, and put down what it said; raises `FleetError` where we cannot sign."""
    now = context.clock()
    before = record or WitnessRecord(name=witness.settings.name, tried_at=now)
    try:
        after = await _cosigned(context, witness, replace(before, tried_at=now, problem=""))
    except (UnreachableError, MalformedMessageError) as error:
        after = replace(before, tried_at=now, problem=str(error))
        _log.warning("the witness %s: %s", before.name, error)
    await context.store.write(_put_down, _Answer(before=before, after=after))
    return after


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    before: WitnessRecord
    after: WitnessRecord


async def _put_down(tx: Transaction, answer: _Answer) -> None:
    before, after = answer.before, answer.after
    await witnesses.save_witness(tx, after)
    if after.problem.startswith(CONTRADICTED) and after.problem != before.problem:
        details = (("witness", after.name), ("why", after.problem))
        entry = AuditEntry(
            at=after.tried_at, action="audit.contradicted", actor=f"witness:{after.name}", details=details
        )
        await audit.append(tx, entry)


async def _cosigned(context: Context, witness: Witness, record: WitnessRecord) -> WitnessRecord:
    newest = (await head(context.store, context.fleet)).head
    signer = signer_of(context)
    checkpoint = Checkpoint(origin=signer.key.name, size=newest.size, root=newest.root)
    note = signed_note(checkpoint, [signer.line(checkpoint)])
    status, body = await _submit(context, witness, note=note, sizes=(record.size, newest.size))
    if status == HTTPStatus.CONFLICT and (known := parse_known_size(body)) != record.size:
        if known > newest.size:
            raise MalformedMessageError(f"{CONTRADICTED}: it has {known} entries, more than there are")
        status, body = await _submit(context, witness, note=note, sizes=(known, newest.size))
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        raise MalformedMessageError(f"{CONTRADICTED}: the proof does not lead there")
    if status != HTTPStatus.OK:
        raise MalformedMessageError(_REASONS.get(status, f"its status is {status}"))
    found = parse_cosignature(body, checkpoint=checkpoint, key=witness.settings.key)
    return replace(record, size=newest.size, cosignature=found.line, cosigned_at=found.at)


_REASONS: Mapping[int, str] = {
    HTTPStatus.NOT_FOUND: "it does not know this fleet: give it the key of fleet audit checkpoint --key",
    HTTPStatus.FORBIDDEN: "it knows another key of this fleet: give it that of fleet audit checkpoint --key",
    HTTPStatus.CONFLICT: "it was asked by somebody else at the same time",
}


async def _submit(
    context: Context, witness: Witness, *, note: str, sizes: tuple[int, int]
) -> tuple[int, bytes]:
    earlier, later = sizes
    steps: Sequence[bytes] = await carries_on(context.store, earlier, later)
    body = submission(note, earlier=earlier, consistency=steps)
    return await witness.submit(body)


async def checkpoint_note(context: Context, *, witness: str | None) -> str:
    """Return a checkpoint as a signed note: the newest, or the one that a witness cosigned last.

    Raises:
        NotFoundError: nothing is signed yet, or that witness has cosigned nothing.
        FleetError: we cannot sign.
    """
    signer, lines = signer_of(context), list[str]()
    newest = (await head(context.store, context.fleet)).head
    size, root = newest.size, newest.root
    if witness is not None:
        record = next(
            (one for one in await context.store.read(witnesses.witnesses, None) if one.name == witness), None
        )
        if record is None or record.cosignature is None:
            raise NotFoundError(f"{witness} has cosigned nothing", hint="fleet audit witnesses")
        found = await context.store.read(audit.root_at, record.size)
        if found is None:
            raise NotFoundError(f"the head over {record.size} entries is gone", hint="fleet audit verify")
        size, root, lines = record.size, found, [record.cosignature]
    checkpoint = Checkpoint(origin=signer.key.name, size=size, root=root)
    return signed_note(checkpoint, [signer.line(checkpoint), *lines])


async def witnessed(context: Context) -> list[Finding]:
    """Return what the doctor says of the witnesses, if the configuration names any."""
    known = {one.name: one for one in await context.store.read(witnesses.witnesses, None)}
    return [
        _finding(name, known.get(name), context.clock())
        for name in (witness.name for witness in context.config.witnesses)
    ]


def _finding(name: str, record: WitnessRecord | None, now: datetime) -> Finding:
    if record is None:
        return bad(_CHECK, f"{name} was not asked yet", fix="fleet serve asks it")
    if record.problem:
        fix = "fleet audit verify" if record.problem.startswith(CONTRADICTED) else "fleet audit witnesses"
        return bad(_CHECK, f"{name}: {record.problem}", fix=fix)
    if record.cosigned_at is None or now - record.cosigned_at > 2 * _STALE:
        return bad(_CHECK, f"{name} cosigned nothing for two days", fix="fleet audit witnesses")
    return good(_CHECK, f"{name} has cosigned {record.size} entries")
