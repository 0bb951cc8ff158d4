"""What a rollout changes of a device, kind by kind, and how that is taken back, where that has a meaning.

Each runs in the commit that notes who was told: no device is changed and not noted, or noted and not changed.
What devices hear of it, they hear from their retained notices, however often the server stops.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from fleet.core.rollout import DeviceState, RolloutKind
from fleet.core.rollout_plan import Rollout
from fleet.model import AuditEntry
from fleet.ports import Transaction
from fleet.store import audit, choices
from fleet.store.counters import count_up
from fleet.store.devices import set_profile
from fleet.store.notices import EarlyRenewal, make_due, want_notice, withdraw_due
from fleet.store.rollout_devices import RolloutDevice

ROLL_BACK: Mapping[RolloutKind, str] = {
    RolloutKind.REKEY: "Who has not renewed yet renews in its time. A new key stays: the old one is gone.",
    RolloutKind.PROFILE: "Each device has its profile of before; who had renewed renews once more by it.",
    RolloutKind.CA: "The choice of the CA is taken back; who had renewed renews once more, below another.",
    RolloutKind.TRUST: "Nobody more is told of the bundle. Who took it keeps it, and trusts both roots.",
    RolloutKind.CONFIGURATION: "Each device is told its settings of before, under a new number.",
}
"""What a roll-back does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A page of devices of a rollout, changed at a time."""

    rollout: Rollout
    devices: tuple[RolloutDevice, ...]
    at: datetime
    actor: str = "server"


Act = Callable[[Transaction, Change], Awaitable[None]]


async def tell(tx: Transaction, change: Change) -> tuple[tuple[RolloutDevice, str], ...]:
    """Put a change in force for devices, and have them told; return what each had before."""
    before = [(one, await _had(tx, change.rollout, one)) for one in change.devices]
    await _TELL[change.rollout.plan.kind](tx, change)
    await _want(tx, change.devices)
    return tuple(before)


async def take_back(tx: Transaction, change: Change) -> None:
    """Take a change back for devices that were told, and have them told."""
    await _TAKE_BACK[change.rollout.plan.kind](tx, change)
    await _want(tx, change.devices)


async def _want(tx: Transaction, devices: Sequence[RolloutDevice]) -> None:
    for one in devices:
        await want_notice(tx, one.identity)


async def _had(tx: Transaction, rollout: Rollout, device: RolloutDevice) -> str:
    """Return what a change replaces."""
    match rollout.plan.kind:
        case RolloutKind.PROFILE:
            return device.profile
        case RolloutKind.CA:
            return await choices.issuer_chosen(tx, device.identity)
        case RolloutKind.CONFIGURATION:
            known = await choices.configuration_of(tx, device.identity)
            return "" if known is None else choices.settings_text(known.wanted.settings)
        case _:
            return ""


async def _rekey(tx: Transaction, change: Change) -> None:
    await make_due(tx, [_due(change, one) for one in change.devices])


async def _profile(tx: Transaction, change: Change) -> None:
    await _assign(tx, change, {one.identity.name: change.rollout.target for one in change.devices})
    await _rekey(tx, change)


async def _ca(tx: Transaction, change: Change) -> None:
    await choices.choose_issuers(tx, [(one.identity, change.rollout.target) for one in change.devices])
    await _rekey(tx, change)


async def _trust(tx: Transaction, change: Change) -> None:
    identities = [one.identity for one in change.devices]
    version = int(change.rollout.target)
    await choices.choose_bundles(tx, identities, realm=change.rollout.plan.target, version=version)


async def _configure(tx: Transaction, change: Change) -> None:
    settings = change.rollout.plan.settings
    chosen = [(one.identity, settings) for one in change.devices]
    await choices.configure(tx, chosen, number=int(change.rollout.target))


async def _rekey_back(tx: Transaction, change: Change) -> None:
    serials = [one.facts.serial for one in change.devices if one.facts.serial]
    await withdraw_due(tx, serials, rollout=change.rollout.number)


async def _profile_back(tx: Transaction, change: Change) -> None:
    # Somebody may have chosen another profile since: that choice stands.
    unchanged = [one for one in change.devices if one.profile == change.rollout.target]
    await _assign(tx, change, {one.identity.name: one.facts.was for one in unchanged})
    await _renew_back(tx, change)


async def _ca_back(tx: Transaction, change: Change) -> None:
    await choices.choose_issuers(tx, [(one.identity, one.facts.was) for one in change.devices])
    await _renew_back(tx, change)


async def _renew_back(tx: Transaction, change: Change) -> None:
    """Have those renew once more that came back with what is taken back; the others in their time."""
    await _rekey_back(tx, change)
    came = [one for one in change.devices if one.facts.state is DeviceState.UPDATED and one.facts.serial]
    await make_due(tx, [_due(change, one) for one in came])


async def _trust_back(tx: Transaction, change: Change) -> None:
    identities = [one.identity for one in change.devices]
    await choices.drop_bundles(tx, identities, realm=change.rollout.plan.target)


async def _configure_back(tx: Transaction, change: Change) -> None:
    number = await count_up(tx, "configurations")
    chosen = [(one.identity, choices.read_settings(one.facts.was)) for one in change.devices]
    await choices.configure(tx, chosen, number=number)


_TELL: Mapping[RolloutKind, Act] = {
    RolloutKind.REKEY: _rekey,
    RolloutKind.PROFILE: _profile,
    RolloutKind.CA: _ca,
    RolloutKind.TRUST: _trust,
    RolloutKind.CONFIGURATION: _configure,
}
_TAKE_BACK: Mapping[RolloutKind, Act] = {
    RolloutKind.REKEY: _rekey_back,
    RolloutKind.PROFILE: _profile_back,
    RolloutKind.CA: _ca_back,
    RolloutKind.TRUST: _trust_back,
    RolloutKind.CONFIGURATION: _configure_back,
}


def _due(change: Change, device: RolloutDevice) -> EarlyRenewal:
    return EarlyRenewal(
        serial=device.facts.serial, renew_after=change.at, issuer="", rollout=change.rollout.number
    )


async def _assign(tx: Transaction, change: Change, profiles: Mapping[str, str]) -> None:
    """Choose profiles of devices; each is an entry of its own, by which a restore does it again."""
    entries = []
    for one in change.devices:
        if one.identity.name not in profiles:
            continue
        profile = profiles[one.identity.name]
        await set_profile(tx, one.identity, profile)
        details = (("profile", profile), ("rollout", change.rollout.plan.name))
        entries.append(
            AuditEntry(
                at=change.at,
                action="profile.assigned",
                actor=change.actor,
                domain=one.identity.domain,
                device_id=one.identity.device_id,
                details=tuple((name, value) for name, value in details if value),
            )
        )
    await audit.append_many(tx, entries)
