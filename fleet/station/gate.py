"""What a line asks of a unit beside its certificate: the label that was scanned for it, a jig's verdict."""

from dataclasses import dataclass, replace

from device_agent.wire.factory_replies import HelloReply
from device_agent.wire.identity import parse_device_id
from device_agent.wire.problems import MalformedMessageError
from fleet.errors import FleetError
from fleet.station import steps
from fleet.station.book import Binding, Book
from fleet.station.causes import Cause, cause_of
from fleet.station.jig import Jig
from fleet.station.scanner import Labels, Use


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Without a scanner no label is asked for, without a jig every unit is good."""

    book: Book | None = None
    labels: Labels | None = None
    jig: Jig | None = None

    async def admit(self, port: str, hello: HelloReply) -> tuple[HelloReply, str] | steps.Decision:
        """Return the unit with the id that its label gives it, and its label; or why it does not go on."""
        if self.book is None or self.labels is None:
            return hello, ""
        try:
            return await self._labelled(self.book, self.labels, port, hello)
        except FleetError as error:
            return steps.Hold(reason=str(error), cause=cause_of(error))

    async def _labelled(
        self, book: Book, labels: Labels, port: str, hello: HelloReply
    ) -> tuple[HelloReply, str] | steps.Decision:
        known = await book.binding_of(hello.hardware_id)
        scanned = labels.give(port)
        if not scanned and known is None:
            return steps.Hold(reason="no label was scanned for this unit", cause=Cause.SCAN_LABEL)
        if known is not None and scanned in ("", known.label):
            return _named(hello, known.label, labels.use)
        wanted = Binding(label=scanned, hardware_id=hello.hardware_id, port=port, device_id=hello.device_id)
        bound = await book.bind(wanted)
        if (bound.label, bound.hardware_id) != (scanned, hello.hardware_id):
            return _other(f"label {bound.label} belongs to unit {bound.hardware_id}")
        return _named(hello, scanned, labels.use)

    async def test(self, unit: dict[str, str]) -> steps.Decision:
        """Return `Recorded` where the jig has nothing against a unit."""
        return steps.Recorded() if self.jig is None else await self.jig.judge(unit)


def _named(hello: HelloReply, label: str, use: Use) -> tuple[HelloReply, str] | steps.Decision:
    if use is Use.LABEL:
        return hello, label
    try:
        device_id = parse_device_id(label)
    except MalformedMessageError:
        return _other(f"label {label} is no device id")
    if hello.device_id not in ("", device_id):
        return _other(f"the unit is {hello.device_id}, its label says {label}")
    return replace(hello, device_id=device_id), label


def _other(reason: str) -> steps.Refuse:
    return steps.Refuse(reason=reason, cause=Cause.OTHER_LABEL)
