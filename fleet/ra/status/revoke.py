"""Revoke = kick: commit, deny, kick, publish the CRL, verify; and a receipt with the measured cut-off times.

A device is revoked by its whole lineage, never by one serial: the child of a revoked certificate must not
stay behind (PROTOCOL.md 8, counter-example 5).
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from device_agent.wire.identity import Identity
from fleet.ca.crl import serials_missing
from fleet.core import events
from fleet.core.serial import is_adopted
from fleet.errors import BadInputError, FleetError, NotFoundError, RefusedError
from fleet.model import AuditEntry, Certificate, CertificateState, CutOff, Purpose, RevocationReason
from fleet.ports import Transaction
from fleet.ra.context import Context
from fleet.ra.crls import ListName, list_of
from fleet.ra.judging import Circumstances, Judged, settle
from fleet.ra.selection import Selection, Targets, find_targets
from fleet.ra.status.broker_lists import give_to_brokers
from fleet.ra.status.press import press_of
from fleet.ra.status.public_lists import current_list
from fleet.store import allowlist, audit
from fleet.store.adopted import shown_serials
from fleet.store.backends import load_backend
from fleet.store.certificates import end_certificate, load_certificate
from fleet.store.devices import load_device

_AT_ONCE = 256
_INSTEAD = {
    Purpose.AUTHORITY: "fleet ca compromise",
    Purpose.SERVER: "fleet cert renew server",
    Purpose.SERVICE: "fleet cert renew service",
    Purpose.SIGNER: "fleet cert renew signer",
}
"""What the fleet itself runs on is replaced, by other commands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a revocation did, as far as it was seen to be done."""

    revoked: tuple[str, ...]
    """Serials that are revoked by it."""
    names: tuple[str, ...]
    sessions: tuple[CutOff, ...]
    verified: bool
    """No session of them lives, no list admits them, and the CRLs in force name them."""
    problem: str = ""
    """What keeps it from being verified. The commit stands in any case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeCase:
    """One device, or one certificate that belongs to none."""

    identity: Identity | None = None
    serial: str = ""
    circumstances: Circumstances


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked:
    """What one commit took back."""

    name: str
    serials: tuple[str, ...]
    sequence: int | None


async def revoke(context: Context, selection: Selection, *, reason: RevocationReason, actor: str) -> Receipt:
    """Revoke what the selection names.

    Raises:
        BadInputError: the reason is no end.
        NotFoundError: it names nothing.
        RefusedError: it names a certificate that the fleet itself runs on.
        StoreError: a commit failed; nothing, or a part of it, is revoked and cut off: run it again.
    """
    if reason is RevocationReason.CERTIFICATE_HOLD:
        raise BadInputError(
            "a hold takes nothing back: it is the suspension of a device",
            hint="fleet device suspend DEVICE, and fleet device resume DEVICE",
        )
    targets = await context.store.read(find_targets, selection)
    if not targets.identities and not targets.serials:
        raise NotFoundError("nothing fits the selection", hint="fleet cert list shows what there is")
    circumstances = Circumstances(at=context.clock(), actor=actor, reason=reason)
    done, failure = await _commit(context, targets, circumstances)
    committed = time.perf_counter()
    receipt = await _enforce(context, done)
    context.meter.cut_offs.add(time.perf_counter() - committed)
    if failure is not None:
        raise failure
    return receipt


async def _commit(
    context: Context, targets: Targets, circumstances: Circumstances
) -> tuple[Sequence[Revoked], BaseException | None]:
    """Return what was revoked, and what ended it early: what stands in the store must be enforced."""
    cases = [RevokeCase(identity=one, circumstances=circumstances) for one in targets.identities]
    cases += [RevokeCase(serial=one, circumstances=circumstances) for one in targets.serials]
    done: list[Revoked] = []
    for start in range(0, len(cases), _AT_ONCE):
        # Handed in together, they share a commit.
        writes = (context.store.write(judge_revoke, case) for case in cases[start : start + _AT_ONCE])
        outcomes = await asyncio.gather(*writes, return_exceptions=True)
        done += [outcome for outcome in outcomes if isinstance(outcome, Revoked)]
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        if failures:
            return done, failures[0]
    return done, None


