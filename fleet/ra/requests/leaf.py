"""Puts a certificate in force that was signed before its device was admitted.

Intent, signature and first use stand in the device's record one after the other, in one commit; the core
judges each as if it came just now. Runs inside a unit of work.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from device_agent.wire.problems import ProblemCode
from fleet.core import events, lifecycle, lineage
from fleet.model import Device
from fleet.ports import Transaction
from fleet.ra.choice import may_issue
from fleet.ra.gap import gap_refusal
from fleet.ra.judging import Circumstances, Judged, Outcome, entries, settle
from fleet.store import audit
from fleet.store.codes import Grant
from fleet.store.devices import save_device
from fleet.store.provisioning import Provisioned


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrance:
    """What is judged: the grants that come first, and the request that they admit."""

    before: tuple[events.Grant | events.Replace | events.CloseCode, ...]
    enroll: events.Enroll
    grants: Sequence[Grant] = field(default=())

    @property
    def asked(self) -> tuple[events.Grant | events.Replace | events.CloseCode | events.Enroll, ...]:
        """Return all, in the order in which they are judged."""
        return (*self.before, self.enroll)


def outdated(why: str) -> events.Nothing:
    """Return what is said of a leaf that can never be put in force any more."""
    reason = f"this certificate cannot be registered any more: {why}; ask for another"
    return events.Nothing(code=ProblemCode.NOT_CURRENT, reason=reason)


async def put_in_force(
    tx: Transaction, device: Device, entrance: Entrance, circumstances: Circumstances, leaf: Provisioned
) -> Judged:
    """Judge the request; where it is to be issued, the signed leaf is that, and confirmed at once."""
    after = device
    for event in entrance.before:
        after = lifecycle.decide(after, event).device
    decision = lifecycle.decide(after, entrance.enroll)
    if not isinstance(decision.verdict, events.Issue):
        # Nothing is issued: what it changes, a conflict or an alarm, is kept as always.
        return await settle(tx, device, entrance.asked, circumstances, entrance.grants)
    if (refusal := await _refusal(tx, after, leaf)) is not None:
        return Judged(verdict=refusal, identity=device.identity)
    intended = lifecycle.intend(decision.device, decision.verdict, serial=leaf.serial, anchor=leaf.anchor)
    signed = lifecycle.signed(intended, entrance.enroll, serial=leaf.serial)
    if not isinstance(signed.verdict, events.Issued):
        raise ValueError("what is to be issued was not")
    confirmed = lifecycle.decide(signed.device, events.Confirm(serial=leaf.serial))
    intent = Outcome(
        after=intended,
        decision=decision,
        serial=leaf.serial,
        issuer=leaf.issuer,
        grants=entrance.grants,
    )
    steps = (
        (device, intent),
        (intended, Outcome(after=signed.device, decision=signed, signed=leaf.signed)),
        (signed.device, Outcome(after=confirmed.device, decision=confirmed)),
    )
    return await _save(tx, steps, circumstances, issued=signed.verdict)


async def _refusal(tx: Transaction, device: Device, leaf: Provisioned) -> events.Nothing | None:
    """Return what has come in between since the leaf was signed, if anything has."""
    if (frozen := await gap_refusal(tx)) is not None:
        return frozen
    if not await may_issue(tx, leaf.issuer):
        return outdated("its issuing CA was stopped")
    highest = lifecycle.highest_serial(device)
    if highest is not None and leaf.serial <= highest:
        return outdated("a newer one was issued in the meantime")
    return None


async def _save(
    tx: Transaction,
    steps: Sequence[tuple[Device, Outcome]],
    circumstances: Circumstances,
    *,
    issued: events.Issued,
) -> Judged:
    sequence = None
    for before, outcome in steps:
        changed = await save_device(
            tx,
            before,
            after=outcome.after,
            at=circumstances.at,
            issuer=outcome.issuer,
            signed=outcome.signed,
            grants=outcome.grants,
        )
        sequence = changed or sequence
        await audit.append_many(tx, entries(before, outcome, circumstances))
    last = steps[-1][1]
    return Judged(
        verdict=issued,
        identity=last.after.identity,
        kind=last.after.kind,
        sequence=sequence,
        device=last.after,
        serial=issued.serial,
        retold=lineage.retold(steps[0][0], last.after),
        is_on_record=True,
    )
