"""The server's part in a world: the real core, each decision made once and remembered."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import NamedTuple, TypeAlias

from device_agent.core import events as on_device
from device_agent.core.record import Anchor, Credential
from device_agent.wire.identity import Identity
from device_agent.wire.problems import RETRY_ADVICE, Retry
from device_agent.wire.replies import BrokerAddress
from fleet.core import events, lifecycle, trace
from fleet.core.lineage import certificate_of
from fleet.model import Certificate, CertificateState, Code, Device
from tests.exploration.world import Past, Pool

State = CertificateState
Answer: TypeAlias = (
    on_device.Answer
    | on_device.Confirmed
    | on_device.DoneAck
    | on_device.Dead
    | on_device.ProofRefused
    | on_device.Disowned
)
Message: TypeAlias = events.Request | events.Report | Answer

IDENTITY = Identity(domain="prod", device_id="d1")
BROKER = BrokerAddress(host="broker.example", port=8883, name=IDENTITY.name)
TO_SERVER = (
    events.Enroll,
    events.Renew,
    events.Confirm,
    events.Done,
    events.Connected,
    events.Refused,
)
_BIRTH = datetime(2026, 1, 1, tzinfo=UTC)
_END = datetime(2026, 4, 1, tzinfo=UTC)


class BrokenError(Exception):
    """One step broke a rule that must hold for every step."""


def serial(number: int) -> str:
    return f"{number:032x}"


def number_of(text: str | None) -> int:
    return 0 if text is None else int(text, 16)


def key_hash(number: int) -> str:
    return f"{number:064x}"


def credential(certificate: Certificate, key: str) -> Credential:
    """Return what a device holds of a certificate."""
    return Credential(
        key=key,
        key_hash=certificate.key_hash,
        serial=certificate.serial,
        certificate=certificate.parent or "",  # stands for the leaf: what it was renewed from
        chain=certificate.anchor,
        not_before=_BIRTH,
        not_after=_END,
        broker=BROKER,
    )


def working(anchor: str) -> Device:
    """Return a device that enrolled, confirmed and settled."""
    first = Certificate(
        serial=serial(1), key_hash=key_hash(1), state=State.ACTIVE, anchor=anchor, done_stamp=4
    )
    return Device(identity=IDENTITY, certificates=(first,), current=first.serial)


def claimed() -> Device:
    """Return a device that has a code and nothing else."""
    return Device(identity=IDENTITY, codes=(Code(code_id="c1"),))


_IN_USE = frozenset({State.ISSUED, State.ACTIVE, State.EXPIRED_GRACE, State.EXPIRED_UNUSED})


def nobody_needs_the_old_root(device: Device) -> bool:
    """Tell whether a root can go, as `fleet ca retire` does: nothing under it may be used or renewed."""
    return not any(one.anchor == "anchor 1" and one.state in _IN_USE for one in device.certificates)


def caught_up(backup: Device, lost: Device) -> Device:
    """Return a device from a backup, brought up to date by the trail, as `fleet ca restore` does.

    No trail holds the code that was made since: one that nobody has used admits nobody any more.
    """
    text = trace.changes(backup, lost, origins={})
    after = trace.follow(backup, text).device if text else backup
    known = {code.code_id for code in backup.codes}
    return replace(after, codes=tuple(one for one in after.codes if one.key_hash or one.code_id in known))


def told_again(
    decide: "Decide", device: Device, request: events.Event, gone: frozenset[str]
) -> events.Decision:
    """Judge a request where certificates are gone: what cannot be given again is dead, as in `ra.issuing`."""
    decision = decide(device, request)
    if isinstance(decision.verdict, events.Replay) and decision.verdict.serial in gone:
        lost = events.Unconfirmed(serial=decision.verdict.serial)
        return decide(decide(decision.device, lost).device, request)
    return decision


Decide: TypeAlias = Callable[[Device, events.Event], events.Decision]


@dataclass(frozen=True, kw_only=True)
class ServerCore:
    """What of the server's core is explored; a test may put a wrong rule into the place of one."""

    decide: Callable[[Device, events.Event], events.Decision] = lifecycle.decide
    intend: Callable[..., Device] = lifecycle.intend
    signed: Callable[..., events.Decision] = lifecycle.signed
    admitted: Callable[[Device], frozenset[str]] = lifecycle.admitted
    unneeded: Callable[[Device], bool] = nobody_needs_the_old_root
    restored: Callable[[Device, Device], Device] = caught_up
    told_again: Callable[[Decide, Device, events.Event, frozenset[str]], events.Decision] = told_again
    issues_while_frozen: bool = False


class View(NamedTuple):
    """What the explorer asks again and again of a server's record."""

    device: Device
    admitted: frozenset[str]
    states: dict[str, State]
    issued: tuple[Certificate, ...]
    is_off: bool


class Outcome(NamedTuple):
    server: int
    reply: int | None
    signing: str | None


