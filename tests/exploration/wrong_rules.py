"""Wrong rules for both cores, each a simpler design that somebody could think of, and where each shows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from device_agent.core import events as on_device
from device_agent.core import lifecycle as device_life
from device_agent.core.record import DeviceRecord
from device_agent.wire.problems import ProblemCode
from fleet.core import confirmation, events, lifecycle, plain, renewal, rules
from fleet.core.lineage import make_current, put, restate
from fleet.model import Certificate, CertificateState, ClientKind, Device
from tests.exploration.agents import DeviceCore, Held
from tests.exploration.search import NO_WAY, Result, explore
from tests.exploration.server import ServerCore
from tests.exploration.steps import Scenario
from tests.exploration.world import Fault

State = CertificateState
MOST_STATES = 20_000


def scenario(*faults: Fault, **others: object) -> Scenario:
    """Return a small scenario."""
    small = Scenario(name="small", budget={fault: faults.count(fault) for fault in faults}, net=2, signing=1)
    return replace(small, **others)  # type: ignore[arg-type]  # fields of a scenario, by name


RENEWAL = scenario(Fault.DUE, Fault.LOSS, Fault.DUPLICATE, Fault.CRASH)
EARLY = scenario(Fault.DUE, Fault.EARLY)
LOST_SLOT = scenario(Fault.DUE, Fault.LOSE_SLOT, Fault.DUPLICATE, keys=4)
REVOKED = scenario(Fault.DUE, Fault.REVOKE, Fault.DUPLICATE)
EXPIRED = scenario(Fault.DUE, Fault.LOSS, Fault.EXPIRE, Fault.GRACE)
CLAIMED = scenario(Fault.LOSS, Fault.DUPLICATE, start="claimed", keys=2)
SUSPENDED = scenario(Fault.DUE, Fault.EXPIRE, Fault.GRACE, Fault.SUSPEND, net=1)
THIEF = scenario(Fault.RESOLVE, start="thief", keys=4, net=1, replaces=True)
CLONED = scenario(Fault.DUE, Fault.CLONE, Fault.RESOLVE, keys=5, net=1, replaces=True)
IMAGE = scenario(
    Fault.DUE, Fault.DUE, Fault.SNAPSHOT, Fault.ROLLBACK, Fault.RESOLVE, keys=6, net=1, carries_on=True
)
ROLLOVER = scenario(Fault.DUE, Fault.ROLLOVER)
RETIRED_ROOT = scenario(Fault.DUE, Fault.ROLLOVER, Fault.BUNDLE)
PLAIN = scenario(Fault.DUE, Fault.DUPLICATE, Fault.LOSE_SLOT, kind=ClientKind.PLAIN, keys=3)
SAME_KEY = scenario(
    Fault.DUE, Fault.DUE, Fault.LOSS, Fault.DUPLICATE, kind=ClientKind.PLAIN, keys=2, same_key=True
)
BOX = scenario(Fault.EXPIRE, start="claimed", kind=ClientKind.PLAIN, same_key=True, keys=2)
PLAIN_REVOKED = scenario(Fault.DUE, Fault.REVOKE, kind=ClientKind.PLAIN)
TWICE = scenario(Fault.DUE, Fault.DUE, keys=3)
SAME_LOST = scenario(Fault.DUE, Fault.LOSE_SLOT, kind=ClientKind.PLAIN, keys=1, same_key=True)
WRONG_CODE = scenario(Fault.DUE, Fault.WRONG_CODE, keys=4, net=1)
CODE_BARE = scenario(Fault.LOSS, Fault.RESTORE_BARE, Fault.CODE, keys=4, net=1)
RESTORED = scenario(Fault.DUE, Fault.LOSS, Fault.RESTORE, keys=4)
RESTORED_REVOKED = scenario(Fault.REVOKE, Fault.RESTORE)
LOST_KEY = scenario(Fault.DUE, Fault.LOSE_KEY, Fault.CODE, keys=4, net=1)
TWO_COPIES = scenario(Fault.DUE, Fault.DUE, Fault.CLONE, keys=5, net=1)
SMALL = {
    "renewal": RENEWAL,
    "two renewals": TWICE,
    "time-out": EARLY,
    "lost slot": LOST_SLOT,
    "revoked": REVOKED,
    "expired": EXPIRED,
    "claimed": CLAIMED,
    "suspended": SUSPENDED,
    "thief": THIEF,
    "cloned": CLONED,
    "image": IMAGE,
    "rollover": ROLLOVER,
    "retired root": RETIRED_ROOT,
    "plain": PLAIN,
    "same key": SAME_KEY,
    "same key, lost": SAME_LOST,
    "box": BOX,
    "plain, revoked": PLAIN_REVOKED,
    "wrong code": WRONG_CODE,
    "code, restored without trail": CODE_BARE,
    "restored": RESTORED,
    "restored, revoked": RESTORED_REVOKED,
    "lost key": LOST_KEY,
    "two copies": TWO_COPIES,
}
"""What the wrong rules are shown on; with the right ones, all of it is clean."""


@dataclass(frozen=True, kw_only=True)
class Wrong:
    """A wrong rule, where it shows, and what the explorer must say."""

    scenario: Scenario
    finds: str
    server: ServerCore = field(default_factory=ServerCore)
    device: DeviceCore = field(default_factory=DeviceCore)
    keeps_list_by_changes: bool = False


def deciding(table: Mapping[ClientKind, rules.Rules]) -> ServerCore:
    """Return a server with other tables."""
    return ServerCore(
        decide=lambda device, event: lifecycle.decide(device, event, rules=table),
        signed=lambda device, request, *, serial: lifecycle.signed(
            device, request, serial=serial, rules=table
        ),
    )


def asked(
    state: State, wrong: Callable[[rules.Asked], rules.Asked], *, kind: ClientKind = ClientKind.AGENT
) -> ServerCore:
    """Return a server with other rules for what is asked about certificates in one state."""
    right = rules.RULES[kind]
    asked_wrong = MappingProxyType({**right.asked, state: wrong(right.asked[state])})
    return deciding({**rules.RULES, kind: replace(right, asked=asked_wrong)})


def told(
    state: State, wrong: Callable[[rules.Told], rules.Told], *, kind: ClientKind = ClientKind.AGENT
) -> ServerCore:
    """Return a server with other rules for what it is told about certificates in one state."""
    right = rules.RULES[kind]
    told_wrong = MappingProxyType({**right.told, state: wrong(right.told[state])})
    return deciding({**rules.RULES, kind: replace(right, told=told_wrong)})


Decide = Callable[[Device, events.Event], events.Decision]


def around(wrong: Callable[[Decide, Device, events.Event], events.Decision]) -> ServerCore:
    """Return a server that decides in another way, before and after a signature."""

    def decide(device: Device, event: events.Event) -> events.Decision:
        return wrong(lifecycle.decide, device, event)

    return ServerCore(decide=decide)


def switch_before_confirmed(held: Held) -> Held | None:
    pending = held.record.pending
    if pending is None or pending.credential is None:
        return None
    record = replace(held.record, active=pending.credential, pending=None, drop_acked=True)
    return Held(record, due=False)


def fall_back_for_good(held: Held) -> Held | None:
    pending = held.record.pending
    if pending is None or pending.credential is None:
        return None
    return Held(replace(held.record, pending=None, drop_acked=True), due=False)


def answer_a_code_once(right: Decide, device: Device, event: events.Event) -> events.Decision:
    decision = right(device, event)
    if isinstance(event, events.Enroll) and isinstance(decision.verdict, events.Replay):
        return events.refuse(device, ProblemCode.CODE_INVALID, "used")
    return decision


def give_a_code_to_all(right: Decide, device: Device, event: events.Event) -> events.Decision:
    if isinstance(event, events.Enroll) and not device.revoked:
        issue = events.Issue(key_hash=event.key_hash, code_id=event.code_id)
        return events.Decision(device=device, verdict=issue)
    return right(device, event)


def revoke_the_current_one(right: Decide, device: Device, event: events.Event) -> events.Decision:
    if isinstance(event, events.Revoke):
        states = {device.current: State.REVOKED}
        return events.noted(restate(device, lambda one: states.get(one.serial, one.state)))
    return right(device, event)


def forget_the_base(right: Decide, device: Device, event: events.Event) -> events.Decision:
    decision = right(device, event)
    return replace(decision, device=replace(decision.device, base=None))


def bury_while_suspended(right: Decide, device: Device, event: events.Event) -> events.Decision:
    if isinstance(event, events.Renew) and device.suspended:
        return events.Decision(device=device, verdict=events.Dead(key_hash=event.key_hash, attempt_floor=0))
    return right(device, event)


def run_grace_while_suspended(right: Decide, device: Device, event: events.Event) -> events.Decision:
    if not isinstance(event, events.GraceOver):
        return right(device, event)
    decision = right(replace(device, suspended=False), event)
    return replace(decision, device=replace(decision.device, suspended=device.suspended))


def sign_without_record() -> ServerCore:
    def signed(device: Device, request: events.Enroll | events.Renew, *, serial: str) -> events.Decision:
        parent = request.parent if isinstance(request, events.Renew) else None
        intent = Certificate(serial=serial, key_hash=request.key_hash, state=State.VOID, parent=parent)
        return lifecycle.signed(put(device, intent), request, serial=serial)

    return ServerCore(intend=lambda device, _issue, **_: device, signed=signed)


def resurrect(device: Device, certificate: Certificate, _event: object) -> events.Decision:
    return events.noted(make_current(device, certificate.serial, State.ACTIVE))


def alarm_for_any_handshake(
    device: Device, certificate: Certificate, event: events.Refused
) -> events.Decision:
    return confirmation.weigh_refusal(device, certificate, replace(event, stamp=1 << 62))


def use_that_kills_all(device: Device, certificate: Certificate, event: events.Connected) -> events.Decision:
    known = tuple(replace(one, issued_stamp=-1) for one in device.certificates)
    return plain.use(replace(device, certificates=known), certificate, event)


def use_that_kills_children(
    device: Device, certificate: Certificate, event: events.Connected
) -> events.Decision:
    decision = use_that_kills_all(device, certificate, event)
    dead = {one.serial for one in device.certificates if one.parent == certificate.serial}
    return events.noted(restate(decision.device, lambda one: State.DEAD if one.serial in dead else one.state))


def keep_the_key_with_a_new_code(record: DeviceRecord, event: on_device.Event) -> on_device.Step:
    taken = device_life.step(record, event)
    if isinstance(event, on_device.ProofGiven):
        return on_device.Step(record=replace(record, proof=event.proof))
    return taken


def deaf_to(event: type[on_device.Event]) -> DeviceCore:
    """Return a device that does not heed what it is told in one way."""

    def step(record: DeviceRecord, told: on_device.Event) -> on_device.Step:
        return on_device.Step(record=record) if isinstance(told, event) else device_life.step(record, told)

    return DeviceCore(step=step)


WRONG = {
    "1 switch before confirmed": Wrong(
        scenario=EARLY, device=DeviceCore(extra=switch_before_confirmed), finds=NO_WAY
    ),
    "2 fall back by deleting": Wrong(
        scenario=TWICE,
        device=DeviceCore(extra=fall_back_for_good),
        finds="I",
    ),
    "3 a code answers once": Wrong(scenario=CLAIMED, server=around(answer_a_code_once), finds=NO_WAY),
    "3 a code for two keys": Wrong(scenario=THIEF, server=around(give_a_code_to_all), finds="I5"),
    "4 no intent on record": Wrong(scenario=RENEWAL, server=sign_without_record(), finds="I4"),
    "5 revoke one serial": Wrong(scenario=REVOKED, server=around(revoke_the_current_one), finds="I3"),
    "5 a late confirm resurrects": Wrong(
        scenario=REVOKED, server=asked(State.REVOKED, lambda row: row._replace(confirm=resurrect)), finds="I3"
    ),
    "6 a list kept by changes": Wrong(scenario=RENEWAL, keeps_list_by_changes=True, finds=NO_WAY),
    "7 handshakes in the order of processing": Wrong(
        scenario=TWICE,
        server=told(State.SUPERSEDED_ACKED, lambda row: row._replace(refused=alarm_for_any_handshake)),
        finds="I6",
    ),
    "9 any anchor is believed": Wrong(
        scenario=ROLLOVER,
        device=DeviceCore(
            step=lambda record, event: device_life.step(
                record, replace(event, anchors=()) if isinstance(event, on_device.Answer) else event
            ),
            trusts=lambda _record, _anchors: True,
        ),
        finds="I7",
    ),
    "9 no link to a new anchor": Wrong(
        scenario=ROLLOVER,
        device=DeviceCore(trusts=lambda record, anchors: set(anchors) <= set(record.anchors)),
        finds=NO_WAY,
    ),
    "9 a root that is needed retires": Wrong(
        scenario=RETIRED_ROOT, server=ServerCore(unneeded=lambda _device: True), finds="I7"
    ),
    "B no predecessor rule": Wrong(
        scenario=LOST_SLOT,
        server=asked(State.SUPERSEDED, lambda row: row._replace(renew=renewal.renew_readmitted)),
        finds=NO_WAY,
    ),
    "C no confirm after expiry": Wrong(
        scenario=EXPIRED,
        server=asked(State.EXPIRED_GRACE, lambda row: row._replace(confirm=confirmation.no_confirm)),
        finds=NO_WAY,
    ),
    "D no answer after grace": Wrong(
        scenario=EXPIRED,
        server=asked(State.EXPIRED_FINAL, lambda row: row._replace(renew=renewal.not_current)),
        finds=NO_WAY,
    ),
    "J a late use kills what came after it": Wrong(
        scenario=PLAIN,
        server=told(
            State.ISSUED, lambda row: row._replace(connected=use_that_kills_all), kind=ClientKind.PLAIN
        ),
        finds="I1",
    ),
    "K a use kills its own children": Wrong(
        scenario=PLAIN,
        server=told(
            State.ACTIVE, lambda row: row._replace(connected=use_that_kills_children), kind=ClientKind.PLAIN
        ),
        finds="I",
    ),
    "L no answer from a superseded parent": Wrong(
        scenario=SAME_LOST,
        server=asked(
            State.SUPERSEDED, lambda row: row._replace(renew=renewal.not_current), kind=ClientKind.PLAIN
        ),
        finds=NO_WAY,
    ),
    "M dead in its box": Wrong(
        scenario=BOX,
        server=told(State.ISSUED, lambda row: row._replace(expired=rules.abandon), kind=ClientKind.PLAIN),
        finds="I",
    ),
    "O a late use resurrects": Wrong(
        scenario=PLAIN_REVOKED,
        server=told(State.REVOKED, lambda row: row._replace(connected=resurrect), kind=ClientKind.PLAIN),
        finds="I3",
    ),
    "P grace runs while suspended": Wrong(
        scenario=SUSPENDED, server=around(run_grace_while_suspended), finds="grace ran out"
    ),
    "Q dead while suspended": Wrong(
        scenario=SUSPENDED, server=around(bury_while_suspended), finds="a suspended device is told"
    ),
    "R no base for evidence": Wrong(scenario=IMAGE, server=around(forget_the_base), finds="I6"),
    "6 restored without what came after": Wrong(
        scenario=RESTORED_REVOKED, server=ServerCore(restored=lambda backup, _lost: backup), finds="I3"
    ),
    "D something new after grace": Wrong(
        scenario=EXPIRED,
        server=asked(State.EXPIRED_FINAL, lambda row: row._replace(renew=renewal.renew_in_grace)),
        finds="something new is issued after grace",
    ),
    "U a refused code is kept": Wrong(
        scenario=WRONG_CODE, device=deaf_to(on_device.ProofRefused), finds=NO_WAY
    ),
    "V a certificate that nobody knows is kept": Wrong(
        scenario=CODE_BARE, device=deaf_to(on_device.Disowned), finds=NO_WAY
    ),
    "6 a lost certificate is promised again": Wrong(
        scenario=RESTORED,
        server=ServerCore(told_again=lambda decide, device, request, _gone: decide(device, request)),
        finds=NO_WAY,
    ),
    "6 issuing before anybody has looked": Wrong(
        scenario=CODE_BARE,
        server=ServerCore(issues_while_frozen=True),
        finds="something is signed before anybody has looked",
    ),
    "H a stale handshake is no alarm": Wrong(
        scenario=TWO_COPIES,
        server=told(State.SUPERSEDED_ACKED, lambda row: row._replace(refused=rules.note)),
        finds=NO_WAY,
    ),
    "T a new code keeps the key": Wrong(
        scenario=CLONED, device=DeviceCore(step=keep_the_key_with_a_new_code), finds=NO_WAY
    ),
}


def explore_wrong(name: str) -> Result:
    """Explore the cores with one wrong rule."""
    wrong = WRONG[name]
    return explore(
        wrong.scenario,
        server_core=wrong.server,
        device_core=wrong.device,
        keeps_list_by_changes=wrong.keeps_list_by_changes,
        most_states=MOST_STATES,
    )
