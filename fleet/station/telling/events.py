"""What a station tells while it works, one frozen record for each step of each port."""

from dataclasses import dataclass
from enum import StrEnum

from fleet.station.link.causes import Cause


class Stage(StrEnum):
    """Where the unit on a port stands."""

    WAITING = "waiting"
    """No port, or nobody answers."""
    FOUND = "found"
    KEYED = "keyed"
    ISSUED = "issued"
    WRITING = "writing"
    INSTALLED = "installed"
    PROVEN = "proven"
    COMMITTED = "committed"
    SYNCED = "synced"
    """The server knows that the certificate is in use: this unit is finished."""
    HELD = "held"
    """The server cannot be reached or is not ready; the unit keeps its key, and it is tried again."""
    QUARANTINED = "quarantined"
    FAILED = "failed"
    """Not done in this session; it is tried again from where it stands."""
    UNPLUGGED = "unplugged"


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneEvent:
    """One step on one port. `done` and `total` count the bytes of the objects that are being moved."""

    port: str
    stage: Stage
    hardware_id: str = ""
    device_id: str = ""
    serial: str = ""
    detail: str = ""
    done: int = 0
    total: int = 0
    calls: int = 0
    wire_bytes: int = 0
    elapsed_ms: int = 0
    cause: Cause = Cause.NONE
    """What a worker is told, in the language of the screen; `detail` is the exact reason."""
    lane: int = 0
    """The number of the port's lane, from 1."""
    label: str = ""
    """What was scanned for this unit."""
    tofu: bool = False
    """The device had no anchor of its own and believed this station."""
