"""Why a unit does not go on, as a word that screens translate: what a worker does next depends on it.

The exact reason stands beside it, in English, for whoever mends the station.
"""

from collections.abc import Mapping
from enum import StrEnum

from device_agent.wire.factory import Rc
from fleet.errors import FleetError, RefusedError, StorageFullError, StoreError, UnreachableError


class Cause(StrEnum):
    """Each has a sentence in every language of the screen."""

    NONE = "none"
    """Nothing is wrong, or nothing more is known."""
    NO_PORT = "no-port"
    """The adapter is not plugged into the station."""
    PORT_IN_USE = "port-in-use"
    BAD_CABLE = "bad-cable"
    """What comes is spoilt, or the unit fell silent in the middle."""
    WRONG_DEVICE = "wrong-device"
    """Something answers, and it is none of the units that this line makes."""
    OTHER_FIRMWARE = "other-firmware"
    """It talks, but does not speak the factory link: not flashed, or not in this mode."""
    MADE_BEFORE = "made-before"
    """This station made it already, and it is finished."""
    MADE_ELSEWHERE = "made-elsewhere"
    """It holds a certificate that nobody here knows."""
    OLD_COPY = "old-copy"
    """Its certificate or key was replaced by a later one."""
    TWO_AT_ONCE = "two-at-once"
    """A unit with the same hardware id is at another port."""
    CHANGED_NAME = "changed-name"
    """It is another unit than the one that began, or says so."""
    WRONG_REQUEST = "wrong-request"
    """Its request is not signed with its key, or is another unit's."""
    WRONG_PROOF = "wrong-proof"
    """It does not hold the key of its certificate."""
    FLOODS = "floods"
    """It sends without end."""
    QUARANTINED = "quarantined"
    """It was put aside before; only a person can release it."""
    TEST_FAILED = "test-failed"
    """The test jig says no."""
    JIG_AWAY = "jig-away"
    """The test jig gave no verdict."""
    SCAN_LABEL = "scan-label"
    """The line wants to know the label of the unit first."""
    OTHER_LABEL = "other-label"
    """The unit belongs to another label than the one that was scanned."""
    OTHER_NUMBER = "other-number"
    """Another line gave its number away first: it gets the next one."""
    SERVER_AWAY = "server-away"
    DISK_FULL = "disk-full"
    STATION_BROKEN = "station-broken"
    """The ledger of the station cannot be read or written."""
    NOT_ALLOWED = "not-allowed"
    """The rules of the station or the server say no: batch, quota, shift."""
    NOT_ANSWERING = "not-answering"
    """It was there, and fell silent."""


MOST_HEARD = 256
"""Bytes that are enough to tell text from noise."""
SILENCES: Mapping[Cause, str] = {
    Cause.BAD_CABLE: "bytes come that are no message: a bad cable, or another speed",
    Cause.OTHER_FIRMWARE: "what is there writes text and does not speak the factory link",
}
"""The reasons of `cause_of_silence`, for whoever mends the station."""
REFUSAL_CAUSES: Mapping[int, Cause] = {
    Rc.STATE: Cause.CHANGED_NAME,
    Rc.SESSION: Cause.CHANGED_NAME,
    Rc.KEY_MISMATCH: Cause.WRONG_PROOF,
    Rc.UNAUTHORISED: Cause.WRONG_DEVICE,
    Rc.UNSUPPORTED: Cause.OTHER_FIRMWARE,
}
"""What a worker is told where the unit says no: it forgot the session, or it belongs to somebody else."""

_TEXT_SHARE = 0.85
_LEAST_HEARD = 16


def cause_of(error: FleetError) -> Cause:
    """Return what the screen says to an error of the ledger or the server."""
    match error:
        case StorageFullError():
            return Cause.DISK_FULL
        case StoreError():
            return Cause.STATION_BROKEN
        case UnreachableError():
            return Cause.SERVER_AWAY
        case RefusedError():
            return Cause.NOT_ALLOWED
        case _:
            return Cause.STATION_BROKEN


def cause_of_silence(heard: bytes) -> Cause:
    """Return what is wrong where bytes came, and not one message of the factory link among them.

    A boot log or a shell is text; a wrong speed, a loose ground or a crossed wire makes bytes of any value.
    """
    if len(heard) < _LEAST_HEARD:
        return Cause.NONE if not heard else Cause.BAD_CABLE
    text = sum(32 <= octet < 127 or octet in b"\r\n\t\x1b" for octet in heard)
    return Cause.OTHER_FIRMWARE if text >= _TEXT_SHARE * len(heard) else Cause.BAD_CABLE
