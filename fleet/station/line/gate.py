"""What a line asks of a unit beside its certificate: the label that was scanned for it, a jig's verdict."""

from dataclasses import dataclass, replace

from device_agent.wire.factory_replies import HelloReply
from device_agent.wire.identity import parse_device_id
from device_agent.wire.problems import MalformedMessageError
from fleet.errors import FleetError
from fleet.station.line.jig import Jig
from fleet.station.line.scanner import Labels, Use
from fleet.station.link import steps
from fleet.station.link.causes import Cause, cause_of
from fleet.station.telling.book import Binding, Book


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a unit is: its port, and the number of that port's lane."""

    port: str
    lane: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Without a scanner no label is asked for, without a jig every unit is good."""

    book: Book | None = None
    labels: Labels | None = None
    jig: Jig | None = None
    models: frozenset[str] = frozenset()
    """The only ones that this line makes; empty takes all."""

    async def admit(self, place: Place, hello: HelloReply) -> tuple[HelloReply, str] | steps.Decision:
        """Return the unit with the id that its label gives it, and its label; or why it does not go on."""
        if self.models and hello.model not in self.models:
            made = ", ".join(sorted(self.models))
            reason = f"it is a {hello.model or 'unit of no model'}, and this line makes {made}"
            return steps.Refuse(reason=reason, cause=Cause.WRONG_DEVICE)
        if self.book is None or self.labels is None:
            return hello, ""
        try:
            return await self._labelled(self.book, self.labels, place, hello)
        except FleetError as error:
            return steps.Hold(reason=str(error), cause=cause_of(error))

    async def _labelled(
        self, book: Book, labels: Labels, place: Place, hello: HelloReply
    ) -> tuple[HelloReply, str] | steps.Decision:
        known = await book.binding_of(hello.hardware_id)
        scanned = labels.give(place.lane)
        if not scanned and known is None:
            return steps.Hold(reason="no label was scanned for this unit", cause=Cause.SCAN_LABEL)
        if known is not None and scanned in ("", known.label):
            return _named(hello, known.label, labels.use)
        wanted = Binding(
            label=scanned, hardware_id=hello.hardware_id, port=place.port, device_id=hello.device_id
        )
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
