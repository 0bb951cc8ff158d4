"""The invariants of a world, and what a good quiet one is.

I1 (a device that may work always has a way), I2 (one certificate at rest) and I8 (renewals end) are
checked as: from every world that can be reached, a good quiet one can be reached without any fault.
"""

from collections.abc import Iterator

from device_agent.core.ladder import Rung
from fleet.core.plain import MOST_UNUSED
from fleet.model import Alarm, CertificateState, ClientKind
from tests.exploration.agents import Agents
from tests.exploration.plain import PlainClients
from tests.exploration.server import View
from tests.exploration.steps import Steps
from tests.exploration.world import Fault, Ghost, World

State = CertificateState
_CURRENT = frozenset({State.ACTIVE, State.EXPIRED_GRACE})
_SUPERSEDED = frozenset({State.SUPERSEDED, State.SUPERSEDED_ACKED})
_ALIVE = frozenset({State.ISSUED, State.ACTIVE, State.EXPIRED_GRACE, State.EXPIRED_UNUSED})


class Checks:
    """Judges worlds; what a check sees of one is judged once."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._records: dict[int, str | None] = {}
        self._slots: dict[tuple[int, tuple[int, ...], Ghost], str | None] = {}

    def broken(self, world: World) -> str | None:
        """Return what a world breaks, or None."""
        server = world.server
        if server not in self._records:
            view = self._steps.server.view(server)
            self._records[server] = _first(check(self._steps, view) for check in OF_THE_RECORD)
        key = (server, world.devices, world.ghost)
        if key not in self._slots:
            view = self._steps.server.view(server)
            self._slots[key] = _first(check(self._steps, world, view) for check in OF_THE_SLOTS)
        return self._records[server] or self._slots[key] or next(_being_signed(self._steps, world), None)


def _first(found: Iterator[Iterator[str]]) -> str | None:
    return next((text for texts in found for text in texts), None)


def _being_signed(steps: Steps, world: World) -> Iterator[str]:
    if not world.signing:
        return
    states = steps.server.view(world.server).states
    if any(serial not in states for serial, _ in world.signing):
        yield "I4 something is being signed that is not on record"
    if world.past.frozen:
        yield "something is signed before anybody has looked at a restored server"


def _a_code_is_for_one_key(_steps: Steps, view: View) -> Iterator[str]:
    pairs = {(one.code_id, one.key_hash) for one in view.device.certificates if one.code_id is not None}
    if len({code_id for code_id, _ in pairs}) < len(pairs):
        yield "I5 a code gave certificates to two keys"


def _one_is_current(steps: Steps, view: View) -> Iterator[str]:
    if sum(state in _CURRENT for state in view.states.values()) > 1:
        yield "I2 two current certificates"
    most = MOST_UNUSED if steps.scenario.kind is ClientKind.PLAIN else 1
    if len(view.issued) > most:
        yield "I2 too many unconfirmed certificates"


def _suspended_is_out(_steps: Steps, view: View) -> Iterator[str]:
    if view.is_off and view.admitted:
        yield "a suspended device is admitted"


OF_THE_RECORD = (_a_code_is_for_one_key, _one_is_current, _suspended_is_out)


def _nothing_revoked_is_admitted(_steps: Steps, world: World, view: View) -> Iterator[str]:
    if world.ghost.revoked and view.admitted:
        yield "I3 a revoked device is admitted"


def _slots_are_right(steps: Steps, world: World, view: View) -> Iterator[str]:
    keys = {one.serial: one.key_hash for one in view.device.certificates}
    for device in world.devices:
        trusted = steps.clients.trusted(device)
        for key_hash, serial, anchor in steps.clients.slots(device):
            if keys.get(serial, key_hash) != key_hash:
                yield "I7 a slot holds a certificate for another key"
            if anchor not in trusted:
                yield "I7 a slot holds a certificate under an anchor that the device does not trust"


def _alarms_are_true(_steps: Steps, world: World, view: View) -> Iterator[str]:
    ghost, alarm = world.ghost, view.device.alarm
    if alarm and ghost.fork < 0 and not ghost.restored:
        yield "I6 a false alarm about one honest device"
    if alarm is Alarm.CLONE and ghost.fork < 0:
        yield "I6 a restored image is called a clone"
    if ghost.turns >= 20 and not alarm and ghost.resolved != "replaced":
        yield "I6 copies take turns in renewing, and nobody is told"


def _a_thief_is_out(steps: Steps, world: World, view: View) -> Iterator[str]:
    if world.ghost.resolved == "replaced" and len(world.devices) > 1:
        held = {serial for _, serial, _ in steps.clients.slots(world.devices[1])}
        if held & view.admitted:
            yield "I3 the copy or thief is admitted after it was dealt with"


def _plain_clients_keep_a_way(steps: Steps, world: World, view: View) -> Iterator[str]:
    if not isinstance(steps.clients, PlainClients):
        return
    ghost = world.ghost
    if ghost.revoked or ghost.lost or ghost.expired:
        return
    for device in world.devices:
        held = {view.states[serial] for _, serial, _ in steps.clients.slots(device)}
        if held and not steps.clients.has_code(device) and not held & _ALIVE:
            yield "I1 a plain client holds no live certificate"


OF_THE_SLOTS = (
    _nothing_revoked_is_admitted,
    _slots_are_right,
    _alarms_are_true,
    _a_thief_is_out,
    _plain_clients_keep_a_way,
)


def is_good(steps: Steps, world: World) -> bool:
    """Tell whether nothing is under way, and each device is where it should be."""
    view = steps.server.view(world.server)
    if world.net or world.signing:
        return False
    if world.allowlist != view.admitted and not steps.keeps_list_by_changes:
        return False
    if world.ghost.revoked:
        return not world.allowlist
    if _waits_for_operator(steps, world, view):
        return True
    if view.issued or view.device.alarm:
        return False
    return all(_is_right(steps, world, view, device) for device in _judged(steps, world))


def _waits_for_operator(steps: Steps, world: World, view: View) -> bool:
    ghost, device = world.ghost, view.device
    if isinstance(steps.clients, PlainClients):
        return _plain_waits(steps, steps.clients, world, view)
    if view.issued:
        return False
    if device.alarm and not world.budget[Fault.RESOLVE]:
        return True
    return device.code_conflict and (ghost.lost or ghost.wiped or ghost.restored)


def _plain_waits(steps: Steps, clients: PlainClients, world: World, view: View) -> bool:
    actives = [held.active.serial for held in map(clients.held.__getitem__, world.devices) if held.active]
    states = {view.states[serial] for serial in actives}
    has_code = any(clients.has_code(device) for device in world.devices)
    if world.ghost.grace_over and not has_code and states & {State.DEAD, State.EXPIRED_FINAL}:
        return True
    if not world.ghost.lost:
        return False
    # It used a certificate, and then lost that one's key: only an operator knows what to think of it.
    return view.device.code_conflict or (not steps.scenario.same_key and State.SUPERSEDED in states)


def _judged(steps: Steps, world: World) -> tuple[int, ...]:
    only_first = steps.scenario.start == "thief" or world.ghost.resolved == "replaced"
    return world.devices[:1] if only_first else world.devices


def _is_right(steps: Steps, world: World, view: View, device: int) -> bool:
    clients = steps.clients
    active = clients.active(device)
    if active is None:
        return world.ghost.wiped and clients.is_blank(device)
    state = view.states.get(active)
    if not clients.has_code(device) and _needs_a_code(steps, world, device, state):
        # A plain client says nothing; an agent of a world that has no more keys cannot ask for the answer.
        says_so = not isinstance(clients, Agents) or clients.rung(world, device) is Rung.CODE
        return says_so or world.keys >= steps.scenario.keys
    is_only = world.allowlist == {active} and view.device.current == active
    return state is State.ACTIVE and is_only and clients.is_at_rest(device)


def _needs_a_code(steps: Steps, world: World, device: int, state: State | None) -> bool:
    """Tell whether nothing but an operator's code may help: no key of the device need be heard any more."""
    is_forgotten = state is None and world.ghost.forgotten
    is_of_the_past = state in _SUPERSEDED and world.ghost.restored
    is_keyless = isinstance(steps.clients, Agents) and steps.clients.held[device].keyless
    return state in (State.EXPIRED_FINAL, State.REVOKED) or is_forgotten or is_of_the_past or is_keyless
