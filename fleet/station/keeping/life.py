"""The life of one generation of a unit in the station's ledger, as one table.

A unit has one generation for each key that it was given a certificate for. A unit that is doubted is in
quarantine whatever its generation says, until a person releases it.
"""

from collections.abc import Mapping
from enum import StrEnum


class UnitState(StrEnum):
    """Stored by name."""

    RESERVED = "reserved"
    """The hardware id has its device id; maybe the key is known."""
    ISSUED = "issued"
    """The certificate is kept here, before any of it is sent."""
    PROVEN = "proven"
    COMMITTED = "committed"
    LABELLED = "labelled"
    SYNCED = "synced"
    """The server knows that it is in use."""
    REVOKED = "revoked"
    """A later generation replaced it."""


class UnitEvent(StrEnum):
    ISSUED = "issued"
    PROVEN = "proven"
    COMMITTED = "committed"
    LABELLED = "labelled"
    SYNCED = "synced"
    REPLACED = "replaced"


_S, _E = UnitState, UnitEvent

LIFE: Mapping[tuple[UnitState, UnitEvent], UnitState] = {
    (_S.RESERVED, _E.ISSUED): _S.ISSUED,
    (_S.RESERVED, _E.REPLACED): _S.REVOKED,
    (_S.ISSUED, _E.ISSUED): _S.ISSUED,
    (_S.ISSUED, _E.PROVEN): _S.PROVEN,
    (_S.ISSUED, _E.REPLACED): _S.REVOKED,
    (_S.PROVEN, _E.PROVEN): _S.PROVEN,
    (_S.PROVEN, _E.COMMITTED): _S.COMMITTED,
    (_S.PROVEN, _E.REPLACED): _S.REVOKED,
    (_S.COMMITTED, _E.PROVEN): _S.COMMITTED,
    (_S.COMMITTED, _E.COMMITTED): _S.COMMITTED,
    (_S.COMMITTED, _E.LABELLED): _S.LABELLED,
    (_S.COMMITTED, _E.SYNCED): _S.SYNCED,
    (_S.COMMITTED, _E.REPLACED): _S.REVOKED,
    (_S.LABELLED, _E.PROVEN): _S.LABELLED,
    (_S.LABELLED, _E.COMMITTED): _S.LABELLED,
    (_S.LABELLED, _E.LABELLED): _S.LABELLED,
    (_S.LABELLED, _E.SYNCED): _S.SYNCED,
    (_S.LABELLED, _E.REPLACED): _S.REVOKED,
    (_S.SYNCED, _E.PROVEN): _S.SYNCED,
    (_S.SYNCED, _E.COMMITTED): _S.SYNCED,
    (_S.SYNCED, _E.LABELLED): _S.SYNCED,
    (_S.SYNCED, _E.SYNCED): _S.SYNCED,
    (_S.SYNCED, _E.REPLACED): _S.REVOKED,
    (_S.REVOKED, _E.REPLACED): _S.REVOKED,
}
"""A pair that is not here changes nothing and is refused: what is revoked stays revoked, and nothing is
committed that was not proven."""
