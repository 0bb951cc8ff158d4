"""The way back of a device that lost its certificate: one ladder, each rung with its proof, limits and end.

The lowest rung that helps is the one, and each ends in a new key. It decides by what is on record; which
proofs are true, others have found out.
"""

from dataclasses import dataclass
from enum import StrEnum

from fleet.model import CertificateState, Device


class Rung(StrEnum):
    """What gets a device back, the least first."""

    OLD_KEY = "old-key"
    HARDWARE = "hardware"
    CODE = "code"
    FACTORY = "factory"


class HardwareWay(StrEnum):
    """When a device may come back by the hardware that it was first known by."""

    NEVER = "never"
    EXPIRED = "expired"
    """Once none of its certificates is in force any more."""
    ALWAYS = "always"
    """Also while one is: its key was lost, and nobody waits for the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A row of the ladder, for people."""

    rung: Rung
    when: str
    proof: str
    limit: str
    setting: str


LADDER: tuple[Step, ...] = (
    Step(
        rung=Rung.OLD_KEY,
        when="expired, and within the grace time; or the slot that replaced it was lost",
        proof="a signature by the old key, at the recovery listener",
        limit="by address and by certificate",
        setting="grace_days, recover_per_minute",
    ),
    Step(
        rung=Rung.HARDWARE,
        when="expired for longer, or its key lost, and the hardware is there",
        proof="the IDevID, TPM or PIV token that it was first known by, over a fresh challenge",
        limit="by connection; never while suspended, revoked or alarmed",
        setting="hardware_returns",
    ),
    Step(
        rung=Rung.CODE,
        when="nothing that it holds is heard any more; revoked; its hardware was replaced",
        proof="a one-time code of an operator, typed, scanned or sent",
        limit="by device and by place, 80 random bits, one key, once",
        setting="code_lifetime_days",
    ),
    Step(
        rung=Rung.FACTORY,
        when="it was reset, or can take no code",
        proof="a station, as when it was made",
        limit="by the station's rules and quotas",
        setting="none: `fleet station show`",
    ),
)


def hardware_refusal(device: Device, way: HardwareWay, *, is_same: bool) -> str:
    """Return why a device may not come back by its hardware, or nothing.

    `is_same` tells that it is the hardware that it was first known by, or that a list knows it by.
    """
    name = device.identity.name
    if way is HardwareWay.NEVER:
        return f"{name} is enrolled already, with another key"
    if not is_same:
        return f"{name} was first known by other hardware"
    if device.suspended:
        return f"{name} is suspended"
    if device.alarm or device.code_conflict:
        return f"an alarm stands over {name}: an operator has to look first"
    if way is HardwareWay.EXPIRED and any(one.state in _IN_FORCE for one in device.certificates):
        return f"{name} has a certificate in force, with another key"
    return ""


_IN_FORCE = frozenset({CertificateState.ACTIVE, CertificateState.ISSUED})


def ladder_table() -> str:
    """Return the ladder as a table in Markdown, as the guide has it."""
    rows = ["| rung | when | proof | limited | setting in `[policy]` |", "|---|---|---|---|---|"]
    rows += [
        f"| `{step.rung}` | {step.when} | {step.proof} | {step.limit} | {step.setting} |" for step in LADDER
    ]
    return "\n".join(rows)


def ways_told(*, grace_days: int, way: HardwareWay, code_days: int) -> tuple[str, ...]:
    """Return how a device of a fleet comes back, the least first, with what the configuration says."""
    hardware = {
        HardwareWay.NEVER: (),
        HardwareWay.EXPIRED: ("its hardware once it has expired",),
        HardwareWay.ALWAYS: ("its hardware",),
    }[way]
    old_key = (f"its old key for {grace_days} days",) if grace_days else ()
    return (*old_key, *hardware, f"a code good for {code_days} days", "a station")


def next_rung(device: Device, way: HardwareWay, *, has_hardware: bool) -> Rung:
    """Return the rung that helps a device without a certificate in force, as far as the records tell."""
    if not device.revoked and any(one.state is CertificateState.EXPIRED_GRACE for one in device.certificates):
        return Rung.OLD_KEY
    if not device.revoked and has_hardware and way is not HardwareWay.NEVER:
        return Rung.HARDWARE
    return Rung.CODE