async def _enforce(context: Context, done: Sequence[Revoked]) -> Receipt:
    serials = tuple(serial for one in done for serial in one.serials)
    ended: list[CutOff] = []
    problem = ""
    context.crls.note_change()
    try:
        # The last one first: brokers take all of them on the way, or the whole list where they are many.
        for sequence in sorted((one.sequence for one in done if one.sequence is not None), reverse=True):
            ended += await context.broker.reach(sequence)
        await give_to_brokers(context)
        problem = await still_open(context, frozenset(serials))
    except FleetError as error:
        problem = str(error)
    return Receipt(
        revoked=serials,
        names=tuple(dict.fromkeys(one.name for one in done)),
        sessions=tuple(ended),
        verified=not problem,
        problem=problem,
    )


async def still_open(context: Context, serials: frozenset[str]) -> str:
    """Return where one of some revoked serials is still good, or nothing."""
    shown = await context.store.read(shown_serials, serials)
    live = [session.name for session in await context.broker.sessions() if session.serial in shown]
    if live:
        return f"a session of {live[0]} is still alive"
    listed = await context.store.read(allowlist.snapshot, None)
    if any(entry.serial in shown for entry in listed.entries):
        return "the allowlist still admits a revoked certificate"
    return await _unlisted(context, serials)


async def _unlisted(context: Context, serials: frozenset[str]) -> str:
    """Return which serial is not on the part of the list that its certificate points at, or nothing."""
    now = context.clock()
    by_list: dict[ListName, list[str]] = {}
    for serial in serials:
        row = await context.store.read(load_certificate, serial)
        # RFC 5280 3.3: what has ended may leave the list.
        # What another CA made is on no list of ours: its own record keeps it out.
        ours = row is not None and not is_adopted(row.serial)
        if ours and row is not None and row.signed is not None and row.signed.not_after > now:
            by_list.setdefault(list_of(row.issuer, serial), []).append(serial)
    for name, wanted in by_list.items():
        issuer = context.authority.issuer_by_id(name.issuer)
        crl = await current_list(press_of(context), context.crls, name, now=now)
        if missing := serials_missing(crl.der, wanted, issuer=issuer.certificate):
            return f"{missing[0]} is not on the CRL in force"
    return ""


async def judge_revoke(tx: Transaction, case: RevokeCase) -> Revoked:
    """Take back one device's certificates, or one that belongs to none: one commit."""
    if case.identity is None:
        return await _revoke_own(tx, case)
    before = await load_device(tx, case.identity)
    if before is None:
        raise NotFoundError(f"{case.identity.name} is not registered", hint="fleet device list")
    judged = await settle(tx, before, (events.Revoke(),), case.circumstances)
    taken = _newly_revoked(before.certificates, judged)
    await audit.append_many(tx, [_entry(case, case.identity, serial) for serial in taken or ("",)])
    return Revoked(name=case.identity.name, serials=taken, sequence=judged.sequence)


async def _revoke_own(tx: Transaction, case: RevokeCase) -> Revoked:
    row = await load_certificate(tx, case.serial)
    if row is None:
        raise NotFoundError(f"there is no certificate {case.serial}", hint="fleet cert list")
    if await load_backend(tx, row.name) is not None and row.purpose is Purpose.SERVICE:
        raise RefusedError(
            f"{case.serial} is a certificate of the service {row.name}",
            hint=f"fleet service revoke {row.name}",
        )
    if row.purpose in _INSTEAD:
        raise RefusedError(
            f"{case.serial} is a certificate of purpose {row.purpose}, which the fleet itself runs on",
            hint=_INSTEAD[row.purpose],
        )
    if row.state is CertificateState.REVOKED:
        return Revoked(name=row.name, serials=(), sequence=None)
    sequence = await end_certificate(
        tx,
        case.serial,
        state=CertificateState.REVOKED,
        reason=case.circumstances.reason,
        at=case.circumstances.at,
    )
    await audit.append(tx, _entry(case, Identity(domain=row.domain, device_id=""), case.serial))
    return Revoked(name=row.name, serials=(case.serial,), sequence=sequence)


def _newly_revoked(before: Sequence[Certificate], judged: Judged) -> tuple[str, ...]:
    known = {row.serial for row in before if row.state is CertificateState.REVOKED}
    after = () if judged.device is None else judged.device.certificates
    return tuple(
        row.serial for row in after if row.state is CertificateState.REVOKED and row.serial not in known
    )


def _entry(case: RevokeCase, identity: Identity, serial: str) -> AuditEntry:
    return AuditEntry(
        at=case.circumstances.at,
        action="certificate.revoked" if serial else "device.revoked",
        actor=case.circumstances.actor,
        domain=identity.domain,
        device_id=identity.device_id,
        serial=serial,
        details=(("reason", case.circumstances.reason.value),),
    )
