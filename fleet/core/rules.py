"""What follows from each event about a certificate, by its state: two tables, agents' and plain clients'.

A rule takes the device as it is on record, one of its certificates and an event, and returns the device
to be saved and what to say. Three things hold in every cell:

1. A refusal changes no certificate and costs its asker nothing; only `Dead` makes a device drop a key.
2. Nothing is issued here: the answer is `Issue`, and the intent is on record before anything is signed.
3. What is revoked stays revoked, whatever comes late.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple, TypeAlias, TypeVar

from fleet.core import plain
from fleet.core.confirmation import (
    acknowledge,
    activate,
    confirm_again,
    give_up,
    give_up_if_readmitted,
    no_confirm,
    no_confirm_revoked,
    no_done,
    weigh_refusal,
    weigh_use,
)
from fleet.core.events import (
    Confirm,
    Connected,
    Decision,
    Done,
    Event,
    Expired,
    GraceOver,
    Refused,
    Renew,
    Report,
    Unconfirmed,
    noted,
)
from fleet.core.lineage import is_off, turn
from fleet.core.renewal import (
    not_current,
    renew_current,
    renew_in_grace,
    renew_lost_slot,
    renew_readmitted,
    replay_after_grace,
    revoked,
)
from fleet.model import Certificate, CertificateState, ClientKind, Device

_E = TypeVar("_E", bound=Event)
Rule: TypeAlias = Callable[[Device, Certificate, _E], Decision]


def note(device: Device, _certificate: Certificate, _event: Report) -> Decision:
    """Change nothing."""
    return noted(device)


def abandon(device: Device, certificate: Certificate, _event: Report) -> Decision:
    """It is dead."""
    return noted(turn(device, certificate, CertificateState.DEAD))


def keep_unused(device: Device, certificate: Certificate, _event: Report) -> Decision:
    """It expired in its box: it may still be renewed, which counts as its first use."""
    return noted(turn(device, certificate, CertificateState.EXPIRED_UNUSED))


def begin_grace(device: Device, certificate: Certificate, _event: Report) -> Decision:
    """It is not admitted any more, and may be renewed at recovery."""
    return noted(turn(device, certificate, CertificateState.EXPIRED_GRACE))


def end_grace(device: Device, certificate: Certificate, event: Report) -> Decision:
    """Only a new code helps, unless the device is kept out: then the clock of grace stands still."""
    if is_off(device):
        return noted(device)
    if certificate.state is CertificateState.EXPIRED_UNUSED:
        return abandon(device, certificate, event)
    return noted(turn(device, certificate, CertificateState.EXPIRED_FINAL))


class Asked(NamedTuple):
    """What a device asks about a certificate that it showed."""

    renew: Rule[Renew]
    confirm: Rule[Confirm]
    done: Rule[Done]


class Told(NamedTuple):
    """What brokers and clocks tell about a certificate."""

    connected: Rule[Connected]
    refused: Rule[Refused]
    unconfirmed: Rule[Unconfirmed]
    expired: Rule[Expired]
    grace_over: Rule[GraceOver]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The rules for one kind of client, complete: a cell for each state and event."""

    asked: Mapping[CertificateState, Asked]
    told: Mapping[CertificateState, Told]


State = CertificateState

# fmt: off
AGENT = Rules(
    asked=MappingProxyType({
        # shown certificate:         renew                confirm                done
        State.VOID:             Asked(not_current,        give_up,               no_done),
        State.ISSUED:           Asked(not_current,        activate,              no_done),
        State.ACTIVE:           Asked(renew_current,      confirm_again,         acknowledge),
        State.EXPIRED_UNUSED:   Asked(not_current,        no_confirm,            no_done),
        State.EXPIRED_GRACE:    Asked(renew_in_grace,     confirm_again,         acknowledge),
        State.EXPIRED_FINAL:    Asked(replay_after_grace, confirm_again,         acknowledge),
        State.SUPERSEDED:       Asked(renew_lost_slot,    give_up_if_readmitted, no_done),
        State.SUPERSEDED_ACKED: Asked(renew_readmitted,   give_up_if_readmitted, no_done),
        State.DEAD:             Asked(not_current,        give_up,               no_done),
        State.REVOKED:          Asked(revoked,            no_confirm_revoked,    no_done),
    }),
    told=MappingProxyType({
        # its certificate:           connected  refused        unconfirmed  expired      grace over
        State.VOID:             Told(note,      note,          note,        note,        note),
        State.ISSUED:           Told(note,      note,          abandon,     abandon,     note),
        State.ACTIVE:           Told(weigh_use, note,          note,        begin_grace, note),
        State.EXPIRED_UNUSED:   Told(note,      note,          note,        note,        end_grace),
        State.EXPIRED_GRACE:    Told(note,      note,          note,        note,        end_grace),
        State.EXPIRED_FINAL:    Told(note,      note,          note,        note,        note),
        State.SUPERSEDED:       Told(note,      note,          note,        note,        note),
        State.SUPERSEDED_ACKED: Told(note,      weigh_refusal, note,        note,        note),
        State.DEAD:             Told(note,      note,          note,        note,        note),
        State.REVOKED:          Told(note,      note,          note,        note,        note),
    }),
)

PLAIN = Rules(
    asked=MappingProxyType({
        # shown certificate:         renew                confirm             done
        State.VOID:             Asked(not_current,         no_confirm,         no_done),
        State.ISSUED:           Asked(plain.use_and_renew, plain.use_by_word,  no_done),
        State.ACTIVE:           Asked(plain.renew_current, confirm_again,      no_done),
        State.EXPIRED_UNUSED:   Asked(plain.use_and_renew, no_confirm,         no_done),
        State.EXPIRED_GRACE:    Asked(plain.renew_current, confirm_again,      no_done),
        State.EXPIRED_FINAL:    Asked(plain.replay_child,  confirm_again,      no_done),
        State.SUPERSEDED:       Asked(plain.replay_child,  no_confirm,         no_done),
        State.SUPERSEDED_ACKED: Asked(plain.replay_child,  no_confirm,         no_done),
        State.DEAD:             Asked(not_current,         no_confirm,         no_done),
        State.REVOKED:          Asked(revoked,             no_confirm_revoked, no_done),
    }),
    told=MappingProxyType({
        # its certificate:           connected   refused  unconfirmed  expired      grace over
        State.VOID:             Told(note,       note,    note,        note,        note),
        State.ISSUED:           Told(plain.use,  note,    note,        keep_unused, note),
        State.ACTIVE:           Told(plain.use,  note,    note,        begin_grace, note),
        State.EXPIRED_UNUSED:   Told(note,       note,    note,        note,        end_grace),
        State.EXPIRED_GRACE:    Told(note,       note,    note,        note,        end_grace),
        State.EXPIRED_FINAL:    Told(note,       note,    note,        note,        note),
        State.SUPERSEDED:       Told(note,       note,    note,        note,        note),
        State.SUPERSEDED_ACKED: Told(note,       note,    note,        note,        note),
        State.DEAD:             Told(note,       note,    note,        note,        note),
        State.REVOKED:          Told(note,       note,    note,        note,        note),
    }),
)
# fmt: on

RULES: Mapping[ClientKind, Rules] = MappingProxyType({ClientKind.AGENT: AGENT, ClientKind.PLAIN: PLAIN})
