"""What became of a unit, as the factory's own systems read it: a JSON object, or a row of CSV."""

import csv
import io
import json
import uuid
from dataclasses import asdict, dataclass, fields
from enum import StrEnum

from device_agent.wire.fields import parse_object
from fleet.station.telling.events import LaneEvent, Stage

_NAMESPACE = uuid.UUID("9a4e5a3f-6d0b-5d0c-8f2d-5a1a9f6f1f0e")
LONGEST = 512


class Verdict(StrEnum):
    """The word that a factory's system acts on."""

    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"
    """Not this time; it may come again."""
    QUARANTINE = "quarantine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One end of one unit. `id` is the same however often it is sent."""

    id: str
    at: str
    """RFC 3339, UTC."""
    result: Verdict
    station: str
    operator: str
    port: str
    label: str
    hardware_id: str
    device_id: str
    serial: str
    cause: str
    detail: str
    elapsed_ms: int

    def line(self) -> str:
        """Return it as a JSON object in one line, without the line's end."""
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":"))

    def row(self) -> str:
        """Return it as a row of CSV (RFC 4180), without its end."""
        return _csv([str(value) for value in asdict(self).values()])

    @classmethod
    def parse(cls, text: str) -> "Result":
        """Read a JSON object back.

        Raises:
            MalformedMessageError: it is none that `line` made.
        """
        found = parse_object(text.encode())
        words = {
            each.name: found.any_text(each.name, longest=LONGEST)
            for each in fields(cls)
            if each.name not in ("result", "elapsed_ms")
        }
        return cls(
            result=Verdict(found.text("result", longest=16)),
            elapsed_ms=found.integer("elapsed_ms", lowest=0, highest=2**40),
            **words,
        )


def columns() -> str:
    """Return the first line of a CSV file."""
    return _csv([each.name for each in fields(Result)])


def verdict_of(event: LaneEvent) -> Verdict | None:
    """Return what an event says of a unit for good; None where its visit goes on, or nobody is known."""
    if not event.hardware_id:
        return None
    match event.stage:
        case Stage.COMMITTED:
            return Verdict.PASS
        case Stage.QUARANTINED:
            return Verdict.QUARANTINE
        case Stage.FAILED:
            return Verdict.FAIL
        case _:
            return None


def id_of(verdict: Verdict, event: LaneEvent, *, at: str) -> str:
    """Return the id of a result: a certificate passes once, and every other end is one of its own."""
    name = event.serial if verdict is Verdict.PASS else f"{event.hardware_id} {verdict} {at} {event.detail}"
    return str(uuid.uuid5(_NAMESPACE, name))


def _csv(cells: list[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow([_plain(cell) for cell in cells])
    return text.getvalue()


def _plain(cell: str) -> str:
    """Return a cell that no spreadsheet takes for a formula, in one line."""
    line = " ".join(cell.split())
    return f"'{line}" if line[:1] in ("=", "+", "-", "@") else line
