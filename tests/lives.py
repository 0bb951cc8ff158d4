"""Devices at each point of their lives, and decisions in words."""

from dataclasses import replace

from device_agent.wire.identity import Identity
from fleet.core.events import Decision, Nothing
from fleet.model import Certificate, CertificateState, ClientKind, Device

State = CertificateState
IDENTITY = Identity(domain="prod", device_id="d1")
KINDS = (ClientKind.AGENT, ClientKind.PLAIN)


def serial(number: int) -> str:
    return f"{number:032x}"


def key(number: int) -> str:
    return f"{number:064x}"


def certificate(number: int, state: State, *, parent: int | None = None, attempt: int = 0) -> Certificate:
    return Certificate(
        serial=serial(number),
        key_hash=key(number),
        state=state,
        attempt=attempt,
        parent=None if parent is None else serial(parent),
        done_stamp=number * 10 if state is State.ACTIVE else None,
    )


# What is shown is number 2, child of 1. Where 2 was replaced, 3 is its child and current.
_IS_CURRENT = {State.ACTIVE, State.EXPIRED_GRACE, State.EXPIRED_FINAL}
_WAS_CURRENT = {State.SUPERSEDED, State.SUPERSEDED_ACKED}


def device(state: State, *, kind: ClientKind = ClientKind.AGENT) -> Device:
    """Return a device whose certificate 2 is in this state, as the tables would have left it."""
    shown = certificate(2, state, parent=1, attempt=2)
    first = certificate(1, State.SUPERSEDED)
    if state in _IS_CURRENT:
        return Device(identity=IDENTITY, kind=kind, certificates=(first, shown), current=shown.serial)
    if state in _WAS_CURRENT:
        current = certificate(3, State.ACTIVE, parent=2, attempt=3)
        return Device(identity=IDENTITY, kind=kind, certificates=(first, shown, current), current=serial(3))
    first = replace(first, state=State.REVOKED if state is State.REVOKED else State.ACTIVE)
    is_revoked = state is State.REVOKED
    return Device(
        identity=IDENTITY, kind=kind, certificates=(first, shown), current=serial(1), revoked=is_revoked
    )


def in_words(before: Device, decision: Decision) -> str:
    """Return the verdict, and what changed: `what is said; which certificate became what`."""
    verdict = decision.verdict
    said = verdict.code.value if isinstance(verdict, Nothing) else type(verdict).__name__.lower()
    old = {one.serial: one.state for one in before.certificates}
    changed = [
        f"{int(one.serial, 16)} {one.state}"
        for one in decision.device.certificates
        if old.get(one.serial) is not one.state
    ]
    alarm = f"alarm {int(decision.device.alarm)}" if decision.device.alarm is not before.alarm else ""
    return "; ".join(part for part in (said, ", ".join(changed), alarm) if part)
