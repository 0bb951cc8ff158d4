"""One device and one server, both real cores, led step by step through a story."""

from dataclasses import replace

from device_agent.core import events as on_device
from device_agent.core import lifecycle as device_life
from device_agent.core.record import Anchor, DeviceRecord
from fleet.core import events
from fleet.core import lifecycle as server_life
from fleet.model import CertificateState, ClientKind, Device
from tests.exploration.agents import proof
from tests.exploration.server import claimed, credential, key_hash, number_of, serial, working

ANCHOR = Anchor(fingerprint="anchor 1", pem="")


class Pair:
    """A device (`record`) and its row at the server (`device`)."""

    def __init__(self, record: DeviceRecord, device: Device) -> None:
        self.record = record
        self.device = device
        self.keys = number_of(device.current)
        self.stamp = 10

    @classmethod
    def working(cls, kind: ClientKind = ClientKind.AGENT) -> "Pair":
        device = replace(working("anchor 1"), kind=kind)
        active = credential(device.certificates[0], "key 1")
        return cls(DeviceRecord(active=active, attempt=1, anchors=(ANCHOR,), drop_acked=True), device)

    @classmethod
    def claimed(cls) -> "Pair":
        return cls(DeviceRecord(anchors=(ANCHOR,), proof=proof("c1")), claimed())

    # The device's side.

    def step(self, event: on_device.Event) -> tuple[on_device.Action, ...]:
        taken = device_life.step(self.record, event)
        self.record = taken.record
        return taken.actions

    def make_key(self) -> None:
        self.keys += 1
        self.step(on_device.KeyMade(key=f"key {self.keys}", key_hash=key_hash(self.keys)))

    def receive(self, verdict: events.Verdict) -> None:
        """Bring the server's answer to the device."""
        match verdict:
            case events.Issued(serial=found) | events.Replay(serial=found):
                certificate = next(one for one in self.device.certificates if one.serial == found)
                self.step(
                    on_device.Answer(
                        credential=credential(certificate, ""),
                        anchors=(ANCHOR,),
                        attempt_floor=certificate.attempt,
                    )
                )
            case events.Confirmed(serial=found):
                self.step(on_device.Confirmed(serial=found))
            case events.DoneAck(serial=found):
                self.step(on_device.DoneAck(serial=found))
            case events.Dead(key_hash=found, attempt_floor=floor):
                self.step(on_device.Dead(key_hash=found, attempt_floor=floor))
            case _:
                self.step(on_device.Failed())

    def renewal(self, via: events.Via = events.Via.ADMITTED) -> events.Renew:
        """Return what the device would send now."""
        assert self.record.active is not None
        assert self.record.pending is not None
        self.stamp += 1
        return events.Renew(
            parent=self.record.active.serial,
            key_hash=self.record.pending.key_hash,
            attempt=self.record.pending.attempt,
            via=via,
            stamp=self.stamp,
        )

    def enrollment(self, code_id: str = "c1") -> events.Enroll:
        assert self.record.pending is not None
        return events.Enroll(code_id=code_id, key_hash=self.record.pending.key_hash)

    def confirmation(self) -> events.Confirm:
        assert self.record.pending is not None
        assert self.record.pending.credential is not None
        return events.Confirm(serial=self.record.pending.credential.serial)

    # The server's side.

    def tell(self, event: events.Event) -> events.Verdict:
        """Let the server judge, and sign at once what it is to sign."""
        decision = server_life.decide(self.device, event)
        self.device = decision.device
        if not isinstance(decision.verdict, events.Issue):
            return decision.verdict
        assert isinstance(event, events.Enroll | events.Renew)
        return self.sign(event, self.intend(decision.verdict))

    def intend(self, issue: events.Issue) -> str:
        new = serial(number_of(server_life.highest_serial(self.device)) + 1)
        self.device = server_life.intend(self.device, issue, serial=new, anchor="anchor 1")
        return new

    def sign(self, request: events.Enroll | events.Renew, new: str) -> events.Verdict:
        decision = server_life.signed(self.device, request, serial=new)
        self.device = decision.device
        return decision.verdict

    def refuse(self, number: int) -> None:
        """Let the broker refuse a certificate, now."""
        self.stamp += 1
        self.tell(events.Refused(serial=serial(number), stamp=self.stamp))

    def connect(self, number: int) -> None:
        self.stamp += 1
        self.tell(events.Connected(serial=serial(number), stamp=self.stamp))

    # Both.

    def get(self, via: events.Via = events.Via.ADMITTED) -> None:
        """Renew, up to the new certificate in the pending slot."""
        self.make_key()
        self.receive(self.tell(self.renewal(via)))

    def switch(self) -> None:
        """Confirm what is pending."""
        self.receive(self.tell(self.confirmation()))

    def settle(self) -> None:
        assert self.record.active is not None
        self.stamp += 1
        self.receive(self.tell(events.Done(serial=self.record.active.serial, stamp=self.stamp)))

    def rotate(self) -> None:
        self.get()
        self.switch()
        self.settle()

    def states(self) -> dict[int, CertificateState]:
        return {number_of(one.serial): one.state for one in self.device.certificates}

    def admitted(self) -> set[int]:
        return {number_of(one) for one in server_life.admitted(self.device)}

    def holds(self) -> int:
        return number_of(self.record.active.serial) if self.record.active else 0