@dataclass
class Server:
    """The server: its records by number, its decisions by pairs of numbers."""

    core: ServerCore
    messages: Pool[Message]
    records: Pool[Device] = field(default_factory=Pool)
    _views: dict[int, View] = field(default_factory=dict)
    _heard: dict[tuple[int, int, str, Past], Outcome] = field(default_factory=dict)
    _signed: dict[tuple[int, str, int], tuple[int, int | None]] = field(default_factory=dict)
    _applied: dict[tuple[int, events.Event], int] = field(default_factory=dict)

    def view(self, server: int) -> View:
        found = self._views.get(server)
        if found is None:
            device = self.records[server]
            found = self._views[server] = View(
                device=device,
                admitted=self.core.admitted(device),
                states={one.serial: one.state for one in device.certificates},
                issued=tuple(one for one in device.certificates if one.state is State.ISSUED),
                is_off=device.suspended or device.alarm == 2,
            )
        return found

    def hear(self, server: int, message: int, *, anchor: str, past: Past) -> Outcome:
        """Judge a message; an `Issue` puts its intent on record and starts a signature."""
        key = (server, message, anchor, past)
        found = self._heard.get(key)
        if found is None:
            found = self._heard[key] = self._hear(server, message, anchor=anchor, past=past)
        return found

    def _hear(self, server: int, message: int, *, anchor: str, past: Past) -> Outcome:
        device, request = self.records[server], self.messages[message]
        assert not isinstance(request, Answer)
        is_frozen = past.frozen and not self.core.issues_while_frozen
        if is_frozen and isinstance(request, events.Enroll | events.Renew):
            return Outcome(server, None, None)
        decision = self.core.told_again(self.core.decide, device, request, past.gone)
        self._check(device, decision, request)
        if not isinstance(decision.verdict, events.Issue):
            reply = self._reply(decision, request, past.gone)
            return Outcome(self.records.number(decision.device), reply, None)
        new = serial(max(number_of(lifecycle.highest_serial(device)), past.highest) + 1)
        after = self.core.intend(decision.device, decision.verdict, serial=new, anchor=anchor)
        return Outcome(self.records.number(after), None, new)

    def sign(self, server: int, new: str, message: int) -> tuple[int, int | None]:
        """Put a signature on record, and answer."""
        key = (server, new, message)
        found = self._signed.get(key)
        if found is None:
            device, request = self.records[server], self.messages[message]
            decision = self.core.signed(device, request, serial=new)
            self._check(device, decision, request)
            reply = self._reply(decision, request, frozenset())
            found = self._signed[key] = (self.records.number(decision.device), reply)
        return found

    def apply(self, server: int, event: events.Event) -> int:
        """Apply what a clock tells or an operator does."""
        key = (server, event)
        found = self._applied.get(key)
        if found is None:
            device = self.records[server]
            decision = self.core.decide(device, event)
            self._check(device, decision, event)
            found = self._applied[key] = self.records.number(decision.device)
        return found

    def restore(self, server: int, backup: int) -> int:
        """Return the record after a backup was brought up to date by the trail."""
        return self.records.number(self.core.restored(self.records[backup], self.records[server]))

    def _reply(self, decision: events.Decision, request: Message, gone: frozenset[str]) -> int | None:
        answer: Answer
        match decision.verdict:
            case events.Replay(serial=found) if found in gone:
                return None  # in use already, so whoever asks for it is late
            case events.Nothing() if isinstance(request, events.Confirm):
                if certificate_of(decision.device, request.serial) is not None:
                    return None
                answer = on_device.Disowned(serial=request.serial)
            case events.Nothing(code=code) if isinstance(request, events.Enroll):
                if RETRY_ADVICE[code] is not Retry.NEVER:
                    return None
                answer = on_device.ProofRefused(key_hash=request.key_hash)
            case events.Issued(serial=found) | events.Replay(serial=found):
                certificate = next(one for one in decision.device.certificates if one.serial == found)
                answer = on_device.Answer(
                    credential=credential(certificate, ""),
                    anchors=(Anchor(fingerprint=certificate.anchor, pem=""),),
                    attempt_floor=certificate.attempt,
                )
            case events.Confirmed(serial=found):
                answer = on_device.Confirmed(serial=found)
            case events.DoneAck(serial=found):
                answer = on_device.DoneAck(serial=found)
            case events.Dead(key_hash=found, attempt_floor=floor):
                answer = on_device.Dead(key_hash=found, attempt_floor=floor)
            case _:
                return None
        return self.messages.number(answer)

    def _check(self, before: Device, decision: events.Decision, event: Message | events.Act) -> None:
        """Rules for a step: nothing revoked comes back, nothing signed is forgotten, nobody is misled."""
        after = {one.serial: one for one in decision.device.certificates}
        for one in before.certificates:
            if one.serial not in after:
                raise BrokenError("I4 a certificate left the record")
            if one.state is State.REVOKED and after[one.serial].state is not State.REVOKED:
                raise BrokenError("I3 a revoked certificate came back")
        if isinstance(decision.verdict, events.Dead):
            current = after.get(decision.device.current or "")
            if current is not None and current.key_hash == decision.verdict.key_hash:
                raise BrokenError("I1 a device is told to drop the key of its current certificate")
            if before.suspended:
                raise BrokenError("a suspended device is told to drop a key")
        if isinstance(event, events.Renew) and isinstance(decision.verdict, events.Issue):
            shown = certificate_of(before, event.parent)
            if shown is not None and shown.state is State.EXPIRED_FINAL:
                raise BrokenError("something new is issued after grace")
        if before.suspended and isinstance(event, events.GraceOver) and decision.device != before:
            raise BrokenError("grace ran out while the device was suspended")
