"""The life of a CA over every state and event, and what each state means."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import product

import pytest

from fleet.core import authority
from fleet.core.authority import AuthorityEvent, AuthorityRecord, AuthorityState, KeyKind, after, in_order
from fleet.errors import RefusedError
from fleet.model import Purpose

NOON = datetime(2030, 6, 1, 12, 0, tzinfo=UTC)
RECORD = AuthorityRecord(
    folder="prod/device-1",
    issuer="ab" * 20,
    realm="prod",
    purpose=Purpose.DEVICE,
    state=AuthorityState.ACTIVE,
    key=KeyKind.FILE,
    added_at=NOON,
    changed_at=NOON,
)
S, E = AuthorityState, AuthorityEvent
EXPECTED = {
    S.REQUESTED: {E.CERTIFIED: S.STANDBY, E.RETIRED: S.WITHDRAWN},
    S.WITHDRAWN: {E.RETIRED: S.WITHDRAWN},
    S.STANDBY: {E.ACTIVATED: S.ACTIVE, E.RETIRED: S.RETIRED, E.COMPROMISED: S.COMPROMISED},
    S.ACTIVE: {E.ACTIVATED: S.ACTIVE, E.STOPPED: S.RETIRING, E.COMPROMISED: S.COMPROMISED},
    S.RETIRING: {
        E.ACTIVATED: S.ACTIVE,
        E.STOPPED: S.RETIRING,
        E.RETIRED: S.RETIRED,
        E.COMPROMISED: S.COMPROMISED,
    },
    S.RETIRED: {E.RETIRED: S.RETIRED, E.COMPROMISED: S.COMPROMISED},
    S.COMPROMISED: {E.COMPROMISED: S.COMPROMISED},
}


@pytest.mark.parametrize(("state", "event"), list(product(S, E)))
def test_every_event_in_every_state_is_followed_or_refused(
    state: AuthorityState, event: AuthorityEvent
) -> None:
    record = replace(RECORD, state=state)
    expected = EXPECTED[state].get(event)
    if expected is None:
        with pytest.raises(RefusedError, match="prod/device-1"):
            after(record, event)
    else:
        assert after(record, event) is expected


def test_nothing_leads_back_from_compromise() -> None:
    assert {to for (state, _), to in authority.TRANSITIONS.items() if state is S.COMPROMISED} == {
        S.COMPROMISED
    }


def test_whoever_signs_is_admitted_and_whoever_is_admitted_has_lists() -> None:
    assert authority.ISSUES < authority.ADMITTED < authority.LISTED


def test_whoever_has_no_certificate_signs_nothing_and_is_believed_by_nobody() -> None:
    assert not authority.UNCERTIFIED & authority.LISTED
    assert {to for (state, _), to in authority.TRANSITIONS.items() if state is S.WITHDRAWN} == {S.WITHDRAWN}


def test_authorities_are_listed_by_realm_the_root_first_then_by_number() -> None:
    folders = ["prod", "prod/device-1", "prod/device-2", "prod/device-10", "prod/root-2"]
    records = [replace(RECORD, folder=folder) for folder in reversed(folders)]
    assert [record.folder for record in sorted(records, key=in_order)] == folders


def test_only_a_device_ca_is_of_a_domain() -> None:
    assert RECORD.domain == "prod"
    assert replace(RECORD, purpose=Purpose.CLAIM, realm="bootstrap").domain == ""
    assert replace(RECORD, purpose=Purpose.AUTHORITY).is_root
