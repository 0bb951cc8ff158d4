"""What a kept trail tells is done again on the records of a restored database, entry by entry.

It decides nothing: each entry tells what was committed then. What it cannot bring back is what the trail
never holds: keys, codes and certificates themselves.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from device_agent.wire.problems import MalformedMessageError
from fleet.core import trace
from fleet.errors import BadInputError, StoreError
from fleet.model import AuditEntry
from fleet.ports import Transaction
from fleet.ra.keeping.replay_acts import EFFECTS, TOLD_ONLY, details_of, identity_of, reason_of, signed_of
from fleet.ra.trail_lines import KeptEntry
from fleet.store import access_classes, audit, certificates, claims
from fleet.store.codes import Grant, GrantKind
from fleet.store.devices import DeviceRecord, insert_device, load_device, load_record, save_device


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What was done of some entries, and which kinds of acts are not known here, each with how often."""

    done: Mapping[str, int]
    strange: Mapping[str, int]


async def replay(tx: Transaction, kept: Sequence[KeptEntry]) -> Replayed:
    """Append entries to the trail as they are, and do again what they tell.

    Raises:
        BadInputError: an entry does not fit the records that the entries before it have left.
    """
    first = await audit.append_many(tx, [one.entry for one in kept])
    if kept and first != kept[0].number:
        raise BadInputError(
            f"entry {first} of the kept trail is missing", hint="fleet audit export prints it"
        )
    done: Counter[str] = Counter()
    strange: Counter[str] = Counter()
    for one in kept:
        action = one.entry.action
        (done if action in EFFECTS or action in TOLD_ONLY else strange)[action] += 1
        try:
            await _apply(tx, one.entry)
        except (ValueError, KeyError, MalformedMessageError, StoreError) as error:
            raise BadInputError(
                f"entry {one.number} ({action}) of the kept trail cannot be done again: {error}",
                hint="report this as a defect; restoring without --audit leaves it out",
            ) from error
    await access_classes.refresh_all(tx)  # whatever changed what the access policy asks about
    return Replayed(done=done, strange=strange)


async def _apply(tx: Transaction, entry: AuditEntry) -> None:
    effect = EFFECTS.get(entry.action)
    if effect is not None:
        await effect(tx, entry)
    became = details_of(entry).get(trace.DETAIL)
    if became is not None:
        await _follow(tx, entry, became)


async def _follow(tx: Transaction, entry: AuditEntry, became: str) -> None:
    """Bring a device to where the commit left it."""
    identity = identity_of(entry)
    if await load_record(tx, identity) is None:
        await insert_device(tx, DeviceRecord(identity=identity, registered_at=entry.at))
    before = await load_device(tx, identity)
    if before is None:
        raise StoreError(f"{identity.name} cannot be registered")
    traced = trace.follow(before, became)
    known = {code.code_id for code in before.codes}
    new = [code.code_id for code in traced.device.codes if code.code_id not in known]
    grants = [_grant(code_id, traced.origins) for code_id in new]
    details = details_of(entry)
    await save_device(
        tx,
        before,
        after=traced.device,
        at=entry.at,
        issuer=details.get("issuer", ""),
        signed=signed_of(entry),
        reason=reason_of(details),
        grants=grants,
    )
    for grant in grants:
        await _count_use(tx, grant)


def _grant(code_id: str, origins: Mapping[str, trace.GrantOrigin]) -> Grant:
    """Return a grant without its code: what the trail has no hash of admits no new key."""
    origin = origins.get(code_id)
    if origin is None:
        return Grant(code_id=code_id, kind=GrantKind.CODE)
    return Grant(code_id=code_id, kind=GrantKind(origin.kind), source=origin.source)


async def _count_use(tx: Transaction, grant: Grant) -> None:
    """Count the use of a claim certificate, which is what its grant is."""
    if grant.kind is GrantKind.CLAIM:
        claim = await certificates.load_certificate(tx, grant.source)
        if claim is not None and claim.batch is not None:
            await claims.use_batch(tx, claim.domain, claim.batch)
