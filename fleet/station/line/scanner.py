"""What a bar-code scanner says, line by line, and which unit each label belongs to.

A scanner is a keyboard: it types what it reads, and Enter. `LANE 7` chooses a lane for the next label;
`BADGE ...` is an operator's; `fleet-code:...` is a one-time code for a unit that comes back; everything else
is the label of a unit.
"""

import re
from dataclasses import dataclass, field
from enum import StrEnum

MAX_LABEL = 64
_LABEL = re.compile(rf"[A-Za-z0-9 $%*+\-./:_]{{1,{MAX_LABEL}}}", re.ASCII)
_LANE = re.compile(r"LANE[ :]?0*([1-9][0-9]{0,3})", re.ASCII | re.IGNORECASE)
_BADGE = re.compile(r"BADGE[ :](.{1,128})", re.ASCII | re.IGNORECASE)
_CODE = "fleet-code:"
_SYMBOLOGY = re.compile(r"^\][A-Za-z][0-9A-Za-z]", re.ASCII)
"""Which kind of bar code it was, as many scanners say first (ISO/IEC 15424): no part of what is in it."""


class Kind(StrEnum):
    """What a line from the scanner was."""

    LABEL = "label"
    LANE = "lane"
    BADGE = "badge"
    CODE = "code"
    """A secret: nobody is shown it."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """One line. `lane` counts from 1; 0 where none was chosen."""

    kind: Kind
    text: str = ""
    lane: int = 0


def parse_scan(line: str) -> Scan:
    """Return what a line means; what cannot be a label is UNKNOWN, and harms nothing."""
    text = _SYMBOLOGY.sub("", line.strip())
    if match := _LANE.fullmatch(text):
        return Scan(kind=Kind.LANE, lane=int(match[1]))
    if match := _BADGE.fullmatch(text):
        return Scan(kind=Kind.BADGE, text=match[1].strip())
    if (begin := text.lower().find(_CODE)) >= 0:
        return Scan(kind=Kind.CODE, text=text[begin:])
    if _LABEL.fullmatch(text):
        return Scan(kind=Kind.LABEL, text=text)
    return Scan(kind=Kind.UNKNOWN, text=text[:MAX_LABEL])


class Use(StrEnum):
    """What the label of a unit is to the line."""

    LABEL = "label"
    """Kept beside the unit."""
    ID = "id"
    """It is the device id that the unit gets."""


@dataclass(slots=True, kw_only=True)
class Labels:
    """Labels that were scanned and not used yet: for a lane, or for the next unit that asks."""

    use: Use = Use.LABEL
    _chosen: int = 0
    _by_lane: dict[int, str] = field(default_factory=dict)
    _next: str = ""

    def take(self, scan: Scan) -> Scan:
        """Note a label or a lane; return the scan with the lane that it counts for."""
        match scan.kind:
            case Kind.LANE:
                self._chosen = scan.lane
                return scan
            case Kind.LABEL if self._chosen:
                lane, self._chosen = self._chosen, 0
                self._by_lane[lane] = scan.text
                return Scan(kind=Kind.LABEL, text=scan.text, lane=lane)
            case Kind.LABEL:
                self._next = scan.text
                return scan
            case _:
                return scan

    def give(self, lane: int) -> str:
        """Return the label for the unit on a lane, once; empty where none was scanned for it."""
        label = self._by_lane.pop(lane, "")
        if not label:
            label, self._next = self._next, ""
        return label
